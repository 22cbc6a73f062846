"""What may be asked of a served model, and the drawing itself: the service and the app share both.

The pipeline accepts whatever fits into memory, which is right for its owner; a stranger gets
limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .._drawing import check_number, checked_settings
from ..generators import FlowGenerator

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline import VisLMPipeline


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for. Time and memory of a request follow from these."""

    captions: int = 4
    images_per_caption: int = 4
    caption_characters: int = 300
    steps: int = 80
    guidance_scale: float = 20.0
    seed: int = 2**31 - 1


@dataclass(frozen=True)
class DrawRequest:
    """What one user wants.

    Attributes:
        captions: at least one; "" draws whatever comes.
        images_per_caption: they follow each other: all of the first caption, then the next.
        steps, guidance_scale: None takes the pipeline's own.
        seed: picture i is drawn with seed + i, so a picture can be asked for again by itself.
        limits: what is allowed.

    Raises:
        ValueError: naming the field, its value, and the limit.
    """

    captions: tuple[str, ...]
    images_per_caption: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    limits: Limits = field(default_factory=Limits, repr=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._require("captions", len(self.captions), 1, limits.captions)
        for caption in self.captions:
            self._require("characters of a caption", len(caption), 0, limits.caption_characters)
        self._require("images_per_caption", self.images_per_caption, 1, limits.images_per_caption)
        self._require("seed", self.seed, 0, limits.seed)
        if self.steps is not None:
            self._require("steps", self.steps, 1, limits.steps)
        if self.guidance_scale is not None:
            self._require("guidance_scale", self.guidance_scale, 0, limits.guidance_scale)

    @staticmethod
    def _require(name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:  # as it is written, NaN is refused too
            raise ValueError(f"{name}: {value}; expected {least:g} to {most:g}.")

    @property
    def seeds(self) -> list[int]:
        """One a picture, in the order of the pictures."""
        return [self.seed + i for i in range(len(self.captions) * self.images_per_caption)]


def check(pipe: VisLMPipeline, request: DrawRequest) -> None:
    """Whether a pipeline can draw a request, before anything is drawn.

    Raises:
        ValueError: naming a setting that its family of generators does not have, or too many
            pictures for one call.
    """
    checked_settings(pipe.generator, _settings(request))
    check_number(len(request.seeds))


def _settings(request: DrawRequest) -> dict[str, float]:
    """What was asked for by the pipeline's names."""
    asked = {"guidance_scale": request.guidance_scale, "num_inference_steps": request.steps}
    return {name: value for name, value in asked.items() if value is not None}


class Cancelled(Exception):
    """Nobody waits for the pictures any more."""


def draw(
    pipe: VisLMPipeline, request: DrawRequest, cancelled: Callable[[], bool] = lambda: False
) -> list[Image.Image]:
    """The pictures of a request.

    Args:
        cancelled: asked after every step of a flow; other generators cannot be stopped half-way.

    Raises:
        Cancelled: if `cancelled` said so.
        TypeError, ValueError: as the pipeline.
    """

    def after_step(_pipe, _step, _timestep, _values) -> dict:
        if cancelled():
            raise Cancelled
        return {}

    options: dict[str, Any] = _settings(request)
    if isinstance(pipe.generator, FlowGenerator):
        options["callback_on_step_end"] = after_step
    return pipe(
        list(request.captions),
        num_images_per_prompt=request.images_per_caption,
        generator=[torch.Generator().manual_seed(seed) for seed in request.seeds],
        **options,
    ).images


def notes(pipe: VisLMPipeline, request: DrawRequest) -> list[str]:
    """What the user should know: which captions are longer than the model reads."""
    most = pipe.encoder.max_length
    ids = pipe.encoder.tokenizer(list(request.captions), verbose=False)["input_ids"]
    return [
        f"Only the first {most} of {len(kept)} tokens were read of: {caption[:40]}..."
        for caption, kept in zip(request.captions, ids, strict=True)
        if len(kept) > most
    ]
