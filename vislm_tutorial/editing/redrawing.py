"""Edits that change where drawing begins, and what is given: SDEdit, inpainting, inversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._drawing import at_least_one
from ..generators.noise import Generators, normal
from ..pipeline import VisLMPipeline
from .following import (
    GUIDANCE,
    STEPS,
    check_noise,
    checked_mask,
    checked_strength,
    conditions,
    decoded,
    follow,
    free_cells,
    latents_of,
    noise_levels,
    noised,
    picture_size,
    velocity,
)


@torch.no_grad()
def redraw(
    pipe: VisLMPipeline,
    image: Tensor,
    caption: str | Sequence[str],
    *,
    strength: float,
    guidance_scale: float = GUIDANCE,
    num_inference_steps: int = STEPS,
    generator: Generators = None,
) -> Tensor:
    """SDEdit (Meng et al. 2022, arXiv 2108.01073): noise a picture, draw on from there.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        caption: one for all pictures, or B.
        strength: the noise level sigma in (0, 1] from which is drawn: what is larger than the noise
            hides stays, and 1 forgets the picture.
        num_inference_steps: from sigma = 1; below `strength` there are as many fewer.
        generator: of the noise.

    Returns:
        (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: for a strength outside (0, 1], a picture of another size, another number of
            captions, or a pipeline that is no flow.
    """
    levels = noise_levels(pipe, num_inference_steps, checked_strength(strength))
    x0 = latents_of(pipe, image)
    condition, empty = conditions(pipe, caption, len(x0))
    x = noised(x0, normal(x0.shape, generator, x0), levels[0])
    return decoded(pipe, follow(pipe, x, levels, condition, empty, guidance_scale))


@torch.no_grad()
def inpaint(
    pipe: VisLMPipeline,
    image: Tensor,
    mask: Tensor,
    caption: str | Sequence[str],
    *,
    strength: float = 1.0,
    rounds: int = 1,
    paste: bool = True,
    guidance_scale: float = GUIDANCE,
    num_inference_steps: int = STEPS,
    generator: Generators = None,
) -> Tensor:
    """Draw what is inside a mask; what is outside is given (Lugmayr et al. 2022, RePaint, eq. 8).

    After each step the latents outside are replaced by the picture's own, noised to that step's
    level. The caption should tell the whole picture: it is read for the whole of it.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        mask: (H, W) or (B, H, W), True or above 0.5 where is to be drawn. A cell of the latents is
            drawn if it has one such pixel.
        caption: one for all pictures, or B.
        strength: the noise level in (0, 1] to which the inside is noised. Below 1 the new thing
            stands where the old one stood; 1 knows nothing of the old one.
        rounds: 1 or more; in each step noise is added again and taken away `rounds` - 1 times, so
            that inside and outside agree (RePaint's algorithm 1, U = rounds).
        paste: give the pixels outside the mask back as they were; else they are as the autoencoder
            makes them, and those of a cell that the mask touches are drawn.

    Returns:
        (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: for a mask of another size or an empty one, and as `redraw` does.
    """
    levels = noise_levels(pipe, num_inference_steps, checked_strength(strength))
    x0, inside = latents_of(pipe, image), checked_mask(mask, len(image), picture_size(pipe))
    rounds = at_least_one(rounds, "rounds")
    free = free_cells(inside, x0)
    condition, empty = conditions(pipe, caption, len(x0))

    def fresh() -> Tensor:
        return normal(x0.shape, generator, x0)

    noise = fresh()
    x = noised(x0, noise, levels[0])
    for high, low in zip(levels, levels[1:], strict=False):
        for number in range(rounds):
            if number:  # back up, from x_low to x_high: the data keeps (1 - high) / (1 - low)
                share = (1 - high) / (1 - low)
                added = (high**2 - (share * low) ** 2) ** 0.5
                x = share * x + added * fresh()
            x = follow(pipe, x, (high, low), condition, empty, guidance_scale)
            x = torch.where(free, x, noised(x0, noise, low))
    drawn = decoded(pipe, x)
    return torch.where(inside.to(drawn.device), drawn, image.to(drawn)) if paste else drawn


def grown(mask: Tensor, pixels: int) -> Tensor:
    """(..., H, W) bool: a mask with `pixels` more on each side, 0 or more."""
    if pixels < 0:
        raise ValueError(f"pixels is {pixels}; expected 0 or more.")
    flat = (mask > 0.5).float().flatten(0, -3)[:, None] if mask.ndim > 2 else mask[None, None]
    wide = F.max_pool2d((flat > 0.5).float(), 2 * pixels + 1, stride=1, padding=pixels)
    return wide.reshape(mask.shape).bool()


@torch.no_grad()
def invert(
    pipe: VisLMPipeline,
    image: Tensor,
    caption: str | Sequence[str],
    *,
    strength: float = 1.0,
    num_inference_steps: int = STEPS,
    iterations: int = 3,
) -> Tensor:
    """The noise from which `draw_from`, with this caption and guidance 1, draws this picture.

    Song et al. 2021 (DDIM) run the equation backwards and take the velocity at the step's low end;
    drawing takes it at the high end. Here that end is found by iteration (Pan et al. 2023, AIDI):
    x_high = x_low + (high - low) v(x_high, high), so each step is undone, not only nearly.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        caption: what the pictures show: one for all, or B.
        strength: the noise level in (0, 1] up to which the equation is followed; below 1 what comes
            out is picture and noise mixed, and a changed caption finds more of the picture in it.
        num_inference_steps: those of `draw_from`, and so is `strength`.
        iterations: of each step, 1 or more; 1 is DDIM's inversion. More bring the picture back more
            exactly. How loud the noise is that is found depends on it: it need not have variance 1.

    Returns:
        (B, C, h, w).

    Raises:
        ValueError: for a picture of another size, another number of captions, or a pipeline that is
            no flow.
    """
    levels = noise_levels(pipe, num_inference_steps, checked_strength(strength))
    x = latents_of(pipe, image)
    condition, _ = conditions(pipe, caption, len(x))
    iterations = at_least_one(iterations, "iterations")
    for low, high in zip(levels[::-1], levels[-2::-1], strict=False):
        guess = x
        for _ in range(iterations):
            guess = x + (high - low) * velocity(pipe, guess, high, condition)
        x = guess
    return x


@torch.no_grad()
def draw_from(
    pipe: VisLMPipeline,
    noise: Tensor,
    caption: str | Sequence[str],
    *,
    strength: float = 1.0,
    guidance_scale: float = GUIDANCE,
    num_inference_steps: int = STEPS,
) -> Tensor:
    """Draw from given noise (B, C, h, w), without any other chance: (B, 3, H, W) in [-1, 1].

    Args:
        noise: from `invert`, or normal.
        caption: one for all, or B.
        strength: the noise level that `noise` has, in (0, 1].
        guidance_scale: 1 gives back what was inverted, if the caption is the same.

    Raises:
        ValueError: for noise of another shape, another number of captions, or a pipeline that is no
            flow.
    """
    check_noise(pipe, noise)
    condition, empty = conditions(pipe, caption, len(noise))
    levels = noise_levels(pipe, num_inference_steps, checked_strength(strength))
    noise = noise.to(condition.device, condition.dtype)
    return decoded(pipe, follow(pipe, noise, levels, condition, empty, guidance_scale))
