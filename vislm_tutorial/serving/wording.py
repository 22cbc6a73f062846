"""Captions as people type them: their words, other words in their place, and what they ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..data.captions import NUMBERS, plural
from ..data.scenes import BACKGROUNDS, COLOURS, FILLS, PLACES, SHAPES, SIZES
from ..evaluation import Clause, Prompt

_WORD = re.compile(r"[^\W\d_]+")
_RELATIONS = {
    "left of": r"(?:to the )?left of",
    "right of": r"(?:to the )?right of",
    "above": "above|over",
    "below": "below|under",
}
# Words around what is asked for, which ask for nothing themselves.
_FILLERS = set(
    "picture image drawing photo of we see draw with that shows simple shapes and is it this "
    "please paint for me could you sketch i would love to on the canvas find show a an".split()
)


def words_of(caption: str) -> list[str]:
    """The words of a caption in small letters, without digits and signs."""
    return _WORD.findall(caption.lower())


@dataclass(frozen=True)
class Translation:
    """A caption with other words in some places.

    Attributes:
        text: the result.
        edits: (start, end) in the caption and (start, end) in the result, for each place.
    """

    text: str
    edits: tuple[tuple[int, int, int, int], ...]


def translate(caption: str, words: Mapping[str, str]) -> Translation:
    """Put other words, or phrases, into a caption: with {"crimson": "red"}, "a red circle".

    Plurals are translated as plurals, and "a" or "an" before a translated word follows it. Words
    are found in capital and in small letters.

    Raises:
        ValueError: if a word, or what is put in its place, is empty.
    """
    check_words(words)
    words = {old.lower(): new for old, new in words.items()}
    table = {**{plural(old): plural(new) for old, new in words.items()}, **words}
    if not table:
        return Translation(caption, ())
    phrases = "|".join(re.escape(old) for old in sorted(table, key=len, reverse=True))
    text, edits, last = "", [], 0
    for found in re.finditer(rf"\b(?:(an?)\s+)?({phrases})\b", caption, re.I):
        new = table[found[2].lower()]
        article = "an" if new[0].lower() in "aeiou" else "a"
        places = [(*found.span(1), article)] if found[1] else []
        for start, end, put in [*places, (*found.span(2), new)]:
            text += caption[last:start]
            edits.append((start, end, len(text), len(text) + len(put)))
            text, last = text + put, end
    return Translation(text + caption[last:], tuple(edits))


def check_words(words: Mapping[str, str]) -> None:
    """Raises a ValueError if a word, or what is put in its place, is empty."""
    for old, new in words.items():
        if not (old.strip() and new.strip()):
            raise ValueError(
                f"{old!r} means {new!r}: one of the two is empty; expected a word on both sides, "
                "as in `crimson: red`."
            )


def understood(caption: str, labels: Mapping[str, str] | None = None) -> Prompt | None:
    """What a caption asks for, as ExactEval judges it; None if a part of it is not understood.

    Counts, colours, shapes, and the relation of two objects are judged; sizes, fills, places in
    the picture and the background are understood, and not judged.

    Args:
        labels: new word -> known word, given by a person.
    """
    text = translate(caption, labels or {}).text.lower()
    text = re.sub(rf"\bon an? ({'|'.join(BACKGROUNDS)}) background\b", " ", text)
    text = re.sub("|".join(PLACES), " ", text)
    groups = list(_GROUP.finditer(text))
    shapes = [group["shape"] for group in groups]
    rest = _GROUP.sub(" @ ", text)
    relation = None
    for name, pattern in _RELATIONS.items():
        rest, count = re.subn(rf"@ +(?:that )?(?:is )?(?:{pattern}) +@", "@ @", rest)
        relation = name if count else relation
    known = set(words_of(rest)) <= _FILLERS
    if not groups or not known or len(set(shapes)) < len(shapes) or (relation and len(groups) > 2):
        return None
    clauses = tuple(_clause(group) for group in groups)
    if relation:
        first, second = clauses
        clauses = (second, Clause(first.shape, first.count, first.colour, (relation, 0)))
    counted = [clause for clause in clauses if clause.count > 1]
    exclude = tuple(Clause(clause.shape, clause.count + 1) for clause in counted)
    return Prompt(caption, clauses, exclude, "typed")


_COUNTS = {"a": 1, "an": 1, "one": 1} | {word: number for number, word in NUMBERS.items()}
_GROUP = re.compile(
    rf"\b(?P<count>{'|'.join(_COUNTS)}) +(?:(?:{'|'.join(SIZES)}) +)?(?:(?:{'|'.join(FILLS)}) +)?"
    rf"(?:(?P<colour>{'|'.join(COLOURS)}) +)?(?P<shape>{'|'.join(SHAPES)})(?:e?s)?\b"
)


def _clause(group: re.Match) -> Clause:
    return Clause(group["shape"], _COUNTS[group["count"]], group["colour"])
