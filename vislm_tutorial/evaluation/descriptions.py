"""Descriptions in anybody's words, each with the picture that is meant (page 3.2).

Three kinds: "plain" says the words of the captions in other sentences, "synonyms" says words that
no caption of the training data has, "described" says what is meant without naming it. Two ways to
make a caption of them stand beside them: examples for a language model, and rules.

The examples were changed after answers to `DEVELOPMENT` had been read, so nothing is measured on
those. `DESCRIPTIONS` were written afterwards, and frozen before any answer to them was seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from vislm_tutorial.data.captions import (
    COLOUR_SYNONYMS,
    NUMBERS,
    SHAPE_SYNONYMS,
    plural,
    with_article,
)
from vislm_tutorial.data.parsing import Reading
from vislm_tutorial.data.scenes import COLOURS, PLACES, SHAPES, place


@dataclass(frozen=True)
class Description:
    """Words, and what they mean: `count` objects of one colour and shape, one alone at a place."""

    text: str
    kind: str
    colour: str
    shape: str
    count: int = 1
    place: str = ""  # one of `scenes.PLACES`; "": anywhere

    @property
    def caption(self) -> str:
        """The same as a caption of the training data says it."""
        return instruction(self.colour, self.shape, self.count, self.place)

    def shown_by(self, reading: Reading) -> bool:
        """Whether a picture shows what is meant, and no other object that can be made out."""
        found = reading.clear
        return len(found) == self.count and all(
            (o.colour, o.shape) == (self.colour, self.shape) and self.place in ("", place(o))
            for o in found
        )


def instruction(colour: str, shape: str, count: int = 1, place: str = "") -> str:
    """("red", "circle", 1, "in the centre") -> "a red circle in the centre"."""
    words = f"{colour} {shape}".strip()
    said = with_article(words) if count == 1 else f"{NUMBERS[count]} {plural(words)}"
    return f"{said} {place}".strip()


def instructions() -> list[str]:
    """Every caption that `instruction` can make, 432 of them: what a drawing may be asked for."""
    kinds = list(product(COLOURS, SHAPES))
    alone = [instruction(*kind, 1, where) for kind in kinds for where in ("", *PLACES)]
    return alone + [instruction(*kind, count) for kind in kinds for count in NUMBERS]


TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT, CENTRE = PLACES
_OLD_PLAIN = (
    ("there should be a circle, and it should be red", "red", "circle"),
    (
        "I want a star in the picture. Make it yellow and put it in the top right corner.",
        "yellow",
        "star",
        1,
        TOP_RIGHT,
    ),
    ("squares, please: two of them, both blue", "blue", "square", 2),
    ("the shape is a triangle, the colour is green", "green", "triangle"),
    (
        "in the bottom left corner I would like a cross, a purple one",
        "purple",
        "cross",
        1,
        BOTTOM_LEFT,
    ),
    ("a diamond. Its colour: orange", "orange", "diamond"),
    ("can you do circles? I need three, in cyan", "cyan", "circle", 3),
    ("in the centre of the page goes a square that is pink", "pink", "square", 1, CENTRE),
)
_OLD_SYNONYMS = (
    ("a crimson ball would be nice", "red", "circle"),
    ("put an emerald box in the upper left", "green", "square", 1, TOP_LEFT),
    ("I am thinking of a golden pentagram", "yellow", "star"),
    ("two azure discs, side by side", "blue", "circle", 2),
    ("show me a violet wedge", "purple", "triangle"),
    ("a rosy lozenge right in the middle", "pink", "diamond", 1, CENTRE),
    ("a turquoise plus sign, lower right", "cyan", "cross", 1, BOTTOM_RIGHT),
    ("three scarlet blocks", "red", "square", 3),
)
_OLD_DESCRIBED = (
    ("there should be something round and red, in the upper left", "red", "circle", 1, TOP_LEFT),
    ("a shape with three corners, the colour of grass", "green", "triangle"),
    ("what twinkles in the night sky, drawn in yellow", "yellow", "star"),
    ("four equal sides, as blue as the sea", "blue", "square"),
    ("the sign for adding two numbers, in purple", "purple", "cross"),
    ("a pair of round things, as green as peas", "green", "circle", 2),
    (
        "a square turned on its corner, pink as a flamingo, in the very middle",
        "pink",
        "diamond",
        1,
        CENTRE,
    ),
    ("one ripe tomato seen from afar, bottom right corner", "red", "circle", 1, BOTTOM_RIGHT),
)
_PLAIN = (
    ("please give me a triangle. I want it blue.", "blue", "triangle"),
    ("cross, green, top left corner", "green", "cross", 1, TOP_LEFT),
    ("what I have in mind are stars, three of them, every one pink", "pink", "star", 3),
    ("purple it must be, and a circle", "purple", "circle"),
    (
        "I would like to see a diamond in the bottom right corner, coloured cyan",
        "cyan",
        "diamond",
        1,
        BOTTOM_RIGHT,
    ),
    ("the picture has a square and nothing else; the square is red", "red", "square"),
    ("make two triangles, and make both of them orange", "orange", "triangle", 2),
    ("a circle that is yellow, and it sits in the centre", "yellow", "circle", 1, CENTRE),
    ("green is the colour and star is the shape", "green", "star"),
    ("in the top right corner, a square. Colour: purple.", "purple", "square", 1, TOP_RIGHT),
)
_SYNONYMS = (
    ("draw me an aqua disc", "cyan", "circle"),
    ("I'd love a salmon box, in the lower right", "pink", "square", 1, BOTTOM_RIGHT),
    ("a scarlet pentagram in the middle of it", "red", "star", 1, CENTRE),
    ("two golden wedges next to each other", "yellow", "triangle", 2),
    ("how about an emerald lozenge?", "green", "diamond"),
    ("a violet block, upper left please", "purple", "square", 1, TOP_LEFT),
    ("three azure plus signs", "blue", "cross", 3),
    ("some crimson lozenge would do", "red", "diamond"),
    ("picture a turquoise ball in the lower left", "cyan", "circle", 1, BOTTOM_LEFT),
    ("a rosy pentagram, upper right", "pink", "star", 1, TOP_RIGHT),
)
_DESCRIBED = (
    ("a full moon, only that it is blue", "blue", "circle"),
    ("the figure with five points, red as a rose", "red", "star"),
    ("it has three sides and the colour of an orange", "orange", "triangle"),
    ("one tile of a chessboard, in pink, top left corner", "pink", "square", 1, TOP_LEFT),
    ("the mark on a first aid kit, drawn in red", "red", "cross"),
    ("two wheels, as green as frogs", "green", "circle", 2),
    ("a die seen from one side, the colour of a canary", "yellow", "square"),
    ("the suit of cards that is red and not hearts", "red", "diamond"),
    (
        "what marks the treasure on a pirate's map, in cyan, bottom left corner",
        "cyan",
        "cross",
        1,
        BOTTOM_LEFT,
    ),
    (
        "the outline of a slice of pizza, purple like a plum, in the middle",
        "purple",
        "triangle",
        1,
        CENTRE,
    ),
)


def _all(plain: tuple, synonyms: tuple, described: tuple) -> tuple[Description, ...]:
    kinds = {"plain": plain, "synonyms": synonyms, "described": described}
    return tuple(Description(text, kind, *m) for kind, rows in kinds.items() for text, *m in rows)


DEVELOPMENT = _all(_OLD_PLAIN, _OLD_SYNONYMS, _OLD_DESCRIBED)
DESCRIPTIONS = _all(_PLAIN, _SYNONYMS, _DESCRIBED)

# What a language model is shown. No example has a word for a colour or a shape that one of the
# descriptions above has and a caption has not.
TASK = (
    "Turn each description into one drawing instruction. "
    f"Colours: {', '.join(COLOURS)}. Shapes: {', '.join(SHAPES)}. "
    "Places: in the centre, in the top left corner, in the top right corner, "
    "in the bottom left corner, in the bottom right corner."
)
EXAMPLES = (
    ("one cobalt square, please", "a blue square"),
    ("could you draw stars? there should be two, and they are red", "two red stars"),
    ("I see a lilac rhombus down on the left", "a purple diamond in the bottom left corner"),
    ("a pyramid as yellow as a lemon", "a yellow triangle"),
    ("something like a coin, but pink", "a pink circle"),
    ("three jade asterisks", "three green stars"),
    ("an X in the upper right, orange", "an orange cross in the top right corner"),
    ("it is a star and it is cyan", "a cyan star"),
    ("in the middle, a tangerine square", "an orange square in the centre"),
    ("a kite, apricot", "an orange diamond"),
)

_SIDES = {
    "top": "top",
    "upper": "top",
    "bottom": "bottom",
    "lower": "bottom",
    "left": "left",
    "right": "right",
}


def by_rules(text: str) -> str:
    """A caption from the words of a description that stand in the package's own lists.

    Colour and shape words with their synonyms, numbers, and words for places; of each the first
    counts, whatever stands around it. Without a shape the text comes back as it is.
    """
    words = re.findall(r"[a-z]+", text.lower())
    colour = _first(words, {name: (name, *COLOUR_SYNONYMS[name]) for name in COLOURS})
    shape = _first(words, {name: (name, *SHAPE_SYNONYMS[name]) for name in SHAPES})
    count = _first(words, {number: (word,) for number, word in NUMBERS.items()}) or 1
    sides = [_SIDES[word] for word in words if word in _SIDES]
    where = " ".join(["in the", *sides[:2], "corner"])
    if {"centre", "middle"} & set(words):
        where = CENTRE
    if not shape:
        return text
    alone = count == 1 and where in PLACES
    return instruction(colour or "", shape, count, where if alone else "")


def _first(words: list[str], names: dict) -> str | int | None:
    """The name of which the earliest word is said, alone or in the plural."""
    said = {form: name for name, own in names.items() for one in own for form in (one, plural(one))}
    return next((said[word] for word in words if word in said), None)
