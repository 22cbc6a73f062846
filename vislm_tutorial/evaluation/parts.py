"""Is the skill at a combination the product of its parts' skills?

Okawa et al. 2023 (arXiv 2310.09336) ask it of diffusion models on drawn shapes. Here a caption asks
for one object by four parts, and each part of its drawing is judged without regard to the others:
ExactEval's own rule lets a colour fail where the shape is wrong, which would tie the parts together
before the model does.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import product

import numpy as np

from vislm_tutorial.data.captions import with_article
from vislm_tutorial.data.parsing import RESIDUAL_LIMIT, Reading
from vislm_tutorial.data.scenes import PLACES, SIZES, Scene, arrange, place

from .scores import ROUNDS, Score, score_of

PARTS = ("shape", "colour", "size", "place")


@dataclass(frozen=True)
class Wish:
    """One object, asked for by its four parts; the values are those of `data.scenes`."""

    shape: str
    colour: str
    size: str
    place: str

    @property
    def text(self) -> str:
        """The caption: "a small red star in the centre"."""
        return f"{with_article(f'{self.size} {self.colour} {self.shape}')} {self.place}"


def wishes(n: int, pairs: Iterable[tuple[str, str]], seed: int = 0) -> list[Wish]:
    """`n` wishes whose (colour, shape) is one of `pairs`: all there are, in random order, repeated.

    Raises:
        ValueError: if n is below 1 or there are no pairs.
    """
    space = [Wish(s, c, size, where) for (c, s), size, where in product(pairs, SIZES, PLACES)]
    if n < 1 or not space:
        raise ValueError(f"n is {n}, of {len(space)} wishes; expected at least one of each.")
    random.Random(seed).shuffle(space)
    return [space[i % len(space)] for i in range(n)]


def scene_of(wish: Wish, rng: random.Random) -> Scene:
    """A scene that shows what is asked for: solid, on white, near the asked place."""
    kind = {"shape": wish.shape, "colour": wish.colour, "size": wish.size, "fill": "solid"}
    while True:  # most places are the asked one after a few tries
        objects = arrange(rng, [kind])
        if objects is not None and place(objects[0]) == wish.place:
            return Scene("white", objects)


def parts_right(wish: Wish, reading: Reading) -> tuple[bool, ...]:
    """For each of `PARTS`, whether the drawing has it; and last, whether its object is clear.

    Judged is the object that resembles a shape best. A torn one is given its nearest name, which is
    right by chance in some; with nothing found, every part is wrong.
    """
    if not reading.objects:
        return (False,) * (len(PARTS) + 1)
    residual, found = min(zip(reading.residuals, reading.objects, strict=True), key=lambda f: f[0])
    seen = (found.shape, found.colour, found.size, place(found))
    right = (asked == has for asked, has in zip(astuple(wish), seen, strict=True))
    return (*right, residual <= RESIDUAL_LIMIT)


def patterns(right: Sequence[Sequence[bool]]) -> dict[str, int]:
    """How many drawings had which parts right: {"11011": 7, ...}, as JSON keeps it."""
    names = ["".join("01"[bool(value)] for value in row) for row in right]
    return {name: names.count(name) for name in sorted(set(names))}


def table_of(counts: Mapping[str, int]) -> np.ndarray:
    """The inverse of `patterns`, in sorted order: (drawings, len(PARTS) + 1) of bool."""
    rows = [[letter == "1" for letter in name] for name, n in counts.items() for _ in range(n)]
    return np.array(rows, dtype=bool)


def skills(right: np.ndarray, seed: int = 0) -> dict[str, Score]:
    """Shares, and differences of shares, with bootstrap intervals over drawings.

    Args:
        right: (drawings, parts + 1) of bool: the parts, and last whether the object is clear.

    Returns:
        "clear": how many objects are; "all": how many are clear and right in every part;
        "product": of the parts' shares; "given clear": P(clear) times the product of the parts'
        shares among clear drawings, 0 where none is; "gap" and "gap given clear": "all" minus
        each. A gap of 0 is what parts give that succeed and fail regardless of each other: without
        more ado, or once a drawing is clear.
    """
    rows = np.random.default_rng(seed).integers(len(right), size=(ROUNDS, len(right)))
    here, drawn = _skills(right[None]), _skills(right[rows])
    return {name: score_of(here[name][0], drawn[name], len(right)) for name in here}


def _skills(right: np.ndarray) -> dict[str, np.ndarray]:
    """Of tables (rounds, drawings, parts + 1), each number as (rounds,)."""
    parts, clear = right[..., :-1], right[..., -1]
    whole, drawn = right.all(axis=-1).mean(axis=-1), clear.mean(axis=-1)
    product_ = parts.mean(axis=-2).prod(axis=-1)
    among = (parts & clear[..., None]).mean(axis=-2) / np.maximum(drawn, 1e-9)[..., None]
    given = drawn * among.prod(axis=-1)
    return {
        "clear": drawn,
        "all": whole,
        "product": product_,
        "given clear": given,
        "gap": whole - product_,
        "gap given clear": whole - given,
    }


def reached(steps: Sequence[int], shares: Sequence[float], level: float) -> float:
    """After how many steps a share first reached `level`, in a line between marks over log steps.

    Returns nan where it never did, and the first mark where it had by then.
    """
    above = [i for i, share in enumerate(shares) if share >= level]
    if not above:
        return float("nan")
    last = above[0]
    if last == 0:
        return float(steps[0])
    low, high = shares[last - 1], shares[last]
    along = (level - low) / (high - low)
    return float(steps[last - 1] * (steps[last] / steps[last - 1]) ** along)
