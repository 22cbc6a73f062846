"""The anatomy of a chest phantom: where its parts lie, and where one lobe ends and the next begins.

Lengths are in mm from the middle of the slice; x grows to the right of the image, y downwards, to
the back of the patient. As in every radiological picture the patient lies on the back and is seen
from the feet: the patient's RIGHT is on the LEFT of the image, so the right lung has x < 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

FIELD_OF_VIEW_MM = 352.0
SIDES = ("right", "left")
LOBES = ("upper", "middle", "lower")

# Ellipses: (x, y, half width, half depth, turned by degrees).
LEVELS = {
    "upper": {  # above the arch of the aorta: no heart
        "skin": (0, 0, 152, 96, 0),
        "muscle": (0, 2, 139, 85, 0),
        "cavity": (0, 4, 96, 62, 0),
        "mediastinum": (0, -10, 34, 58, 0),
        "spine bed": (0, 46, 25, 26, 0),
        "vertebra": (0, 46, 18, 14, 0),
        "canal": (0, 66, 8, 7, 0),
        "trachea": (2, 4, 9, 8.5, 0),
        "aorta": (13, -24, 8, 8, 0),
        "vein": (-18, -26, 9, 7, 30),
        "sternum": (0, -62, 20, 6, 0),
        "right scapula": (-112, 44, 27, 4.5, 52),
        "left scapula": (112, 44, 27, 4.5, -52),
    },
    "middle": {  # the carina and the main vessels of the lungs
        "skin": (0, 0, 157, 107, 0),
        "muscle": (0, 2, 145, 96, 0),
        "cavity": (0, -3, 124, 84, 0),
        "mediastinum": (0, -20, 34, 72, 0),
        "spine bed": (0, 54, 26, 27, 0),
        "vertebra": (0, 54, 19, 15, 0),
        "canal": (0, 76, 8, 7, 0),
        "trachea": (-3, 6, 11, 6, 0),
        "aorta": (-12, -32, 15, 15, 0),
        "vein": (17, -18, 22, 11, -35),
        "descending aorta": (24, 34, 12, 12, 0),
        "right hilum": (-38, 2, 17, 14, 20),
        "left hilum": (40, 4, 16, 13, -20),
        "sternum": (0, -90, 20, 6, 0),
        "right scapula": (-125, 52, 22, 4, 55),
        "left scapula": (125, 52, 22, 4, -55),
    },
    "lower": {  # a large heart, the dome of the liver on the right
        "skin": (0, 0, 159, 111, 0),
        "muscle": (0, 2, 148, 100, 0),
        "cavity": (0, -2, 131, 89, 0),
        "mediastinum": (0, -10, 36, 76, 0),
        "spine bed": (0, 58, 27, 29, 0),
        "vertebra": (0, 58, 20, 16, 0),
        "canal": (0, 81, 8, 7, 0),
        "heart": (20, -30, 60, 42, 28),
        "liver": (-58, 4, 37, 43, -20),
        "descending aorta": (24, 38, 12, 12, 0),
        "sternum": (0, -94, 16, 5, 0),
    },
}
CENTRAL = ("mediastinum", "spine bed", "descending aorta", "right hilum", "left hilum")
CENTRAL += ("heart", "liver", "vertebra", "aorta", "vein")  # what the lungs lie around
SOFTNESS_MM = 9.0  # over this length two surfaces flow into one another
# The oblique fissure: (height of its middle, rise to the side), in half depths of the cavity.
FISSURES = {"middle": (0.12, -0.15), "lower": (-0.02, -0.1)}
RIBS = (-55, -22, 12, 45)  # where they cross the slice on the left, degrees from the side
HILA = {"upper": (38, 4), "middle": (46, 3), "lower": (52, 22)}  # where the lung's vessels enter
ABSENT = (1e4, 1e4, 1.0, 1.0, 0.0)  # an ellipse far outside the picture


@dataclass(frozen=True)
class Anatomy:
    """One patient's slice. `parts` are ellipses by name; `vessels` are tapering lines.

    A vessel is (x, y, x, y, radius, radius): its two ends and the radius at each, in mm.
    """

    level: str
    parts: dict[str, tuple[float, ...]]
    vessels: tuple[tuple[float, ...], ...]


@cache
def part_names() -> tuple[str, ...]:
    """Every part that some level has, ribs included."""
    ribs = [f"{side} rib {i}" for side in SIDES for i in range(len(RIBS))]
    return tuple(dict.fromkeys([name for parts in LEVELS.values() for name in parts] + ribs))


@lru_cache(maxsize=4096)
def anatomy(level: str, seed: int) -> Anatomy:
    """The patient `seed` at a level of `LEVELS`: every part a little larger, smaller or shifted."""
    rng = random.Random(seed)
    wide, deep = rng.uniform(0.93, 1.04), rng.uniform(0.93, 1.06)
    shift = (rng.uniform(-5, 5), rng.uniform(-5, 5))
    parts = {}
    for name, (x, y, a, b, turn) in LEVELS[level].items():
        own, dx, dy = rng.uniform(0.94, 1.06), rng.uniform(-2, 2), rng.uniform(-2, 2)
        if name in ("skin", "muscle", "cavity"):  # they must not cut into one another
            own, dx, dy = rng.uniform(0.985, 1.02) if name == "skin" else 1.0, 0.0, 0.0
        turn += rng.uniform(-4, 4) if turn else 0
        parts[name] = (x * wide + shift[0] + dx, y * deep + shift[1] + dy)
        parts[name] += (a * wide * own, b * deep * own, turn)
    parts |= _ribs(parts["cavity"], rng)
    vessels = [v for side in (-1, 1) for v in _vessels(level, side, shift, rng)]
    return Anatomy(level, parts, tuple(vessels))


def _ribs(cavity: tuple[float, ...], rng: random.Random) -> dict[str, tuple[float, ...]]:
    """Slanted ribs cross a slice as flat ellipses that follow the wall of the chest."""
    x, y, a, b, _ = cavity
    a, b = a + 6, b + 6
    ribs = {}
    for side, sign in zip(SIDES, (-1, 1), strict=True):
        for i, degrees in enumerate(RIBS):
            angle = math.radians(degrees + rng.uniform(-5, 5))
            along = math.degrees(math.atan2(b * math.cos(angle), -a * math.sin(angle)))
            place = (x + sign * a * math.cos(angle), y + b * math.sin(angle))
            ribs[f"{side} rib {i}"] = (*place, rng.uniform(11, 17), 4.2, sign * along)
    return ribs


def _vessels(level: str, side: int, shift: tuple[float, float], rng: random.Random) -> list[tuple]:
    """Seven trees that fork twice, and the round sections of vessels that cross the slice."""
    x, y = HILA[level][0] * side + shift[0], HILA[level][1] + shift[1]
    found: list[tuple] = []

    def grow(x: float, y: float, angle: float, length: float, radius: float, forks: int) -> None:
        end = (x + side * length * math.cos(angle), y + length * math.sin(angle))
        found.append((x, y, *end, radius, 0.75 * radius))
        for turn in (-1, 1) if forks else ():
            bent = angle + turn * rng.uniform(0.2, 0.6)
            grow(*end, bent, length * rng.uniform(0.7, 1.0), 0.7 * radius, forks - 1)

    for i in range(7):
        angle = math.radians(-75 + 25 * i + rng.uniform(-10, 10))
        grow(x, y, angle, rng.uniform(17, 30), rng.uniform(1.3, 2.1), forks=2)
    for _ in range(12):
        dot = (x + side * rng.uniform(0, 70), y + rng.uniform(-60, 60))
        found.append((*dot, *dot, *[rng.uniform(0.6, 1.3)] * 2))
    return found


# --- distances -----------------------------------------------------------------------------------


def stack(slices: Sequence[Anatomy]) -> dict[str, Tensor]:
    """The parts of B slices by name, each (5, B, 1, 1); what a slice lacks is far outside."""
    return {
        name: torch.tensor([s.parts.get(name, ABSENT) for s in slices]).T[:, :, None, None]
        for name in part_names()
        if any(name in s.parts for s in slices)
    }


def ellipse_distance(x: Tensor, y: Tensor, ellipse: Tensor) -> Tensor:
    """Signed distance in mm from points (B, H, W) to ellipses (5, B, 1, 1), negative inside.

    First order, so exact at the edge only: f / |grad f| of f = |p / radii| - 1, as by
    I. Quilez, "Ellipse - distance estimation".
    """
    centre_x, centre_y, a, b, turn = ellipse
    u, v = x - centre_x, y - centre_y
    if turn.any():
        cos, sin = torch.cos(torch.deg2rad(turn)), torch.sin(torch.deg2rad(turn))
        u, v = u * cos + v * sin, v * cos - u * sin
    u, v = (u / a).square(), (v / b).square()
    value = (u + v).sqrt().clamp_min(1e-3)
    slope = (u / a**2 + v / b**2).sqrt().clamp_min(1e-3 / 200)  # both are 0 at the centre
    return value * (value - 1) / slope


def smooth_minimum(a: Tensor, b: Tensor, softness: float = SOFTNESS_MM) -> Tensor:
    """The smaller of two distances; where they are nearly equal a little less, so edges round."""
    share = (0.5 + 0.5 * (b - a) / softness).clamp(0, 1)
    return torch.lerp(b, a, share) - softness * share * (1 - share)


def lung_distance(x: Tensor, y: Tensor, parts: dict[str, Tensor]) -> Tensor:
    """Signed distance in mm from points (B, H, W) to the nearer lung of each slice."""
    central = None
    for name in CENTRAL:
        if name in parts:
            part = ellipse_distance(x, y, parts[name])
            central = part if central is None else smooth_minimum(central, part)
    cavity = ellipse_distance(x, y, parts["cavity"])
    return -smooth_minimum(-cavity, central)  # inside the cavity and outside what is central


def fissure_distance(x: Tensor, y: Tensor, level: str, cavity: Tensor) -> Tensor:
    """Height in mm below the oblique fissure, (B, H, W): positive in the lower lobe.

    Above the hilum (level "upper") the slice holds upper lobes only, and all is negative.
    """
    if level not in FISSURES:
        return torch.full_like(x + y, -1e4)
    height, rise = FISSURES[level]
    centre_x, centre_y, a, b, _ = cavity
    return y - centre_y - b * (height + rise * ((x - centre_x).abs() / a - 0.5))


def lobe_names(level: str, side: str) -> tuple[str, ...]:
    """The lobes that a slice cuts on one side, front first."""
    if level == "upper":
        return ("upper",)
    return ("middle" if level == "lower" and side == "right" else "upper", "lower")


def lobe_distance(x: Tensor, y: Tensor, slice_: Anatomy, side: str, lobe: str) -> Tensor:
    """Signed distance in mm from points (H, W) to one lobe of one slice, negative inside."""
    parts = {n: torch.tensor(p)[:, None, None, None] for n, p in slice_.parts.items()}
    lung = lung_distance(x, y, parts)[0]
    middle = parts["cavity"][0, 0]
    lung = torch.maximum(lung, x - middle if side == "right" else middle - x)
    behind = fissure_distance(x, y, slice_.level, parts["cavity"])[0]
    return torch.maximum(lung, -behind if lobe == "lower" else behind)
