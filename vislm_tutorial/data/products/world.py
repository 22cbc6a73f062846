"""A world of parametric products: every picture is a drawing of things measured in millimetres.

A `Product` is a kind, a colour and four or five measures. A caption says a measure only where it
lies in the low or the high third of its range ("tall", "a small handle"), so words and numbers can
be compared exactly. `product_rendering` draws a product, `product_fitting` measures a picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from .. import scenes

COLOURS = {
    name: scenes.COLOURS[name] for name in ("red", "orange", "yellow", "green", "blue", "purple")
}
BACKGROUND = scenes.BACKGROUNDS["white"]


@dataclass(frozen=True)
class Measure:
    """One measure of a kind: its range in millimetres, and the words for the outer thirds.

    `part` is what the words describe; empty for the product as a whole.
    """

    low: float
    high: float
    low_word: str
    high_word: str
    part: str = ""

    @property
    def range(self) -> float:
        """Width of the range in millimetres."""
        return self.high - self.low


MEASURES = {
    "mug": {
        "height": Measure(70, 120, "short", "tall"),
        "width": Measure(60, 96, "narrow", "wide"),
        "handle_height": Measure(36, 62, "small", "large", "handle"),
        "handle_depth": Measure(18, 36, "shallow", "deep", "handle"),
    },
    "chair": {
        "seat_height": Measure(330, 510, "low", "high", "seat"),
        "seat_depth": Measure(330, 540, "shallow", "deep", "seat"),
        "back_height": Measure(240, 480, "low", "high", "back"),
        "leg_width": Measure(30, 84, "thin", "thick", "legs"),
    },
    "lamp": {
        "height": Measure(290, 440, "short", "tall"),
        "shade_width": Measure(180, 330, "narrow", "wide", "shade"),
        "shade_height": Measure(90, 180, "low", "high", "shade"),
        "shade_top_width": Measure(70, 160, "small", "large", "shade top"),
        "base_width": Measure(84, 210, "narrow", "wide", "base"),
    },
    "sneaker": {
        "length": Measure(220, 322, "short", "long"),
        "collar_height": Measure(112, 184, "low", "high", "collar"),
        "toe_height": Measure(34, 64, "flat", "high", "toe"),
        "sole_thickness": Measure(14, 44, "thin", "thick", "sole"),
    },
}
KINDS = tuple(MEASURES)
# Millimetres per pixel of a 64-pixel picture: each kind has its own fixed scale and fills the
# picture well, and no measure can be hidden by zooming.
SCALES = {"mug": 2.5, "chair": 18.0, "lamp": 8.0, "sneaker": 6.0}
LEVELS = ("low", "middle", "high")
GAP = 0.05  # of the range: no sampled measure is nearer than this to a border of two thirds
TEMPLATES = ("{}", "{}", "{}", "a picture of {}", "a drawing of {}", "{}, side view")


@dataclass(frozen=True)
class Product:
    """One product. `measures` are millimetres in the order of `MEASURES[kind]`."""

    kind: str
    colour: str
    measures: tuple[float, ...]

    def __post_init__(self):
        for field, allowed in (("kind", KINDS), ("colour", COLOURS)):
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} is {value!r}; choose one of {', '.join(allowed)}.")
        known = MEASURES[self.kind]
        if len(self.measures) != len(known):
            raise ValueError(
                f"A {self.kind} has {len(known)} measures ({', '.join(known)}), "
                f"not {len(self.measures)}."
            )
        object.__setattr__(self, "measures", tuple(float(value) for value in self.measures))
        for name, value in self.named.items():
            low, high = known[name].low, known[name].high
            if not low <= value <= high:  # also refuses what is not a number
                raise ValueError(
                    f"{name} of a {self.kind} is {value:g} mm; expected {low:g} to {high:g} mm."
                )

    @property
    def named(self) -> dict[str, float]:
        """The measures by name, in millimetres."""
        return dict(zip(MEASURES[self.kind], self.measures, strict=True))

    def to_dict(self) -> dict:
        """Plain values, ready for JSON; the measures by name."""
        return {"kind": self.kind, "colour": self.colour, "measures": self.named}

    @classmethod
    def from_dict(cls, values: dict) -> Product:
        """The inverse of `to_dict`; the measures may come in any order.

        Raises:
            ValueError: if a measure is missing or unknown, or for an invalid value.
        """
        kind, measures = values["kind"], values["measures"]
        known = MEASURES.get(kind, measures)  # an unknown kind is refused below, by its own name
        if set(measures) != set(known):
            raise ValueError(
                f"The measures of a {kind} are {', '.join(known)}, not {', '.join(measures)}."
            )
        return cls(kind, values["colour"], tuple(measures[name] for name in known))


# --- meaning -------------------------------------------------------------------------------------


def third(kind: str, name: str, value: float) -> str:
    """Which of `LEVELS` a measure in millimetres is: the third of its range that it lies in."""
    measure = MEASURES[kind][name]
    return LEVELS[min(max(int(3 * (value - measure.low) / measure.range), 0), 2)]


def said(product: Product) -> dict[str, str]:
    """The measures that a caption says, each "low" or "high". A middle one is not mentioned."""
    levels = {name: third(product.kind, name, value) for name, value in product.named.items()}
    return {name: level for name, level in levels.items() if level != "middle"}


@cache
def held_out_pairs() -> frozenset[tuple[str, str]]:
    """The (colour, kind) pairs that training never shows: 4 of 24, all different."""
    colours = list(COLOURS)
    return frozenset((colours[(2 * i + i // 3) % 6], kind) for i, kind in enumerate(KINDS))


@cache
def training_pairs() -> tuple[tuple[str, str], ...]:
    """All (colour, kind) pairs but the held-out ones."""
    pairs = ((colour, kind) for colour in COLOURS for kind in KINDS)
    return tuple(pair for pair in pairs if pair not in held_out_pairs())


# --- grammar -------------------------------------------------------------------------------------


def _sample_measure(rng: random.Random, measure: Measure) -> int:
    """Whole millimetres from the low, middle or high third, each as likely."""
    level = rng.randrange(3)
    start = level / 3 + (GAP if level > 0 else 0)
    stop = (level + 1) / 3 - (GAP if level < 2 else 0)
    return rng.randint(
        math.ceil(measure.low + start * measure.range),
        math.floor(measure.low + stop * measure.range),
    )


def sample_products(
    n: int, seed: int, pairs: Iterable[tuple[str, str]] | None = None
) -> list[Product]:
    """`n` products; the same seed gives the same products.

    `pairs` are the allowed (colour, kind) pairs; default: all that training may show, so never one
    of `held_out_pairs`. Measures are whole millimetres and keep `GAP` from the thirds' borders.
    """
    rng = random.Random(seed)
    allowed = training_pairs() if pairs is None else sorted(pairs)
    products = []
    for _ in range(n):
        colour, kind = rng.choice(allowed)
        measures = tuple(_sample_measure(rng, m) for m in MEASURES[kind].values())
        products.append(Product(kind, colour, measures))
    return products


# --- words ---------------------------------------------------------------------------------------


def _list(phrases: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _adjectives(product: Product) -> dict[str, list[str]]:
    """Part -> the words said of it; the product as a whole is the part ""."""
    words: dict[str, list[str]] = {}
    for name, level in said(product).items():
        measure = MEASURES[product.kind][name]
        word = measure.low_word if level == "low" else measure.high_word
        words.setdefault(measure.part, []).append(word)
    return words


def _with_article(phrase: str) -> str:
    if phrase.endswith("legs"):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe(product: Product) -> str:
    """The plainest words for all that is judged: "a tall blue mug with a large, deep handle"."""
    return _describe(product, after=False)


def _describe(product: Product, after: bool) -> str:
    words = _adjectives(product)
    whole = words.pop("", [])
    noun = f"{product.colour} {product.kind}"
    if after and whole:
        text = f"{_with_article(noun)} that is {_list(whole)}"
    else:
        text = _with_article(" ".join(filter(None, (", ".join(whole), noun))))
    if words:
        parts = [_with_article(f"{', '.join(said_)} {part}") for part, said_ in words.items()]
        text += f"{', with' if after and whole else ' with'} {_list(parts)}"
    return text


def caption(product: Product, rng: random.Random) -> str:
    """Say what a product looks like: kind, colour, and every measure that `said` holds."""
    return rng.choice(TEMPLATES).format(_describe(product, after=rng.random() < 0.25))
