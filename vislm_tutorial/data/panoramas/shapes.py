"""The landmarks of a panorama as small pictures with an opacity, ready to be laid over a landscape.

A landmark is a few flat figures on a wall that stands upright before the viewer: signed distances
in that plane, seen from the middle of the sphere. So its lines are straight in a viewer that turns
with the reader, and bulge a little in the flat picture, as in a photograph of this kind.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from .world import COLOURS, KINDS

ROWS = 128  # of the reference picture: lengths below are in its pixels
HALF_WIDTH = 26  # of a landmark's window; the widest landmark takes 22 to each side
ABOVE, BELOW = 44, 14  # rows of the window over and under the horizon
FOOT = 6.0  # a landmark's foot stands so far below the horizon
OVERSAMPLING = 2  # points a pixel and direction, on top of the distances' own soft edge

DARK, CREAM, WOOD, GLOW = (46, 42, 52), (244, 236, 218), (112, 74, 44), (255, 206, 96)
SHORES = {"meadow": (66, 122, 52), "desert": (196, 152, 92), "sea": (222, 200, 150)}
SHORES["snow"] = (196, 212, 236)
# What daylight, evening and moonlight leave of a colour: red, green, blue.
TINTS = {"noon": (1.0, 1.0, 1.0), "sunset": (0.98, 0.82, 0.76), "night": (0.80, 0.76, 0.86)}
# The same for the ground, which is darker so that landmarks stand out from it.
GROUND_TINTS = {
    "noon": (1.0, 1.0, 1.0),
    "sunset": (0.98, 0.74, 0.66),
    "night": (0.40, 0.44, 0.66),
}


def _box(x: Tensor, y: Tensor, left: float, right: float, low: float, high: float) -> Tensor:
    across = (x - (left + right) / 2).abs() - (right - left) / 2
    return torch.maximum(across, (y - (low + high) / 2).abs() - (high - low) / 2)


def _disc(x: Tensor, y: Tensor, cx: float, cy: float, radius: float) -> Tensor:
    return torch.hypot(x - cx, y - cy) - radius


def _gable(x: Tensor, y: Tensor, half: float, low: float, high: float) -> Tensor:
    """An upright triangle over |x| <= half, from `low` to its tip at `high`."""
    slope = math.hypot(half, high - low)
    slanted = ((high - low) * x.abs() + half * (y - high)) / slope
    return torch.maximum(slanted, low - y)


def _taper(x: Tensor, y: Tensor, foot: float, top: float, high: float) -> Tensor:
    """A wall from |x| <= foot at the ground to |x| <= top at the height `high`."""
    half = foot + (top - foot) * y / high
    return torch.maximum(x.abs() - half, (y - high / 2).abs() - high / 2)


class _Sheet:
    """A picture with an opacity on which figures are painted one over the other.

    `x`, `y` are the (H, W) places of its points, `scale` how many points long a length of one is
    there, `tint` the (3,) part of each colour that the light leaves.
    """

    def __init__(self, x: Tensor, y: Tensor, scale: Tensor, tint: Tensor):
        self.x, self.y, self.scale, self.tint = x, y, scale, tint
        self.rgb = torch.zeros(3, *x.shape)  # times the opacity
        self.alpha = torch.zeros(x.shape)

    def paint(
        self, distance: Tensor, rgb, shade: Tensor | float = 1.0, tint: Tensor | None = None
    ) -> None:
        """Cover with a colour (0..255) where `distance` is negative; `tint`: another light."""
        cover = (0.5 - distance * self.scale).clamp(0, 1)
        tint = self.tint if tint is None else tint
        colour = torch.tensor(rgb) / 255 * tint  # (3,)
        colour = colour[:, None, None] * shade
        self.rgb = torch.lerp(self.rgb, colour.expand_as(self.rgb).clamp(0, 1), cover)
        self.alpha = torch.lerp(self.alpha, torch.ones_like(cover), cover)


def _house(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    sheet.paint(_box(x, y, 8, 12, 20, 34), WOOD, shade)
    sheet.paint(_box(x, y, -15, 15, 0, 19), rgb, shade)
    sheet.paint(_gable(x, y, 20, 17, 35), [0.62 * c for c in rgb], shade)
    sheet.paint(_box(x, y, -3, 3, 0, 10), DARK)
    for side in (-9.5, 9.5):
        sheet.paint(_box(x, y, side - 2.8, side + 2.8, 7, 13), *window)


def _tree(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    sheet.paint(_taper(x, y, 4, 2.5, 18), WOOD, shade)
    crowns = ((-9.5, 21, 9.5), (9.5, 21, 9.5), (0, 29, 12), (0, 20, 9))
    crown = torch.stack([_disc(x, y, *c) for c in crowns]).amin(dim=0)
    sheet.paint(crown, rgb, shade * (0.72 + 0.011 * y))
    for spot in ((-6, 31, 3.4), (-12, 22, 2.6), (3, 23, 3.0)):
        sheet.paint(_disc(x, y, *spot), [c + 0.35 * (255 - c) for c in rgb], shade)


def _tower(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    sheet.paint(_taper(x, y, 11, 9, 36), rgb, shade)
    for left in (-13, -3, 7):
        sheet.paint(_box(x, y, left, left + 6, 36, 45), rgb, shade)
    sheet.paint(_box(x, y, -13, 13, 33, 40), rgb, shade)
    sheet.paint(_box(x, y, -13, 13, 31.5, 33.5), [0.55 * c for c in rgb], shade)
    door = torch.minimum(_box(x, y, -3.5, 3.5, 0, 7), _disc(x, y, 0, 7, 3.5))
    sheet.paint(door, DARK)
    sheet.paint(_box(x, y, -2, 2, 18, 26), *window)


def _tent(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    sheet.paint(_box(x, y, -0.9, 0.9, 24, 36), WOOD)
    sheet.paint(torch.maximum(_gable(y - 32.5, -x, 3.5, -9, 0), y - 36), rgb)
    sheet.paint(_gable(x, y, 21, 0, 28), rgb, shade)
    for side in (-1, 1):  # seams that run to the tip
        seam = (x - side * 15 * (1 - y / 28)).abs() - 1.1
        sheet.paint(torch.maximum(seam, _gable(x, y, 21, 0.5, 26)), [0.6 * c for c in rgb], shade)
    sheet.paint(_gable(x, y, 7, 0, 19), *window)


def _windmill(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    sheet.paint(_disc(x, y, 0, 26, 7), [0.55 * c for c in rgb], shade)
    sheet.paint(_taper(x, y, 12, 7, 27), rgb, shade)
    sheet.paint(_box(x, y, -3, 3, 0, 9), DARK)
    sheet.paint(_box(x, y, -2.2, 2.2, 13, 17.5), *window)
    u, v = (x + y - 26) * math.sqrt(0.5), (y - 26 - x) * math.sqrt(0.5)
    for along, across in ((u, v), (v, u)):  # two arms with a broad sail at each end
        sheet.paint(_box(along, across, -22, 22, -1, 1), WOOD)
        for end in (-14.5, 14.5):
            sheet.paint(_box(along, across, end - 7.5, end + 7.5, -2.8, 2.8), CREAM)
    sheet.paint(_disc(x, y, 0, 26, 2.6), DARK)


def _gate(sheet: _Sheet, rgb, shade: Tensor, window) -> None:
    x, y = sheet.x, sheet.y
    for side in (-13, 13):
        sheet.paint(_box(x, y, side - 3, side + 3, 0, 33), rgb, shade)
        sheet.paint(_box(x, y, side - 3.8, side + 3.8, 0, 4), DARK)
    sheet.paint(_box(x, y, -17, 17, 20, 24.5), rgb, shade)
    swung = y - 0.012 * x**2  # the top beam rises towards its ends
    sheet.paint(_box(x, swung, -20.5, 20.5, 29.5, 35), rgb, shade)
    sheet.paint(_box(x, swung, -21.5, 21.5, 34.5, 36.5), DARK)


_PAINTERS = dict(zip(KINDS, (_house, _tree, _tower, _tent, _windmill, _gate), strict=True))


@lru_cache(maxsize=1024)
def landmark(
    kind: str, colour: str, ground: str, light: str, image_size: int
) -> tuple[Tensor, Tensor]:
    """One landmark in its window, whose foot's shadow (on the sea: an islet) shows the ground.

    Returns:
        (3, h, w) colours in [0, 1] times the opacity, and (1, h, w) opacities in [0, 1]. The
        window's middle column is the heading; `window_rows(image_size)` are its rows.
    """
    rows, half = window_rows(image_size), round(HALF_WIDTH * image_size / ROWS)
    step = torch.pi / image_size / OVERSAMPLING  # radians from one point to the next

    def points(first: int, last: int) -> Tensor:
        return (torch.arange(first * OVERSAMPLING, last * OVERSAMPLING) + 0.5) * step

    east = points(-half, half)[None, :]
    up = (torch.pi / 2 - points(rows.start, rows.stop))[:, None]
    unit = torch.pi / ROWS  # the wall is so far away that a reference pixel on it is one in length
    x = (east.tan() / unit).expand(len(up), -1)
    y = up.tan() / east.cos() / unit + FOOT
    scale = (up.cos() * east.cos()) ** 2 * image_size / ROWS * OVERSAMPLING

    sheet = _Sheet(x, y, scale, torch.tensor(TINTS[light]))
    shore = torch.hypot(x / 22, (y + 0.5) / 3.2) - 1
    sheet.paint(shore * 3.2, SHORES[ground], tint=torch.tensor(GROUND_TINTS[light]))
    shade = 0.97 - 0.009 * x  # the light comes from the left
    window = (GLOW, 1.0, torch.ones(3)) if light == "night" else (DARK,)
    _PAINTERS[kind](sheet, COLOURS[colour], shade, window)
    layers = torch.cat([sheet.rgb, sheet.alpha[None]])
    layers = torch.nn.functional.avg_pool2d(layers, OVERSAMPLING)
    return layers[:3], layers[3:]


def window_rows(image_size: int) -> range:
    """The rows of a picture of this height that a landmark's window covers."""
    middle, unit = image_size / 2, image_size / ROWS
    return range(round(middle - ABOVE * unit), round(middle + BELOW * unit))
