"""Scene -> picture: an anti-aliased renderer that draws a whole batch at once.

Every shape is a signed distance function: negative inside, positive outside, in pixels near the
edge. A pixel's coverage is that distance clamped to a ramp one pixel wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .scenes import BACKGROUNDS, COLOURS, SHAPES, STRIPE_PERIOD, STRIPE_SHADE, STROKE, Scene


def _circle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.hypot(x, y) - r


def _square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.88 * r


def _triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    y = y - 0.3 * r  # the box is centred, so the centroid lies lower
    slanted = math.cos(math.radians(30)) * x.abs() - 0.5 * y
    return torch.maximum(slanted, y) - 0.6 * r


def _diamond(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return (x.abs() + y.abs() - 1.18 * r) * math.sqrt(0.5)


def _star(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    outer, inner = 1.2, 0.55
    y = y - 0.6 * (1 - math.cos(math.radians(36))) * r  # centre the box
    # Fold the plane into one half of one arm, then measure to that arm's single edge.
    sector = math.radians(72)
    angle = torch.atan2(x, -y)
    angle = (angle - sector * torch.round(angle / sector)).abs()
    radius = torch.hypot(x, y)
    along, across = radius * angle.cos(), radius * angle.sin()
    edge = (inner * math.cos(sector / 2) - outer, inner * math.sin(sector / 2))
    length = math.hypot(*edge)
    return ((along - outer * r) * edge[1] - across * edge[0]) / length


def _cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 1.06 * r, short - 0.42 * r)


_DISTANCE = dict(zip(SHAPES, (_circle, _square, _triangle, _diamond, _star, _cross), strict=True))


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance from points to a shape centred at the origin.

    Args:
        shape: one of `scenes.SHAPES`.
        x, y: coordinates in pixels, broadcastable to one shape; y grows downwards.
        radius: in pixels, broadcastable likewise.

    Returns:
        The distance in pixels, negative inside; exact to within a fraction of a pixel at the edge.
    """
    return _DISTANCE[shape](x, y, radius)


def covered(distance: Tensor) -> Tensor:
    """Part of each pixel that lies inside, in [0, 1]; distances in pixels, any shape."""
    return (0.5 - distance).clamp(0, 1)


def outline(distance: Tensor, radius: Tensor) -> Tensor:
    """The same for a hollow shape: a band of `STROKE` radii within the edge."""
    return covered(distance) - covered(distance + STROKE * radius)


def stripes(y: Tensor, radius: Tensor) -> Tensor:
    """Brightness of a striped shape, 1 or `STRIPE_SHADE`; `y` in pixels from the centre."""
    phase = (y / (STRIPE_PERIOD * radius) + 0.25) % 1.0  # a light band lies over the centre
    dark = covered(((phase - 0.75).abs() - 0.25) * STRIPE_PERIOD * radius)
    return 1 - (1 - STRIPE_SHADE) * dark


def _colour(rgb: tuple[int, int, int]) -> list[float]:
    return [c / 127.5 - 1 for c in rgb]


def render(scenes: Sequence[Scene], image_size: int = 64) -> Tensor:
    """Draw scenes.

    Args:
        scenes: B scenes.
        image_size: side in pixels, 16 or more; the book uses 32, 64 and 128.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    if image_size < 16:
        raise ValueError(f"image_size is {image_size}; shapes are not readable below 16 pixels.")
    background = torch.tensor([_colour(BACKGROUNDS[s.background]) for s in scenes]).reshape(-1, 3)
    canvas = background.repeat_interleave(image_size**2, dim=0)  # (B * H * W, 3)
    for shape in SHAPES:
        found = [(i, o) for i, s in enumerate(scenes) for o in s.objects if o.shape == shape]
        if found:
            _draw(canvas, background, shape, found, image_size)
    images = canvas.reshape(len(scenes), image_size, image_size, 3)
    return images.permute(0, 3, 1, 2).contiguous()


def _draw(canvas: Tensor, background: Tensor, shape: str, found: list, image_size: int) -> None:
    """Add all objects of one shape to `canvas`, in place. Objects of a scene never overlap."""
    index = torch.tensor([i for i, _ in found])
    objects = [o for _, o in found]
    x, y, r = (
        torch.tensor([getattr(o, k) for o in objects]).mul(image_size)[:, None, None]
        for k in ("x", "y", "radius")
    )
    half = math.ceil(1.25 * float(r.max())) + 2  # only a window around each centre is touched
    steps = torch.arange(-half, half + 1)
    column = x.floor().long() + steps[None, None, :]  # (N, 1, window)
    row = y.floor().long() + steps[None, :, None]  # (N, window, 1)
    dx, dy = column + 0.5 - x, row + 0.5 - y
    distance = signed_distance(shape, dx, dy, r)  # (N, window, window)

    hollow, striped = (
        torch.tensor([o.fill == fill for o in objects])[:, None, None]
        for fill in ("hollow", "striped")
    )
    coverage = torch.where(hollow, outline(distance, r), covered(distance))
    shade = torch.where(striped, stripes(dy, r), 1.0).expand_as(distance)

    inside = (column >= 0) & (column < image_size) & (row >= 0) & (row < image_size)
    n, i, j = (inside & (coverage > 0)).nonzero(as_tuple=True)
    colour = torch.tensor([_colour(COLOURS[o.colour]) for o in objects])
    rgb = (colour[n] + 1) * shade[n, i, j, None] - 1  # shading scales brightness, which is 0 at -1
    change = coverage[n, i, j, None] * (rgb - background[index[n]])
    pixel = (index[n] * image_size + row[n, i, 0]) * image_size + column[n, 0, j]
    canvas.index_add_(0, pixel, change)
