"""A world of synthetic chest CT slices, some with one lung nodule, in Hounsfield units.

Nothing here comes from a patient. A `Phantom` says everything that its slice shows; the caption
says side, lobe and size of the nodule, and `vislm_tutorial.data.phantoms.reading` reads them back.
The patient's RIGHT is on the LEFT of the image, as radiologists look at it: see
`vislm_tutorial.data.phantoms.anatomy`, which also holds the lobes.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from . import anatomy as body
from .anatomy import LEVELS, LOBES, SIDES, Anatomy, anatomy

DIAMETERS_MM = (6, 30)  # smaller ones drown among vessels; larger ones are called a mass
CLEARANCE_MM = 5.0  # least lung between a nodule and the edge of its lobe: 1.8 pixels of 128
WITHOUT_NODULE = 0.1  # the share of slices that have none

LEVEL_PHRASES = {
    "upper": "at the apex",
    "middle": "at the level of the hilum",
    "lower": "at the level of the heart",
}
TEMPLATES = (
    "{nodule}",
    "{nodule}",
    "a chest CT slice with {nodule}",
    "CT slice with {nodule}",
    "an axial CT image that shows {nodule}",
    "chest CT, lung window, {nodule}",
)
HELD_OUT_TEMPLATES = ("please draw a CT of the chest with {nodule}", "this scan shows {nodule}")
NODULES = (
    "{article} {size} mm nodule in the {side} {lobe} lobe",
    "a nodule of {size} mm in the {side} {lobe} lobe",
    "a solid nodule in the {side} {lobe} lobe, {size} mm",
)
NO_NODULES = ("a chest CT slice without a nodule", "CT slice of the chest, no nodule")


@dataclass(frozen=True)
class Nodule:
    """A round solid nodule: the patient's side, the lobe, and its disc in the slice in mm.

    x grows to the right of the image (the patient's left), y to the back, from the middle.
    """

    side: str
    lobe: str
    diameter_mm: float
    x_mm: float
    y_mm: float

    def __post_init__(self):
        for field, allowed in (("side", SIDES), ("lobe", LOBES)):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}."
                )
        low, high = DIAMETERS_MM
        if not low <= self.diameter_mm <= high:
            raise ValueError(f"diameter_mm is {self.diameter_mm}; expected {low} to {high} mm.")
        if self.side == "left" and self.lobe == "middle":
            raise ValueError("The left lung has no middle lobe; choose 'upper' or 'lower'.")


@dataclass(frozen=True)
class Phantom:
    """A slice at one of `LEVELS` of the patient `seed`, with at most one nodule.

    Raises:
        ValueError: for an unknown level, a lobe that this level does not cut, and a nodule that
            does not lie whole inside its lobe, `CLEARANCE_MM` from the edge.
    """

    level: str
    nodule: Nodule | None
    seed: int

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(f"level is {self.level!r}; choose one of {', '.join(LEVELS)}.")
        if self.nodule is None:
            return
        n = self.nodule
        lobes = body.lobe_names(self.level, n.side)
        if n.lobe not in lobes:
            raise ValueError(
                f"Level {self.level!r} does not cut the {n.side} {n.lobe} lobe; choose a lobe of "
                f"{', '.join(lobes)}, or another level."
            )
        centre = torch.tensor([[n.x_mm, n.y_mm]])
        if not _fits(anatomy(self.level, self.seed), n.side, n.lobe, centre, n.diameter_mm)[0]:
            raise ValueError(
                f"A nodule of {n.diameter_mm} mm at ({n.x_mm}, {n.y_mm}) is not whole inside the "
                f"{n.side} {n.lobe} lobe of patient {self.seed} at level {self.level!r}, "
                f"{CLEARANCE_MM:g} mm from its edge; move it or take one of `sample_phantoms`."
            )

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Phantom:
        """The inverse of `to_dict`."""
        nodule = values["nodule"]
        return cls(values["level"], nodule and Nodule(**nodule), values["seed"])


def _fits(
    slice_: Anatomy, side: str, lobe: str, centres: Tensor, diameter_mm: float, points: int = 24
) -> Tensor:
    """(N,) whether discs at (N, 2) centres in mm lie inside a lobe, with `CLEARANCE_MM` around."""
    angles = torch.arange(points) * (2 * math.pi / points)
    rim = (diameter_mm / 2 + CLEARANCE_MM) * torch.stack((angles.cos(), angles.sin()))
    x, y = (centres[:, axis, None] + torch.cat((torch.zeros(1), rim[axis])) for axis in (0, 1))
    return (body.lobe_distance(x, y, slice_, side, lobe) <= 0).all(dim=1)


def _sample_nodule(rng: random.Random, level: str, seed: int, tries: int = 256) -> Nodule | None:
    """A nodule anywhere in its lobe, or None when `tries` random places were all too narrow."""
    slice_ = anatomy(level, seed)
    side = rng.choice(SIDES)
    lobe = rng.choice(body.lobe_names(level, side))
    low, high = (math.log(d) for d in DIAMETERS_MM)
    diameter = round(math.exp(rng.uniform(low, high)))  # small ones are the usual ones
    x, y, a, b, _ = slice_.parts["cavity"]
    spots = [(x + rng.uniform(-a, a), y + rng.uniform(-b, b)) for _ in range(tries)]
    spots = [(round(x, 1), round(y, 1)) for x, y in spots]
    fitting = _fits(slice_, side, lobe, torch.tensor(spots), diameter).nonzero()
    if len(fitting) == 0:
        return None
    return Nodule(side, lobe, float(diameter), *spots[int(fitting[0])])


def sample_phantoms(n: int, seed: int) -> list[Phantom]:
    """`n` phantoms of as many patients, `WITHOUT_NODULE` of them healthy; deterministic."""
    rng = random.Random(seed)
    made: list[Phantom] = []
    while len(made) < n:
        level, patient = rng.choice(list(LEVELS)), rng.randrange(2**31)
        if rng.random() < WITHOUT_NODULE:
            made.append(Phantom(level, None, patient))
            continue
        nodule = None
        while nodule is None:
            nodule = _sample_nodule(rng, level, patient)
        made.append(Phantom(level, nodule, patient))
    return made


def caption(phantom: Phantom, rng: random.Random, held_out_template: bool = False) -> str:
    """Say what a slice shows: always side, lobe and size in whole mm, the level now and then.

    `held_out_template` wraps the words in a sentence that training never uses. A slice without a
    nodule has no such sentence.
    """
    where = f" {LEVEL_PHRASES[phantom.level]}" if rng.random() < 0.4 else ""
    n = phantom.nodule
    if n is None:
        return rng.choice(NO_NODULES) + (where and "," + where)
    size = round(n.diameter_mm)
    article = "an" if size in (8, 11, 18) else "a"
    said = rng.choice(NODULES).format(article=article, size=size, side=n.side, lobe=n.lobe)
    template = rng.choice(HELD_OUT_TEMPLATES if held_out_template else TEMPLATES)
    return template.format(nodule=said) + (where and "," + where)
