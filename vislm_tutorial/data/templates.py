"""Least-squares comparison of picture windows with everything the renderer can draw.

A template predicts how a window differs from the ground b: paint * c - cover * b, where c is the
object's colour. For a fixed template the best c is linear, so the errors of all templates, shifts
and blurs come from one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .rendering import covered, outline, signed_distance, stripes
from .scenes import FILLS, SHAPES, SIZES

KINDS = [(shape, size) for shape in SHAPES for size in SIZES]
REACH = 1.0  # how far, in pixels, the templates are shifted each way
_BY_FILL = [int(fill == "hollow") for fill in FILLS]  # solid and striped share one cover
BLURS = (0.0, 0.015)  # generated pictures are soft: Gaussian, in sides


@dataclass(frozen=True)
class Match:
    """The best templates for N windows."""

    shape: list[str]
    size: list[str]
    fill: list[str]
    colour: Tensor  # (N, 3) RGB, [0, 1] up to overshoot
    shift: Tensor  # (N, 2) x, y of the centre from the middle of the window, in pixels
    unexplained: Tensor  # (N,) squared error that is left
    energy: Tensor  # (N,) squared difference from the ground


@dataclass(frozen=True)
class _Bank:
    """All templates for one picture side: T = blurs * shifts^2 * kinds, times fills."""

    shifts: Tensor  # (s,) pixels
    cover: Tensor  # (T * 2, w * w) coverage of the full and of the hollow shape
    paint: Tensor  # (T * 3, w * w) coverage times shade, by fill
    cover_cover: Tensor  # (T, 3) sums over the window of the products
    paint_cover: Tensor
    paint_paint: Tensor


def half_window(side: int) -> int:
    """A window of 2 * half + 1 pixels holds the largest shape at any shift."""
    return math.ceil(1.25 * max(SIZES.values()) * side + REACH) + 1


def match(windows: Tensor, ground: Tensor, side: int) -> Match:
    """Compare windows with all templates.

    Args:
        windows: (N, 3, w * w) RGB minus the ground, zero where a neighbour stands.
        ground: (N, 3) background colour in [0, 1].
        side: of the whole picture, in pixels.
    """
    bank = _bank(side)
    error, colour = _errors(bank, windows, ground)  # (N, T, 3), (N, T, 3, rgb)
    n, s, each = len(windows), len(bank.shifts), torch.arange(len(windows))
    best = error.flatten(1).argmin(dim=1)
    axes = (len(BLURS), s, s, len(KINDS), len(FILLS))
    blur, row, column, kind, fill = np.unravel_index(best.numpy(), axes)
    landscape = error.reshape(n, *axes)[each, blur, :, :, kind, fill]  # (N, s, s)
    shift, lowest = _refine(landscape, row, column)
    return Match(
        shape=[KINDS[k][0] for k in kind],
        size=[KINDS[k][1] for k in kind],
        fill=[FILLS[f] for f in fill],
        colour=colour.flatten(1, 2)[each, best],
        shift=bank.shifts[0] + (bank.shifts[1] - bank.shifts[0]) * shift,
        unexplained=lowest.clamp(min=0),
        energy=windows.square().sum(dim=(1, 2)),
    )


def _errors(bank: _Bank, windows: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of every template with its best colour, and that colour.

    The error of c is least at c = sum(paint * (d + cover * b)) / sum(paint^2), d the difference.
    """
    n, _, area = windows.shape
    along = torch.einsum("nca,nc->na", windows, ground)  # d . b
    painted = windows.reshape(-1, area) @ bank.paint.T  # (N * 3, T * 3)
    painted = painted.reshape(n, 3, -1, len(FILLS)).movedim(1, -1)  # (N, T, 3, rgb)
    covered = (along @ bank.cover.T).reshape(n, -1, 2)[..., _BY_FILL]  # (N, T, 3)
    b = ground[:, None, None, :]
    mixed = painted + bank.paint_cover[..., None] * b
    colour = mixed / bank.paint_paint[..., None]
    error = 2 * covered + b.square().sum(-1) * bank.cover_cover - (mixed * colour).sum(-1)
    return windows.square().sum(dim=(1, 2))[:, None, None] + error, colour


def _refine(landscape: Tensor, row: np.ndarray, column: np.ndarray) -> tuple[Tensor, Tensor]:
    """Parabolas through the best shift and its neighbours.

    Returns:
        (N, 2) x and y, counted in shifts, and (N,) the error there.
    """
    last, each = landscape.shape[1] - 1, torch.arange(len(landscape))
    lowest = landscape[each, row, column]
    found = []
    for at, line in ((column, landscape[each, row]), (row, landscape[each, :, column])):
        middle = np.clip(at, 1, last - 1)
        before, centre, after = (line[each, middle + k] for k in (-1, 0, 1))
        bend = (before - 2 * centre + after).clamp(min=1e-9)
        vertex = ((before - after) / (2 * bend)).clamp(-1.5, 1.5)
        lowest = lowest - (line[each, at] - centre + bend * vertex**2 / 2).clamp(min=0)
        found.append(torch.from_numpy(middle) + vertex)
    return torch.stack(found, dim=1), lowest


@lru_cache(maxsize=4)
def _bank(side: int) -> _Bank:
    shifts = torch.linspace(-REACH, REACH, 5 if side >= 48 else 9)  # small pictures need finer ones
    half = half_window(side)
    step = torch.arange(-half, half + 1.0)
    dy = (step - shifts[:, None])[:, None, None, :, None]  # (s, 1, 1, w, 1)
    dx = (step - shifts[:, None])[None, :, None, None, :]  # (1, s, 1, 1, w)
    r = torch.tensor(list(SIZES.values()))[:, None, None] * side  # (sizes, 1, 1)
    shade = stripes(dy, r)
    by_shape = []
    for shape in SHAPES:
        distance = signed_distance(shape, dx, dy, r)  # (s, s, sizes, w, w)
        full = covered(distance)
        paint = {"solid": full, "hollow": outline(distance, r), "striped": full * shade}
        by_shape.append(torch.stack([paint[fill] for fill in FILLS], dim=3))
    sharp = torch.cat(by_shape, dim=2).reshape(-1, 1, len(step), len(step))
    paint = torch.cat([blur(sharp, sigma * side) for sigma in BLURS])
    paint = paint.reshape(-1, len(FILLS), len(step) ** 2)  # (T, 3, w * w)
    cover = paint[:, _BY_FILL]
    return _Bank(
        shifts,
        paint[:, [_BY_FILL.index(0), _BY_FILL.index(1)]].flatten(0, 1),
        paint.flatten(0, 1),
        cover.square().sum(-1),
        (paint * cover).sum(-1),
        paint.square().sum(-1),
    )


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, 1, H, W); `sigma` in pixels, 0 for none."""
    if sigma == 0:
        return images
    reach = math.ceil(3 * sigma)
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / sigma) ** 2)
    weight = (weight / weight.sum())[None, None]
    images = functional.conv2d(images, weight[..., None], padding=(reach, 0))
    return functional.conv2d(images, weight[:, :, None], padding=(0, reach))
