"""One word of a caption moves: what in the picture moves with it?

A `Look` is a picture, or a wish for one, as seven attributes that a caption can name one by one.
The difference of two looks says what changed between two pictures.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace

from vislm_tutorial.data.captions import NUMBERS, plural, with_article
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    FILLS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    held_out_pairs,
    place,
)

from .report import Score

MIXED = "mixed"  # the value of an attribute in which the objects of a picture differ
VALUES = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "fill": FILLS,
    "count": tuple(range(1, MAX_OBJECTS + 1)),
    "place": tuple(PLACES),
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True)
class Look:
    """What a picture shows, or what one wants to see, by attribute.

    Attributes:
        colour, shape, size, fill: of all objects; `MIXED` where they differ, None without objects.
        count: the number of objects, 0 to 4.
        place: of the only object, one of `scenes.PLACES`; None if it stands between them, and where
            there is not exactly one object.
        background: one of `scenes.BACKGROUNDS`.
    """

    colour: str | None
    shape: str | None
    size: str | None
    fill: str | None
    count: int
    place: str | None
    background: str

    @classmethod
    def of(cls, scene: Scene) -> Look:
        """The look of a scene, such as the parser reads from a picture."""
        same = {
            name: _common([getattr(o, name) for o in scene.objects])
            for name in ("colour", "shape", "size", "fill")
        }
        only = scene.objects[0] if len(scene.objects) == 1 else None
        return cls(
            **same,
            count=len(scene.objects),
            place=place(only) if only else None,
            background=scene.background,
        )

    def caption(self, told: Sequence[str] = tuple(VALUES)) -> str:
        """A caption in the words of the training captions.

        Args:
            told: the attributes that it names, in any order. Shape and count are always named, a
                place of None never.

        Raises:
            ValueError: for a look that no caption of this form describes: none or mixed objects.
        """
        if self.count < 1 or MIXED in (self.colour, self.shape, self.size, self.fill):
            raise ValueError(f"{self} has no caption: its objects are none or differ.")
        adjectives = [getattr(self, name) for name in ("size", "fill", "colour") if name in told]
        if self.count == 1:
            text = with_article(" ".join([*adjectives, self.shape]))
        else:
            text = " ".join([NUMBERS[self.count], *adjectives, plural(self.shape)])
        if "place" in told and self.place:
            text += f" {self.place}"
        if "background" in told:
            text += f" on {with_article(self.background)} background"
        return text

    def moved(self, attribute: str, rng: random.Random) -> Look:
        """The same with another value of one attribute, drawn evenly; never a held-out pair.

        A moved count takes the place away: no caption says where several objects stand.
        """
        if attribute not in VALUES:
            raise ValueError(f"attribute is {attribute!r}; choose one of {', '.join(VALUES)}.")
        others = [v for v in VALUES[attribute] if v != getattr(self, attribute)]
        looks = [replace(self, **{attribute: value}) for value in others]
        if attribute == "count":
            looks = [replace(look, place=None) for look in looks]
        return rng.choice([x for x in looks if (x.colour, x.shape) not in held_out_pairs()])

    def differs(self, other: Look) -> set[str]:
        """The attributes in which two looks differ."""
        names = (field.name for field in fields(self))
        return {name for name in names if getattr(self, name) != getattr(other, name)}


def _common(values: Sequence[str]) -> str | None:
    """The one value that all have, `MIXED`, or None when there is none."""
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else MIXED


def share(flags: Sequence[bool]) -> Score:
    """The share of True with Wilson's 95 % interval, which keeps a width at 0 and 1 (Wilson 1927).

    Raises:
        ValueError: if there are no flags.
    """
    n = len(flags)
    if not n:
        raise ValueError("share got no flags; expected at least one.")
    p, z = sum(map(bool, flags)) / n, 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # Rounding must not push the value out of its own interval.
    return Score(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), n)


def entropy(labels: Sequence[Hashable]) -> float:
    """Entropy in bits of how often each label occurs (Shannon 1948); 0 when all are the same.

    Of n labels from a distribution with K values it is too low by about (K - 1) / (2 n ln 2) bits
    on average: compare only what was computed from equally many.

    Raises:
        ValueError: if there are no labels.
    """
    if not labels:
        raise ValueError("entropy got no labels; expected at least one.")
    shares = [number / len(labels) for number in Counter(labels).values()]
    return -sum(p * math.log2(p) for p in shares) + 0.0  # + 0.0: never -0.0
