"""The last stage's model: a fusion and a generator, how they are judged and shown in training."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .. import registry
from ..data.images import grid
from ..encoders import CachedEncoder, TextEncoder, TokenReader
from ..encoders.learning import LearningEncoder
from ..fusion import build_fusion
from ..generators import Autoencoder, Generator, build_generator
from ..types import Condition, TextStates, TimedCondition
from .autoencoding import BUNDLED
from .datasets import as_batch

if TYPE_CHECKING:
    from .recipe import Recipe

SAMPLE_GUIDANCE = 3.0  # guidance scale of the pictures drawn during training


class TextToImage(nn.Module):
    """What the last stage trains: a fusion and a generator under the generator's own loss.

    Args:
        encoder: where the language model learns too; "states" are then those of a `TokenReader`.
    """

    def __init__(
        self, fusion: nn.Module, generator: Generator, encoder: LearningEncoder | None = None
    ):
        super().__init__()
        self.fusion = fusion
        self.generator = generator
        self.encoder = encoder

    def condition(self, states: TextStates) -> Condition | TimedCondition:
        """What the generator receives for B captions."""
        return self.fusion(states if self.encoder is None else self.encoder(states))

    def forward(self, batch: dict, generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss of `{"pictures": as Generator.prepare gives them, "states": TextStates}`."""
        condition = self.condition(batch["states"])
        return self.generator.prepared_loss(batch["pictures"], condition, generator)


def build_model(
    recipe: Recipe, encoder: TextEncoder, autoencoder: Autoencoder | None
) -> TextToImage:
    """Fusion and generator with fresh weights, drawn from the recipe's seed.

    Where the recipe lets the encoder learn, its model is a part of the result.

    Raises:
        ValueError: as `build_generator`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        fusion = build_fusion(recipe.fusion, encoder.width)
        generator = build_generator(
            recipe.generator, recipe.data.image_size, autoencoder, recipe.fusion.width
        )
    return TextToImage(
        fusion, generator, LearningEncoder(encoder) if recipe.encoder.learns else None
    )


def load_weights(model: TextToImage, source: str) -> None:
    """Give a flow the fusion and backbone of a trained pipeline, to go on from them.

    Args:
        model: of the same shape.
        source: "bundled", or the folder of a pipeline or of a finished run.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its networks have another shape.
        registry.AssetError: if it is the bundled one, and this installation has none.
    """
    base = registry.find("scenes-weights") if source == BUNDLED else Path(source).expanduser()
    base = base / "pipeline" if (base / "pipeline").is_dir() else base
    for name in ("fusion", "backbone"):
        part: ModelMixin = model.fusion if name == "fusion" else model.generator.backbone
        if not (base / name / part.config_name).is_file():
            raise FileNotFoundError(
                f"There is no trained {name} in {base}; expected the folder of a pipeline or of a "
                f"finished run, or {BUNDLED!r}."
            )
        ours = {"_class_name": type(part).__name__} | json.loads(part.to_json_string())
        theirs = part.load_config(base / name)
        for argument in inspect.signature(type(part)).parameters.values():
            theirs.setdefault(argument.name, argument.default)  # younger than the file
        other = [key for key in ours if key[:1] != "_" or key == "_class_name"]
        other = [key for key in other if theirs.get(key) != ours[key]]
        if other:
            raise ValueError(
                f"The {name} in {base} has { {key: theirs.get(key) for key in other} }, the recipe "
                f"asks for { {key: ours[key] for key in other} }; make them equal."
            )
        part.load_state_dict(type(part).from_pretrained(base / name).float().state_dict())


def validation_loss(
    pictures: Tensor, captions: list[str], encoder: CachedEncoder | TokenReader
) -> Callable[[TextToImage], dict[str, float]] | None:
    """The loss on B prepared pictures with their captions, always with the same noise.

    None if there are none.
    """
    if not captions:
        return None
    states = encoder.encode(captions)

    @torch.no_grad()
    def validate(model: TextToImage) -> dict[str, float]:
        device = next(model.parameters()).device
        batch = {"pictures": as_batch(pictures).to(device), "states": states.to(device)}
        return {"loss": model(batch, torch.Generator(device).manual_seed(0)).item()}

    return validate


def sampler(
    autoencoder: Autoencoder | None, encoder: CachedEncoder | TokenReader, captions: list[str]
) -> Callable[[TextToImage, Path], None]:
    """Draws a picture a caption, always from the same noise, into one PNG."""
    states, empty = encoder.encode(captions), encoder.encode([""])

    def sample(model: TextToImage, path: Path) -> None:
        device = next(model.parameters()).device
        generator = model.generator.behind(autoencoder)
        condition, options = model.condition(states.to(device)), {}
        if generator.guided:
            options["unconditional"] = model.condition(empty.to(device))
            options["guidance_scale"] = SAMPLE_GUIDANCE
        seeded = torch.Generator().manual_seed(0)
        grid(generator.sample(condition, generator=seeded, **options), columns=8).save(path)

    return sample
