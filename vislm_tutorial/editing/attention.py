"""Edits by what a picture looks at: masks from words, and words exchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Attention
from ..evaluation.attention import attention_weights, watch_attention
from ..generators.base import doubled
from ..generators.noise import Generators, normal
from ..losses import guided
from ..pipeline import VisLMPipeline
from .following import (
    GUIDANCE,
    STEPS,
    check_noise,
    checked_mask,
    checked_strength,
    decoded,
    free_cells,
    is_picture,
    latents_of,
    noise_levels,
    noised,
    one_each,
    picture_size,
    tokenwise,
    velocity,
)
from .redrawing import invert
from .words import alignment, tokens_of


@torch.no_grad()
def mask_of_words(
    pipe: VisLMPipeline,
    image: Tensor,
    caption: str | Sequence[str],
    words: str | Sequence[str],
    *,
    levels: Sequence[float] = (0.5, 0.6, 0.7),
    threshold: str | float | None = "otsu",
    generator: Generators = None,
) -> Tensor:
    """Where a picture looks at words of its caption: a mask for `inpaint`.

    The picture is noised, and the cross-attention to the words' tokens read from one call of the
    backbone a level (Tang et al. 2023, DAAM; of a given picture as in Couairon et al. 2023,
    DiffEdit).

    Args:
        image: (B, 3, H, W) in [-1, 1].
        caption: what the pictures show, one for all or B.
        words: whole words of the caption, one for all or B.
        levels: noise levels in (0, 1] that are averaged.
        threshold: "otsu": where the values fall apart best into two (Otsu 1979). A share in (0, 1):
            so much of the picture, where most is looked. None: the map itself, from 0 to 1.
        generator: of the noise.

    Returns:
        (H, W) float in [0, 1] of one picture, else (B, H, W); 0 or 1 with a threshold.

    Raises:
        ValueError: for words that are not in the caption, a threshold or level out of its range, a
            fusion that does not keep tokens apart, and as `redraw` does.
    """
    if threshold not in ("otsu", None) and not 0 < float(threshold) < 1:
        raise ValueError(
            f"threshold is {threshold!r}; expected 'otsu', None or a share between 0 and 1."
        )
    levels = [checked_strength(level) for level in levels]
    x0 = latents_of(pipe, image)
    condition, _ = tokenwise(pipe, caption, len(x0))
    captions, phrases = (one_each(v, len(x0)) for v in (caption, words))
    tokens = [tokens_of(pipe.encoder, c, w) for c, w in zip(captions, phrases, strict=True)]
    with watch_attention(pipe.backbone) as seen:
        for level in levels:
            noisy = noised(x0, normal(x0.shape, generator, x0), level)
            velocity(pipe, noisy, level, condition)
    maps = seen.maps(len(x0)).float().mean(dim=0)  # (calls, B, M, h, w) -> (B, M, h, w)
    looked = torch.stack([m[list(t)].sum(dim=0) for m, t in zip(maps, tokens, strict=True)])
    size = tuple(image.shape[-2:])
    looked = F.interpolate(looked[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    low, high = (f(looked, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
    looked = (looked - low) / (high - low).clamp(min=1e-9)
    if threshold is not None:
        looked = torch.stack([(m > _cut(m, threshold)).float() for m in looked])
    return looked[0] if len(looked) == 1 else looked


def _cut(values: Tensor, threshold: str | float) -> float:
    """The value above which a map (H, W) with values in [0, 1] is True."""
    if threshold != "otsu":
        return values.flatten().quantile(1 - float(threshold)).item()
    share = values.histc(256, 0, 1) / values.numel()
    middles = (torch.arange(256) + 0.5) / 256
    below = share.cumsum(dim=0)
    mean_below, mean = (share * middles).cumsum(dim=0), (share * middles).sum()
    between = (mean * below - mean_below).square() / (below * (1 - below)).clamp(min=1e-9)
    return (between.argmax().item() + 1) / 256  # Otsu 1979, eq. 18


@torch.no_grad()
def swap(
    pipe: VisLMPipeline,
    image_or_noise: Tensor,
    source_caption: str | Sequence[str],
    target_caption: str | Sequence[str],
    *,
    cross_share: float = 0.5,
    self_share: float = 0.8,
    mask: Tensor | None = None,
    source_guidance_scale: float | None = None,
    iterations: int = 1,
    guidance_scale: float = GUIDANCE,
    num_inference_steps: int = STEPS,
) -> Tensor:
    """Exchange words and keep the layout: prompt-to-prompt (Hertz et al. 2023, arXiv 2208.01626).

    Both captions are drawn from the same noise side by side. In the first steps the target looks
    where the source looks: its attention has the source's weights and its own values.

    Args:
        image_or_noise: pictures (B, 3, H, W) in [-1, 1], which are inverted first; or the noise
            (B, C, h, w) of a drawing. In a flow of pixels, where both have one shape, what stays
            within [-1, 1] is a picture.
        source_caption: what the pictures show, one for all or B.
        target_caption: the same with other words in the place of some, one for all or B.
        cross_share: of the steps in which the attention to the caption is the source's, in [0, 1].
        self_share: of those in which that of cells to each other is; more keeps more shape.
        mask: as for `inpaint`: outside, the target's latents are the source's in each step.
        source_guidance_scale: of the source's drawing. None: 1 for pictures, as they are
            inverted; for noise that of the target.
        iterations: of the inversion of pictures, as for `invert`.

    Returns:
        The target's pictures, (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: if the captions differ in their number of words, for a share outside [0, 1], a
            fusion that does not keep tokens apart, a backbone without cross-attention, and as
            `inpaint` and `invert` do.
    """
    for name, share in (("cross_share", cross_share), ("self_share", self_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; expected a share of the steps, from 0 to 1.")
    picture = is_picture(pipe, image_or_noise)
    number = len(image_or_noise)
    old, empty = tokenwise(pipe, source_caption, number)
    new, _ = tokenwise(pipe, target_caption, number)
    captions = zip(one_each(source_caption, number), one_each(target_caption, number), strict=True)
    matrices = [alignment(pipe.encoder, *pair) for pair in captions]
    levels = noise_levels(pipe, num_inference_steps)
    if picture:
        options = {"num_inference_steps": num_inference_steps, "iterations": iterations}
        x = invert(pipe, image_or_noise, source_caption, **options)
    else:
        check_noise(pipe, image_or_noise)
        x = image_or_noise.to(old.device, old.dtype)
    free = torch.ones_like(x[:, :1], dtype=torch.bool)
    if mask is not None:
        free = free_cells(checked_mask(mask, number, picture_size(pipe)), x).expand_as(free)
    if source_guidance_scale is None:
        source_guidance_scale = 1.0 if picture else guidance_scale
    scales = torch.tensor([source_guidance_scale, guidance_scale]).to(x)
    scales = scales.repeat_interleave(number)[:, None, None, None]  # (2 B, 1, 1, 1)
    condition = doubled(old.cat([old, new]), empty, scale=math.nan)  # whatever the scales are
    x = torch.cat([x, x])  # (B, C, h, w) -> (2 B, C, h, w): the sources, then the targets
    with _source_attention(pipe.backbone, matrices, old.dtype, x.device) as given:
        for step, (high, low) in enumerate(zip(levels, levels[1:], strict=False)):
            done = step / (len(levels) - 1)
            given.cross, given.own = done < cross_share, done < self_share
            both = velocity(pipe, torch.cat([x, x]), high, condition)
            with_caption, without = both.chunk(2)
            x = x + (low - high) * guided(without, with_caption, scales)
            source, target = x.chunk(2)
            x = torch.cat([source, torch.where(free, target, source)])
    return decoded(pipe, x[number:])


@dataclass
class _Given:
    """Which attention takes the source's weights in the present step: `cross` or cells' `own`."""

    cross: bool = True
    own: bool = True


@contextmanager
def _source_attention(
    backbone: nn.Module, matrices: Sequence[Tensor], dtype: torch.dtype, device: torch.device
) -> Iterator[_Given]:
    """Within the block, rows B to 2 B - 1 of a batch look where rows 0 to B - 1 look.

    Args:
        matrices: B alignments, (M source tokens, M target tokens), of several sizes.
    """
    rows, columns = (max(m.shape[i] for m in matrices) for i in (0, 1))
    most = max(rows, columns)  # the conditions of both are padded to the longest of all
    padded = [F.pad(m, (0, most - m.shape[1], 0, most - m.shape[0])) for m in matrices]
    aligned = torch.stack(padded)[:, None].to(device, dtype)  # (B, 1, M, M)
    source, target = slice(0, len(matrices)), slice(len(matrices), 2 * len(matrices))
    given = _Given()

    def across(module: Attention, arguments: tuple, output: Tensor) -> Tensor | None:
        if not given.cross:
            return None
        x, context, mask = arguments
        weights = attention_weights(module, x[source], context[source], mask[source]) @ aligned
        return _with(module, output, weights, context)

    def within(module: Attention, arguments: tuple, output: Tensor) -> Tensor | None:
        if not given.own:
            return None
        (x,) = arguments
        return _with(module, output, attention_weights(module, x[source], x[source]), x)

    def _with(module: Attention, output: Tensor, weights: Tensor, context: Tensor) -> Tensor:
        """The output whose target rows mix their own values by the source's weights."""
        values = module.to_kv(context[target]).chunk(2, dim=-1)[1]
        values = values.unflatten(-1, (module.heads, -1)).transpose(1, 2)
        mixed = (weights @ values).transpose(1, 2).flatten(2)  # (B, heads, N, d) -> (B, N, D)
        return torch.cat([output[source], module.to_out(mixed), output[target.stop :]])

    with watch_attention(backbone):  # which refuses a backbone without cross-attention
        pass
    blocks = [m for m in backbone.modules() if isinstance(getattr(m, "attn2", None), Attention)]
    hooks = [block.attn2.register_forward_hook(across) for block in blocks]
    hooks += [block.attn1.register_forward_hook(within) for block in blocks]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()
