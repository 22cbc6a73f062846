"""How well pictures are read back into scenes: `python benchmarks/parser.py`, about a minute.

The first table is the bar: 5,000 fresh renders a side (32 px: solid fills only). The second shows
what the limit on the residual separates: softened and noisy renders from figures that no scene has.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from vislm_tutorial.data.parsing import RESIDUAL_LIMIT, Reading, read
from vislm_tutorial.data.rendering import render, signed_distance
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    sample_scenes,
)
from vislm_tutorial.data.templates import blur

REACH = 0.02  # a centre is right within this, as a fraction of the side
Figure = Callable[[random.Random, Tensor, Tensor, Tensor], Tensor]


def first_mistake(scene: Scene, reading: Reading) -> str:
    """What differs first: "background", "count", an attribute, "centre", or "" for nothing."""
    found = list(reading.clear)
    if reading.background != scene.background:
        return "background"
    if len(found) != len(scene.objects):
        return "count"
    for o in scene.objects:
        nearest = min(found, key=lambda p: math.hypot(p.x - o.x, p.y - o.y))
        for name in ("shape", "colour", "size", "fill"):
            if getattr(nearest, name) != getattr(o, name):
                return name
        if max(abs(nearest.x - o.x), abs(nearest.y - o.y)) > REACH:
            return "centre"
        found.remove(nearest)
    return ""


def bar(n: int) -> bool:
    """Print the table of fresh renders; True when at least 99.5 % are read back whole."""
    print(f"{'side':>5} {'fills':>6} {'scenes':>7} {'whole':>7} {'images/s':>9}  mistakes")
    passed = True
    for side in (64, 128, 32):
        scenes = sample_scenes(n, seed=side)
        if side == 32:
            scenes = [replace(s, objects=tuple(map(_solid, s.objects))) for s in scenes]
        readings, seconds = [], 0.0
        for i in range(0, n, 100):
            images = render(scenes[i : i + 100], side)
            start = time.perf_counter()
            readings += read(images)
            seconds += time.perf_counter() - start
        mistakes = Counter(filter(None, map(first_mistake, scenes, readings)))
        whole = 1 - mistakes.total() / n
        passed &= whole >= 0.995
        fills = "solid" if side == 32 else "all"
        said = ", ".join(f"{k} {v}" for k, v in mistakes.items()) or "none"
        print(f"{side:>5} {fills:>6} {n:>7} {whole:>7.2%} {n / seconds:>9.0f}  {said}")
    return passed


def _solid(o: SceneObject) -> SceneObject:
    return replace(o, fill="solid")


# --- the limit on the residual -------------------------------------------------------------------


def _soften(images: Tensor, sigma: float) -> Tensor:
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="replicate")
    return blur(padded.flatten(0, 1)[:, None], sigma)[:, 0, 4:-4, 4:-4].unflatten(
        0, images.shape[:2]
    )


def _ellipse(rng: random.Random, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return signed_distance("circle", x * 0.75, y / 0.75, r)


def _two_halves(rng: random.Random, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    left, right = (signed_distance(shape, x, y, r) for shape in rng.sample(SHAPES, 2))
    return torch.where(x < 0, left, right)


def _overlap(rng: random.Random, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    a, b = rng.sample(SHAPES, 2)
    return torch.minimum(signed_distance(a, x, y, r), signed_distance(b, x - r, y - 0.6 * r, r))


def _blob(rng: random.Random, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    angle, outline = torch.atan2(y, x), 1.0
    for k in range(1, 6):
        a, b = rng.gauss(0, 0.2), rng.gauss(0, 0.2)
        outline = outline + (a * torch.cos(k * angle) + b * torch.sin(k * angle)) / k**0.5
    return torch.hypot(x, y) - r * outline


def _paint(figure: Figure, n: int, rng: random.Random) -> Tensor:
    """`n` pictures of one figure each, at random places, sizes and colours: (n, 3, 64, 64)."""
    line = torch.arange(64) + 0.5
    images = []
    for _ in range(n):
        x, y = (line - 64 * rng.uniform(0.35, 0.65) for _ in range(2))
        distance = figure(
            rng, x[None, :], y[:, None], torch.tensor(64 * rng.choice([*SIZES.values()]))
        )
        ground, colour = (
            torch.tensor(rng.choice([*palette.values()]))[:, None, None] / 127.5 - 1
            for palette in (BACKGROUNDS, COLOURS)
        )
        images.append(ground + (0.5 - distance).clamp(0, 1) * (colour - ground))
    return torch.stack(images)


def limit(n: int) -> None:
    """Print how objects and messes fall on the two sides of the limit."""
    rng, generator = random.Random(0), torch.manual_seed(0)
    scenes = sample_scenes(n, seed=1)
    drawn = render(scenes)
    pictures = {
        "renders": drawn,
        "renders, blur 1 px": _soften(drawn, 1.0),
        "renders, noise 0.05": drawn + 0.05 * torch.randn(drawn.shape, generator=generator),
    }
    for figure in (_ellipse, _two_halves, _overlap, _blob):
        sharp = _paint(figure, n, rng)
        name = figure.__name__.strip("_").replace("_", " ")
        pictures |= {name: sharp, f"{name}, blur 1 px": _soften(sharp, 1.0)}
    quantiles = (0.01, 0.1, 0.5, 0.9, 0.99)
    print(f"\n{'residuals':<24}" + "".join(f"{q:>8.0%}" for q in quantiles) + "   clear")
    for name, images in pictures.items():
        residuals = torch.tensor([r for reading in read(images) for r in reading.residuals])
        cells = "".join(f"{v:>8.3f}" for v in residuals.quantile(torch.tensor(quantiles)).tolist())
        print(f"{name:<24}{cells} {(residuals <= RESIDUAL_LIMIT).float().mean():>7.1%}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("-n", type=int, default=5000, help="scenes a side (default 5000)")
    n = options.parse_args().n
    passed = bar(n)
    limit(max(100, n // 10))
    sys.exit(not passed)
