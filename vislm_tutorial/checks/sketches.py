"""Checks of the exercises of the page on a worksheet and a voice."""

from __future__ import annotations

from collections.abc import Callable

from ..speech import word_errors
from .report import Mistake, call, compare, passed

SPOKEN = (
    ("a red circle", "a red circle"),
    ("a red circle", "a bread circle"),
    ("a red circle left of a star", "a red circle of a star"),
    ("red star", "a red star"),
    ("a cyan cross", "see and cross"),
    ("a red circle", ""),
    ("star", "as far as"),
    ("a small red circle", "small red circle"),
)
PAIRS = (
    ("a red circle", "a blue circle", True),
    ("a red circle", "a red circle", False),
    ("a red circle", "an orange circle", False),
    ("a red circle", "a red", False),
    ("a red circle", "a red circle above", False),
    ("a blue circle", "a red circle above", False),
    ("blue above red", "red above blue", False),
    ("two stars", "two start", True),
)


def check_word_error_rate(word_error_rate: Callable) -> None:
    """`word_error_rate(said, heard)`: the fewest changes of words, over the words that were said.

    Raises:
        CheckFailed: naming the mistake.
    """
    for said, heard in SPOKEN:
        a, b = said.split(), heard.split()
        changes = word_errors(a, b)
        pairs = sum(x != y for x, y in zip(a, b, strict=False))
        mistakes = [
            Mistake(
                word_errors(list(said), list(heard)) / len(said),
                "Those are letters. Words are counted: split the strings.",
            ),
            Mistake(
                float(changes), "That is how many changes. Divide by the words that were said."
            ),
            Mistake(
                changes / max(len(a), len(b)),
                "You divided by the longer one. It is the number of words that were said.",
            ),
            Mistake(
                changes / max(1, len(b)),
                "You divided by the words that were heard; those that were said count.",
            ),
            Mistake(
                pairs / len(a),
                "Words were compared place by place, and the ends left out: one lost word shifts "
                "all that follow. Look for the fewest changes.",
            ),
            Mistake(
                (pairs + abs(len(a) - len(b))) / len(a),
                "Words were compared place by place: one lost word makes all that follow wrong. "
                "Look for the fewest changes.",
            ),
            Mistake(
                1 - changes / len(a), "That is the share of right words. Errors were asked for."
            ),
        ]
        what = f"word_error_rate({said!r}, {heard!r})"
        compare(call(word_error_rate, said, heard), changes / len(a), mistakes, what)
    passed("the fewest words put in, taken out or exchanged, over those that were said.")


def check_one_word_apart(one_word_apart: Callable) -> None:
    """`one_word_apart(a, b)`: whether two sentences differ in exactly one word.

    Raises:
        CheckFailed: naming the mistake.
    """
    for a, b, right in PAIRS:
        first, second = a.split(), b.split()
        differ = sum(x != y for x, y in zip(first, second, strict=False))
        mistakes = [
            Mistake(
                differ == 1,
                "One sentence is longer than the other: zip stops at the shorter. Compare lengths.",
            ),
            Mistake(
                len(first) == len(second) and differ <= 1,
                "Equal sentences differ in no word. Exactly one was asked for.",
            ),
            Mistake(
                len(set(first) ^ set(second)) <= 2 and a != b,
                "Sets forget order and number of words. Compare word by word.",
            ),
            Mistake(
                len(first) == len(second) and differ >= 1, "More than one word differs: one only."
            ),
        ]
        compare(call(one_word_apart, a, b), right, mistakes, f"one_word_apart({a!r}, {b!r})")
    passed("as many words, and all but one the same.")
