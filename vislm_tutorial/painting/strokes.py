"""A painter: any picture laid down again in oriented brush strokes, from coarse to fine.

The idea is Hertzmann's (1998, "Painterly rendering with curved brush strokes of multiple sizes"):
each layer of strokes repairs what the coarser layers left wrong. Nothing here is learned.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, uniform_filter, zoom
from torch import Tensor

_SUPERSAMPLING = 3  # strokes are drawn this many times larger and shrunk: smooth edges
_FINEST = 1.5  # pixels of the picture; finer strokes would be the pixels themselves
_FLAT = 0.02  # a tensor of gradients below this has no direction of its own
_HAIR_CONTRAST = 0.07  # how much lighter or darker than its stroke a bristle's trace may be


@dataclass(frozen=True)
class Brush:
    """A way to paint.

    radii: of the layers, coarse to fine, as fractions of the width.
    threshold: a stroke is laid where the error of colour, about 0 to 1, exceeds this.
    spacing: distance between strokes in radii.
    steps: least and most pieces of a stroke, each as long as its radius.
    curve: 1 follows every turn of the picture, small values paint straight on.
    jitter: random change of hue, saturation and lightness of a stroke, each in [0, 1].
    hairs: traces of bristles in a stroke.
    """

    radii: tuple[float, ...]
    threshold: float
    spacing: float = 1.0
    steps: tuple[int, int] = (3, 9)
    curve: float = 0.8
    jitter: tuple[float, float, float] = (0.015, 0.08, 0.035)
    hairs: int = 4


BRUSHES = {
    "impressionist": Brush((1 / 36, 1 / 72, 1 / 150), 0.045),
    "expressionist": Brush((1 / 30, 1 / 64, 1 / 110), 0.06, 1.0, (8, 22), 1.0, (0.03, 0.2, 0.06)),
    "pointillist": Brush((1 / 50, 1 / 100, 1 / 160), 0.05, 1.7, (0, 0), 0, (0.04, 0.25, 0.05), 0),
    "sketch": Brush((1 / 24, 1 / 60), 0.09, 1.4, (4, 14), 0.6, (0.01, 0.05, 0.03), 7),
}


@dataclass(frozen=True)
class Stroke:
    """One stroke: points ((x, y), ...) and radius in picture widths, colour (r, g, b) in [0, 1]."""

    points: tuple[tuple[float, float], ...]
    radius: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Painting:
    """Strokes in the order they were laid on a ground of one colour.

    aspect is height / width; hairs is how many traces of bristles each stroke shows.
    """

    strokes: tuple[Stroke, ...]
    ground: tuple[float, float, float]
    aspect: float = 1.0
    hairs: int = 0

    def draw(self, image_size: int = 512) -> Tensor:
        """The painting, (3, round(aspect * image_size), image_size) in [-1, 1], at any size."""
        if image_size < 1:
            raise ValueError(f"image_size is {image_size}; expected at least 1 pixel.")
        width, height = image_size, max(1, round(self.aspect * image_size))
        large = (_SUPERSAMPLING * width, _SUPERSAMPLING * height)
        canvas = Image.new("RGB", large, _bytes(self.ground))
        pen = ImageDraw.Draw(canvas)
        scale = _SUPERSAMPLING * width
        for points, radius, colour in self._traces(self.hairs):
            if radius * scale > 0.4:  # finer bristles than this cannot be seen
                _lay(pen, points, radius, colour, scale)
        pixels = np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float32)
        return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).contiguous()

    def to_svg(self, image_size: int = 512, hairs: int = 0) -> str:
        """The same strokes as an SVG file, `image_size` wide, sharp at any zoom.

        `hairs` is how many bristles of a stroke to write; each makes the file much larger.
        """
        height = round(self.aspect * image_size)
        view = f'viewBox="0 0 1000 {1000 * self.aspect:g}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{image_size}" height="{height}" {view}'
            ' fill="none" stroke-linecap="round" stroke-linejoin="round">',
            f'<rect width="1000" height="{1000 * self.aspect:g}" fill="{_hex(self.ground)}"/>',
        ]
        for points, radius, colour in self._traces(hairs):
            ends = points if len(points) > 1 else points[[0, 0]]  # a dot is a line of no length
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (1000 * ends).tolist())
            width = f'stroke-width="{2000 * radius:.2f}"'
            lines.append(f'<polyline points="{path}" stroke="{_hex(colour)}" {width}/>')
        return "\n".join([*lines, "</svg>"])

    def _traces(self, hairs: int):
        """Each stroke as smooth (points (P, 2), radius, colour), followed by its bristles."""
        rng = np.random.default_rng(len(self.strokes))
        for stroke in self.strokes:
            points = _smooth(np.array(stroke.points))
            yield points, stroke.radius, stroke.colour
            if len(points) < 2 or not hairs:
                continue
            along = points[[*range(1, len(points)), -1]] - points[[0, *range(len(points) - 1)]]
            across = along[:, ::-1] * (-1, 1) / (np.hypot(*along.T)[:, None] + 1e-9)
            places = rng.uniform(-0.8, 0.8, hairs) * stroke.radius
            tones = rng.uniform(-_HAIR_CONTRAST, _HAIR_CONTRAST, hairs).tolist()
            spans = np.sort(rng.integers(0, len(points) + 1, (hairs, 2))).tolist()
            for place, tone, (first, last) in zip(places, tones, spans, strict=True):
                if last - first > 1:
                    colour = tuple(min(max(channel + tone, 0.0), 1.0) for channel in stroke.colour)
                    hair = points[first:last] + place * across[first:last]
                    yield hair, 0.13 * stroke.radius, colour


def paint(image: Tensor, *, brush: str = "impressionist", seed: int = 0) -> Painting:
    """Paint a picture.

    Args:
        image: (3, H, W) in [-1, 1]; both sides at least 32 pixels. The larger, the finer it sees.
        brush: one of `BRUSHES`.
        seed: of places, order and colours of the strokes; the same seed paints the same.

    Raises:
        ValueError: for another shape or an unknown brush.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 32:
        raise ValueError(
            f"paint got an image of shape {tuple(image.shape)}; expected (3, H, W), 32 or more."
        )
    if brush not in BRUSHES:
        raise ValueError(f"brush is {brush!r}; choose one of {', '.join(BRUSHES)}.")
    how, rng = BRUSHES[brush], np.random.default_rng(seed)
    # (3, H, W) in [-1, 1] -> (H, W, 3) in [0, 1]
    picture = image.detach().to("cpu", torch.float32).permute(1, 2, 0).numpy().clip(-1, 1) / 2 + 0.5
    height, width = picture.shape[:2]
    ground = tuple(picture.mean((0, 1)).tolist())
    sheet = Image.new("RGB", (width, height), _bytes(ground))
    pen = ImageDraw.Draw(sheet)
    strokes: list[Stroke] = []
    radii = [max(fraction * width, _FINEST) for fraction in how.radii]
    for radius in dict.fromkeys(radii):
        reference = gaussian_filter(picture, (0.5 * radius, 0.5 * radius, 0))
        canvas = np.asarray(sheet, np.float32) / 255
        # The first layer covers all of the ground, the others only what is still wrong.
        threshold = how.threshold if strokes else -1.0
        layer = _layer(reference, canvas, radius, how, threshold, rng)
        for trace in Painting(layer, ground)._traces(hairs=0):
            _lay(pen, *trace, scale=width)
        strokes += layer
    # Colours change last, so that no layer takes the painter's freedom for an error to repair.
    free = (replace(s, colour=_jittered(s.colour, how.jitter, rng)) for s in strokes)
    return Painting(tuple(free), ground, height / width, how.hairs)


def _layer(reference, canvas, radius, how: Brush, threshold, rng) -> tuple[Stroke, ...]:
    """Strokes of one radius (pixels) where `canvas` (H, W, 3) differs from `reference`."""
    height, width = reference.shape[:2]
    # The eye sees small differences better in the dark.
    error = np.abs(reference - canvas).mean(2) / (0.4 + reference.mean(2))
    step = max(1, round(how.spacing * radius))
    nearby = uniform_filter(error, step)
    starts = []
    for top in range(0, height, step):
        for left in range(0, width, step):
            if (
                nearby[min(top + step // 2, height - 1), min(left + step // 2, width - 1)]
                > threshold
            ):
                cell = error[top : top + step, left : left + step]
                row, column = divmod(int(cell.argmax()), cell.shape[1])
                starts.append((column + left, row + top))
    if not starts:
        return ()
    at = np.array(starts, float) + rng.uniform(-0.4, 0.4, (len(starts), 2)) * radius
    at = at[rng.permutation(len(at))]
    colours = _pixels(reference, at)
    paths = _follow(reference, canvas, at, colours, radius, how, rng)
    return tuple(
        Stroke(tuple(map(tuple, (np.array(path) / width).tolist())), radius / width, tuple(colour))
        for path, colour in zip(paths, colours.astype(float).tolist(), strict=True)
    )


def _follow(reference, canvas, at, colours, radius, how: Brush, rng) -> list[list]:
    """All strokes of a layer at once: from (N, 2) starts along the picture's own lines."""
    direction = _directions(reference, radius, rng)
    paths = [[point] for point in at]
    alive = np.ones(len(at), bool)
    previous = None
    for step in range(how.steps[1]):
        towards = _pixels(direction, at)
        if previous is None:
            towards *= rng.choice((-1.0, 1.0), (len(at), 1))
        else:
            towards *= np.where((towards * previous).sum(1, keepdims=True) < 0, -1.0, 1.0)
            towards = how.curve * towards + (1 - how.curve) * previous
            towards /= np.linalg.norm(towards, axis=1, keepdims=True) + 1e-9
        at, previous = at + radius * towards, towards
        here = _pixels(reference, at)
        wrong = np.abs(here - colours).sum(1) > np.abs(here - _pixels(canvas, at)).sum(1)
        clearly = np.abs(here - colours).mean(1) > 0.1  # another thing begins here
        if step >= how.steps[0]:
            alive &= ~wrong
        alive &= ~clearly
        for index in np.flatnonzero(alive):
            paths[index].append(at[index])
    return paths


def _directions(reference, radius, rng) -> np.ndarray:
    """Unit vectors (H, W, 2) along the lines of the picture; smooth waves where it has none."""
    grey = reference @ np.array([0.299, 0.587, 0.114], np.float32)
    down, right = np.gradient(grey)
    tensor = [right * right, right * down, down * down]
    near, far = ([gaussian_filter(t, s * radius) for t in tensor] for s in (1.0, 5.0))
    xx, xy, yy = (a + 0.1 * b for a, b in zip(near, far, strict=True))
    height, width = grey.shape
    waves = rng.normal(0, 0.3, (5, 5))
    waves = zoom(waves, (height / 5, width / 5), order=3)[:height, :width]
    strength = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    # A double angle lets opposite directions, which are the same line, add up.
    double_x = yy - xx + _FLAT**2 * np.cos(2 * waves)
    double_y = -2 * xy + _FLAT**2 * np.sin(2 * waves)
    angle = 0.5 * np.arctan2(double_y, double_x)
    angle = angle + rng.normal(0, 0.12, angle.shape) * _FLAT**2 / (_FLAT**2 + strength)
    return np.stack([np.cos(angle), np.sin(angle)], 2)


def _pixels(values, at) -> np.ndarray:
    """Rows of (H, W, C) at (N, 2) points (x, y); points outside count as the edge."""
    height, width = values.shape[:2]
    columns, rows = np.rint(at).astype(int).T
    return values[rows.clip(0, height - 1), columns.clip(0, width - 1)].copy()


def _jittered(colour, jitter, rng) -> tuple[float, float, float]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(float(c) for c in colour))
    change = rng.uniform(-1, 1, 3) * jitter
    lightness, saturation = lightness + change[2], saturation * (1 + 2 * jitter[1]) + change[1]
    saturation = min(max(saturation, 0.0), 1.0) if saturation > 0.02 else 0.0
    return colorsys.hls_to_rgb((hue + change[0]) % 1, min(max(lightness, 0.0), 1.0), saturation)


def _smooth(points: np.ndarray) -> np.ndarray:
    """Cut the corners of (P, 2) points twice, ends kept: 2 P or so points on a smooth curve."""
    for _ in range(2 if len(points) > 2 else 0):
        before, after = points[:-1], points[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], 1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def _lay(pen: ImageDraw.ImageDraw, points, radius, colour, scale: float) -> None:
    """One trace on a canvas `scale` pixels wide; round ends where they can be seen."""
    points, radius, colour = points * scale, radius * scale, _bytes(colour)
    if len(points) > 1:
        pen.line(points.ravel().tolist(), colour, max(1, round(2 * radius)))
    if radius > 1.5:
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _bytes(colour) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in colour)


def _hex(colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_bytes(colour))
