"""Captions that a person still understands, or no longer does: typing errors and mixed words."""

from __future__ import annotations

import random
from collections.abc import Container

from ..data.scenes import COLOURS, SHAPES

CONTENT = frozenset((*COLOURS, *SHAPES))


def misspelt(caption: str, rng: random.Random, words: Container[str] = CONTENT) -> str:
    """The caption with one typing error: in one of `words` a letter is doubled, lost, or two swap.

    The first letter stays, as it mostly does when people type. A result that is another of
    `words` is drawn again.

    Raises:
        ValueError: if the caption has none of `words`.
    """
    said = caption.split(" ")
    places = [i for i, word in enumerate(said) if word in words and len(word) > 2]
    if not places:
        raise ValueError(f"{caption!r} has no word in which an error was asked for.")
    i = rng.choice(places)
    wrong = said[i]
    while wrong == said[i] or wrong in words:
        wrong = _error(said[i], rng)
    return " ".join([*said[:i], wrong, *said[i + 1 :]])


def _error(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word))
    kind = rng.choice(("double", "lose", "swap"))
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    if kind == "lose":
        return word[:at] + word[at + 1 :]
    at = min(at, len(word) - 2)  # "red" -> "rde"
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def reordered(caption: str, rng: random.Random) -> str:
    """The caption's words in another order, drawn at random among those that differ.

    Raises:
        ValueError: if all its words are equal, so that there is no other order.
    """
    said = caption.split(" ")
    if len(set(said)) < 2:
        raise ValueError(f"{caption!r} has no other order of its words.")
    mixed = said
    while mixed == said:
        mixed = rng.sample(said, len(said))
    return " ".join(mixed)
