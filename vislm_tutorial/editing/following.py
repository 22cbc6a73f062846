"""What all edits share: following the flow of a pipeline, and checking what is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._drawing import at_least_one, checked_prompts
from ..fusion.networks import ProjectorFusion
from ..generators import FlowGenerator
from ..generators.base import doubled
from ..generators.flow import TRAIN_TIMESTEPS
from ..pipeline import VisLMPipeline
from ..types import Condition, TimedCondition

STEPS = 25  # of every edit, unless told otherwise
GUIDANCE = 4.0


def flow_of(pipe: VisLMPipeline) -> FlowGenerator:
    family = pipe.generator
    if not isinstance(family, FlowGenerator):
        raise ValueError(
            f"this pipeline draws with a {type(family).__name__}; editing follows a flow's "
            "velocity, so load a pipeline whose generator is a FlowGenerator."
        )
    return family


def noise_levels(pipe: VisLMPipeline, steps: int, start: float = 1.0) -> list[float]:
    """Noise levels from `start` down to 0: those of `steps` from 1 that are shifted as the pipe's.

    Equally spaced s becomes m s / (1 + (m - 1) s) (Esser et al. 2024, eq. 23). From a lower start
    the steps are as long and so fewer.
    """
    flow_of(pipe)
    config = pipe.scheduler.config
    shift = config.get("shift", config.get("flow_shift", 1.0))
    steps = at_least_one(steps, "num_inference_steps")
    straight = start / (shift - (shift - 1) * start)  # which the shift moves to `start`
    count = math.ceil(steps * straight)
    spaced = [straight * (1 - i / count) for i in range(count + 1)]
    return [shift * s / (1 + (shift - 1) * s) for s in spaced]


def picture_size(pipe: VisLMPipeline) -> tuple[int, int]:
    """Height and width of the pictures that a pipeline draws, in pixels."""
    family = flow_of(pipe)
    _, height, width = family.grid
    cell = 1 if family.autoencoder is None else family.autoencoder.downsampling
    return height * cell, width * cell


def one_each(text: str | Sequence[str], number: int) -> list[str]:
    """One text for all pictures, or one a picture, as a list of one a picture."""
    texts = checked_prompts(text)
    if len(texts) not in (1, number):
        raise ValueError(
            f"there are {len(texts)} captions or words for {number} pictures; expected one, or "
            f"{number}."
        )
    return texts * (number // len(texts))


def conditions(
    pipe: VisLMPipeline, caption: str | Sequence[str], number: int
) -> tuple[Condition | TimedCondition, Condition | TimedCondition]:
    """Those of `number` captions, and that of the empty one."""
    return pipe.encode_prompt(one_each(caption, number))


def tokenwise(
    pipe: VisLMPipeline, caption: str | Sequence[str], number: int
) -> tuple[Condition, Condition]:
    """The same of a pipeline in which attention to a token is attention to a word."""
    flow_of(pipe)
    if not isinstance(pipe.fusion, ProjectorFusion):
        raise ValueError(
            f"this pipeline's fusion is a {type(pipe.fusion).__name__}, whose tokens are not those "
            "of the caption, so no word has attention of its own; expected a ProjectorFusion."
        )
    return conditions(pipe, caption, number)


def latents_of(pipe: VisLMPipeline, image: Tensor) -> Tensor:
    """(B, 3, H, W) pictures in [-1, 1] as the backbone sees them, (B, C, h, w)."""
    height, width = picture_size(pipe)
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1:] != (3, height, width) or not image.is_floating_point():
        raise ValueError(
            f"image is {image.dtype} of shape {shape}; expected floats in [-1, 1] of shape "
            f"(B, 3, {height}, {width}), as this pipeline draws them. One picture is image[None]."
        )
    return flow_of(pipe).prepare(image.to(pipe.device, pipe.fusion.dtype))


def check_noise(pipe: VisLMPipeline, noise: Tensor) -> None:
    expected = flow_of(pipe).grid
    if noise.ndim != 4 or tuple(noise.shape[1:]) != expected:
        raise ValueError(
            f"noise has shape {tuple(noise.shape)}; expected (B, {', '.join(map(str, expected))})."
        )


def decoded(pipe: VisLMPipeline, x: Tensor) -> Tensor:
    autoencoder = flow_of(pipe).autoencoder
    return x.clamp(-1, 1) if autoencoder is None else autoencoder.decode(x)


def noised(x0: Tensor, noise: Tensor, level: float) -> Tensor:
    return (1 - level) * x0 + level * noise


def velocity(
    pipe: VisLMPipeline,
    x: Tensor,
    level: float,
    condition: Condition | TimedCondition,
    scale: float = 1.0,
) -> Tensor:
    """At x (B, C, h, w) and sigma = `level`; with a scale of not 1 the condition is `doubled`."""
    timestep = torch.tensor(TRAIN_TIMESTEPS * level, device=x.device, dtype=torch.float32)
    return flow_of(pipe).velocity(x, timestep, condition, scale)


def follow(
    pipe: VisLMPipeline,
    x: Tensor,
    levels: Sequence[float],
    condition: Condition | TimedCondition,
    empty: Condition | TimedCondition,
    scale: float,
) -> Tensor:
    """x (B, C, h, w) from the first of `levels` to the last, by Euler's steps."""
    condition = doubled(condition, empty, scale)
    for high, low in zip(levels, levels[1:], strict=False):
        x = x + (low - high) * velocity(pipe, x, high, condition, scale)
    return x


def checked_strength(strength: float) -> float:
    if not 0 < strength <= 1:
        raise ValueError(
            f"strength is {strength}; expected a noise level above 0 and up to 1, say 0.7."
        )
    return float(strength)


def checked_mask(mask: Tensor, number: int, size: tuple[int, int]) -> Tensor:
    """(H, W) or (B, H, W) of any kind -> bool (1 or B, 1, H, W)."""
    if tuple(mask.shape) not in (size, (1, *size), (number, *size)):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; expected that of the picture, {size}, "
            f"or one a picture, {(number, *size)}."
        )
    inside = (mask > 0.5).reshape(-1, 1, *size)
    if not inside.flatten(1).any(dim=1).all():
        raise ValueError("mask is empty: no pixel is True, so there is nothing to draw. Mark some.")
    return inside


def free_cells(inside: Tensor, like: Tensor) -> Tensor:
    """The cells of latents (B, C, h, w) that a mask (1 or B, 1, H, W) touches."""
    return F.adaptive_max_pool2d(inside.float(), like.shape[-2:]).bool().to(like.device)


def is_picture(pipe: VisLMPipeline, x: Tensor) -> bool:
    """Whether x is pictures rather than noise; a flow of pixels has one shape for both."""
    noise = flow_of(pipe).grid
    if noise == (3, *picture_size(pipe)):
        return bool(x.abs().max() <= 1)
    return tuple(x.shape[1:]) != noise
