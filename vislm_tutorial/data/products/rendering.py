"""Product -> picture, by a renderer that can be differentiated in every measure.

A pixel's coverage is the signed distance to a part's path, clamped to a ramp one pixel wide, so it
moves smoothly with the measures. `viz.product_sheet` writes the same paths as SVG.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .parts import parts
from .world import BACKGROUND, COLOURS, KINDS, SCALES, Product

GROUND = 0.92  # height of the line that products stand on, as a fraction of the side from the top


def path_distance(points: Tensor, x: Tensor, y: Tensor, closed: bool) -> Tensor:
    """Signed distance to a path of straight pieces.

    Args:
        points: (B, S, 2) corners.
        x, y: (P,) places to measure from, in the same unit.
        closed: whether the last corner joins the first; the distance is negative inside.

    Returns:
        (B, P); for an open path never negative.
    """
    start = points if closed else points[:, :-1]
    end = points.roll(-1, dims=1) if closed else points[:, 1:]
    nearest, inside = None, None
    for i in range(start.shape[1]):  # piece by piece: (B, P) fits the cache, (B, S, P) does not
        (ax, ay), (bx, by) = (p[:, i, :, None].unbind(dim=1) for p in (start, end))
        px, py, ex, ey = x - ax, y - ay, bx - ax, by - ay
        along = ((px * ex + py * ey) / (ex * ex + ey * ey).clamp_min(1e-9)).clamp(0, 1)
        squared = (px - along * ex) ** 2 + (py - along * ey) ** 2
        nearest = squared if nearest is None else torch.minimum(nearest, squared)
        if closed:  # a ray to the right crosses the outline an odd number of times from inside
            crosses = ((ay > y) != (by > y)) & ((px * ey < py * ex) == (ey > 0))
            inside = crosses if inside is None else inside ^ crosses
    distance = nearest.clamp_min(1e-9).sqrt()
    return torch.where(inside, -distance, distance) if closed else distance


def layers(kind: str, measures: Tensor, image_size: int = 64, offset: Tensor | None = None):
    """How much of each pixel is background, and how much ink it holds.

    A picture in [0, 1] is light * background + ink * colour: linear in the colour, so a fit solves
    for the colour exactly. Arguments as in `draw`.

    Returns:
        light, ink: each (B, H, W) in [0, 1].
    """
    pixel = SCALES[kind] * 64 / image_size  # millimetres
    line = torch.arange(image_size, dtype=measures.dtype) + 0.5
    x = ((line - image_size / 2) * pixel).repeat(image_size)
    y = ((GROUND * image_size - line) * pixel).repeat_interleave(image_size)
    light = torch.ones(len(measures), image_size**2, dtype=measures.dtype)
    ink = torch.zeros_like(light)
    for part in parts(kind, measures):
        points = part.points() if offset is None else part.points() + offset[:, None]
        radius = torch.as_tensor(part.radius, dtype=measures.dtype).reshape(-1, 1)
        distance = path_distance(points, x, y, part.closed) - radius
        cover = (0.5 - distance / pixel).clamp(0, 1)
        light, ink = light * (1 - cover), ink * (1 - cover) + part.tone * cover
    return light.unflatten(1, (image_size, -1)), ink.unflatten(1, (image_size, -1))


def draw(
    kind: str,
    measures: Tensor,
    colour: Tensor,
    image_size: int = 64,
    offset: Tensor | None = None,
) -> Tensor:
    """Draw B products of one kind; differentiable in the measures, the colour and the offset.

    Args:
        kind: one of `products.KINDS`.
        measures: (B, M) in millimetres, in the order of `MEASURES[kind]`.
        colour: (B, 3) in [0, 1].
        image_size: side in pixels.
        offset: (B, 2) shift to the right and up, in millimetres; default: none.

    Returns:
        (B, 3, H, W) in [-1, 1].
    """
    light, ink = layers(kind, measures, image_size, offset)
    ground = torch.tensor(BACKGROUND, dtype=measures.dtype)[:, None, None] / 255
    return 2 * (light[:, None] * ground + ink[:, None] * colour[:, :, None, None]) - 1


@torch.no_grad()
def render(products: Sequence[Product], image_size: int = 64) -> Tensor:
    """Draw products.

    Args:
        products: B products, of any kinds.
        image_size: side in pixels, 32 or more.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}; products are not readable below 32 pixels.")
    images = torch.empty(len(products), 3, image_size, image_size)
    for kind in KINDS:
        found = [i for i, product in enumerate(products) if product.kind == kind]
        if found:
            measures = torch.tensor([products[i].measures for i in found])
            colour = torch.tensor([COLOURS[products[i].colour] for i in found]) / 255
            images[found] = draw(kind, measures, colour, image_size)
    return images
