"""Picture -> product: analysis by synthesis, with nothing learned.

The kind is the best of a stored grid of coarse renders. Then the measures and a shift are moved by
Gauss-Newton steps through the renderer until the drawing is the picture, first on 16 x 16 pixels,
where edges attract from afar, then on finer ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product as combinations

import torch
from torch import Tensor
from torch.nn import functional

from ..images import check_square
from .rendering import layers
from .world import BACKGROUND, COLOURS, KINDS, MEASURES, SCALES, Product, said

WORKING_SIZE = 64  # larger pictures are averaged down to this side before they are measured
COARSE_SIZE = 16
STEPS = {16: 8, 32: 4, 64: 3}  # Gauss-Newton steps at each size
NUDGE = 0.005  # of an unknown's unit: how far it is moved to see what changes
LONGEST_STEP = 0.2  # of a measure's range, so that one step cannot lose the picture
BEYOND = 0.1  # of the range: how far outside it a measure may be found
FARTHEST_SHIFT = 4.0  # pixels of 64
DAMPING = 1e-3  # part of the mean curvature added to each unknown's: what is unseen stays put
SOFTEST = 1.5  # most blur: how far the drawing may go towards, and past, its `_BLUR`red self
_BLUR = (0.12, 0.23, 0.3, 0.23, 0.12)  # a bell of 1.2 pixels
RESIDUAL_LIMIT = 0.15  # what fits worse resembles no product
TOLERANCE = 0.03  # of the range: how far over its third's border a said measure is still judged so


@dataclass(frozen=True)
class Fitted:
    """What was measured in one picture.

    `measures` are millimetres and may lie up to `BEYOND` outside their ranges. `rgb` is the ink's
    colour in [0, 1], `shift` how far right and up the product stands from its usual place, in
    millimetres. `residual` is the part of the picture's squared difference from the background that
    the drawing leaves unexplained: 0 for a perfect drawing, 1 for none.
    """

    kind: str
    colour: str
    measures: tuple[float, ...]
    residual: float
    rgb: tuple[float, float, float]
    shift: tuple[float, float]

    @property
    def clear(self) -> bool:
        """Whether the picture does resemble the product."""
        return self.residual <= RESIDUAL_LIMIT

    @property
    def product(self) -> Product:
        """The nearest product: each measure inside its range."""
        ranges = MEASURES[self.kind].values()
        pairs = zip(self.measures, ranges, strict=True)
        inside = tuple(min(max(value, m.low), m.high) for value, m in pairs)
        return Product(self.kind, self.colour, inside)


@torch.no_grad()
def read(images: Tensor) -> list[Fitted]:
    """Measure the product in each picture.

    Args:
        images: (B, 3, H, W) float in [-1, 1], square, side a multiple of 16, 32 or more.

    Raises:
        ValueError: for another shape or integers.
    """
    check_square(images, least=32)
    if images.shape[-1] % COARSE_SIZE:
        raise ValueError(
            f"The side is {images.shape[-1]} pixels; expected a multiple of {COARSE_SIZE}."
        )
    pixels = images.detach().to("cpu", torch.float32).nan_to_num().clamp(-1, 1).add(1).div(2)
    if pixels.shape[-1] > WORKING_SIZE:
        pixels = functional.adaptive_avg_pool2d(pixels, WORKING_SIZE)
    if len(pixels) == 0:
        return []
    kinds, starts = _coarse(pixels)
    found: list[Fitted | None] = [None] * len(pixels)
    for kind in KINDS:
        chosen = [i for i, k in enumerate(kinds) if k == kind]
        if chosen:
            start = torch.stack([starts[i] for i in chosen])
            fitted = _fit_kind(kind, pixels[chosen], start)
            for i, one in zip(chosen, fitted, strict=True):
                found[i] = one
    return found


# --- the drawing that a picture is compared with -------------------------------------------------


def _ground(pixels: Tensor) -> Tensor:
    return torch.tensor(BACKGROUND, dtype=pixels.dtype)[:, None] / 255  # (3, 1)


def _best_colour(pixels: Tensor, light: Tensor, ink: Tensor) -> Tensor:
    """The ink's colour that explains (B, 3, P) pixels best, given (B, P) layers: (B, 3)."""
    left = pixels - light[:, None] * _ground(pixels)
    colour = (left * ink[:, None]).sum(dim=-1) / ink.square().sum(dim=-1, keepdim=True)
    return colour.nan_to_num().clamp(0, 1)


def _blurred(maps: Tensor) -> Tensor:
    """(B, 2, H, W) square layers, blurred by `_BLUR` along both axes; the edge goes on outside."""
    side = maps.shape[-1]
    band = torch.zeros(side, side, dtype=maps.dtype)
    line = torch.arange(side)
    for offset, weight in zip(range(-2, 3), _BLUR, strict=True):
        band[line, (line + offset).clamp(0, side - 1)] += weight
    return band @ maps @ band.T  # much faster here than a convolution of one channel


@cache
def _grid() -> tuple[tuple[str, ...], tuple[Tensor, ...], Tensor, Tensor]:
    """Coarse drawings with every measure in the middle of each third: kinds, measures, layers."""
    kinds, starts, lights, inks = [], [], [], []
    for kind, measures in MEASURES.items():
        levels = ([m.low + m.range * part / 6 for part in (1, 3, 5)] for m in measures.values())
        grid = torch.tensor(list(combinations(*levels)))
        light, ink = layers(kind, grid, COARSE_SIZE)
        kinds += [kind] * len(grid)
        starts += list(grid)
        lights.append(light.flatten(1))
        inks.append(ink.flatten(1))
    return tuple(kinds), tuple(starts), torch.cat(lights), torch.cat(inks)


def _coarse(pixels: Tensor) -> tuple[list[str], list[Tensor]]:
    """Kind and first measures of each picture: the drawing of the grid that leaves least."""
    kinds, starts, light, ink = _grid()
    small = functional.adaptive_avg_pool2d(pixels, COARSE_SIZE).flatten(2)  # (B, 3, P)
    ground = _ground(pixels)
    # |small - light * ground - colour * ink|^2 at its best colour, without its constant |small|^2.
    overlap = small @ ink.T - ground * (light * ink).sum(dim=1)  # (B, 3, G)
    rest = ground**2 * light.square().sum(dim=1) - 2 * ground * (small @ light.T)
    best = (rest - overlap.square() / ink.square().sum(dim=1)).sum(dim=1).argmin(dim=1)
    return [kinds[i] for i in best], [starts[i] for i in best]


def _fit_kind(kind: str, pixels: Tensor, start: Tensor) -> list[Fitted]:
    """Move the measures of one kind's pictures from (B, M) first ones to the best."""
    limits = torch.tensor([(m.low, m.high) for m in MEASURES[kind].values()])
    span = limits[:, 1] - limits[:, 0]
    shift = FARTHEST_SHIFT * SCALES[kind]
    # The unknowns are the measures, the shift (2) and the blur; they are counted in `unit`s.
    unit = torch.cat((span, torch.tensor([2 * shift, 2 * shift, 1.0])))
    low = torch.cat((limits[:, 0] - BEYOND * span, torch.tensor([-shift, -shift, 0.0])))
    high = torch.cat((limits[:, 1] + BEYOND * span, torch.tensor([shift, shift, SOFTEST])))
    values = torch.cat((start, start.new_zeros(len(start), 3)), dim=1)
    sizes = dict.fromkeys((COARSE_SIZE, 32, pixels.shape[-1]))  # 32 px pictures: each size once
    for size in sizes:
        target = functional.adaptive_avg_pool2d(pixels, size).flatten(2)

        def layers_of(v: Tensor, size: int = size) -> tuple[Tensor, Tensor]:
            sharp = torch.stack(layers(kind, v[:, :-3], size, offset=v[:, -3:-1]), dim=1)
            soft = sharp + v[:, -1, None, None, None] * (_blurred(sharp) - sharp)
            return soft.flatten(2).unbind(dim=1)

        for _ in range(STEPS.get(size, 3)):
            step = _step(layers_of, target, values, unit).clamp(-LONGEST_STEP, LONGEST_STEP)
            values = (values + step * unit).clamp(low, high)
    light, ink = layers_of(values)
    colour = _best_colour(target, light, ink)
    drawn = light[:, None] * _ground(target) + ink[:, None] * colour[:, :, None]
    unexplained = (target - drawn).square().sum(dim=(1, 2))
    energy = (target - _ground(target)).square().sum(dim=(1, 2)).clamp_min(1e-6)
    names = list(COLOURS)
    nearest = torch.cdist(colour, torch.tensor(list(COLOURS.values())) / 255).argmin(dim=1)
    return [
        Fitted(kind, names[n], tuple(v[:-3]), min(r, 1.0), tuple(c), tuple(v[-3:-1]))
        for n, v, r, c in zip(
            nearest.tolist(),
            values.tolist(),
            (unexplained / energy).tolist(),
            colour.tolist(),
            strict=True,
        )
    ]


def _step(layers_of: Callable, target: Tensor, values: Tensor, unit: Tensor) -> Tensor:
    """One Gauss-Newton step of (B, N) unknowns, in their units: (J^T J + damping) step = J^T r."""
    # Moving each unknown in turn costs N more drawings, all in one batch. Autograd's forward mode
    # gives the same columns, but its overhead a call makes it several times slower here.
    count = values.shape[1]
    nudges = torch.cat((torch.zeros(1, count), torch.diag(NUDGE * unit)))  # (1 + N, N)
    moved = (values[:, None] + nudges).flatten(0, 1)  # (B, 1 + N, N) -> (B * (1 + N), N)
    light, ink = (layer.unflatten(0, (-1, 1 + count)) for layer in layers_of(moved))
    ground = _ground(target)
    colour = _best_colour(target, light[:, 0], ink[:, 0])[:, None, :, None]
    drawn = light[:, :, None] * ground + ink[:, :, None] * colour  # (B, 1 + N, 3, P)
    error = target - drawn[:, 0]
    jacobian = ((drawn[:, 1:] - drawn[:, :1]) / NUDGE).flatten(2)  # (B, N, 3 * P)
    normal = jacobian @ jacobian.mT
    curvature = normal.diagonal(dim1=1, dim2=2)
    damping = DAMPING * curvature.mean(dim=1, keepdim=True) + 1e-6
    pull = jacobian @ error.flatten(1)[:, :, None]
    return torch.linalg.solve(normal + torch.diag_embed(damping.expand_as(curvature)), pull)[..., 0]


# --- judging -------------------------------------------------------------------------------------


def judge(asked: Product, reading: Product | Fitted) -> dict[str, bool]:
    """Which of "kind", "colour" and "proportions" a reading of the picture has as asked.

    Proportions are right when each measure that the caption of `asked` says lies in its third, or
    at most `TOLERANCE` of its range over the border. A measure that is not said may be anything. Of
    another kind no proportion can be right, and in a `Fitted` that is not clear nothing is.
    """
    if isinstance(reading, Fitted):
        if not reading.clear:
            return {"kind": False, "colour": False, "proportions": False}
        reading = reading.product
    same_kind = reading.kind == asked.kind
    return {
        "kind": same_kind,
        "colour": reading.colour == asked.colour,
        "proportions": same_kind
        and all(
            _holds(asked.kind, name, level, reading.named[name])
            for name, level in said(asked).items()
        ),
    }


def _holds(kind: str, name: str, level: str, value: float) -> bool:
    measure = MEASURES[kind][name]
    position = (value - measure.low) / measure.range
    return position <= 1 / 3 + TOLERANCE if level == "low" else position >= 2 / 3 - TOLERANCE


def measure_errors(asked: Product, reading: Product | Fitted) -> dict[str, float]:
    """Measure -> |measured - asked| in millimetres.

    Raises:
        ValueError: if the kinds differ, for then there is nothing to compare.
    """
    if reading.kind != asked.kind:
        raise ValueError(f"A {reading.kind} was read where a {asked.kind} was asked for.")
    pairs = zip(asked.named.items(), reading.measures, strict=True)
    return {name: abs(value - wanted) for (name, wanted), value in pairs}
