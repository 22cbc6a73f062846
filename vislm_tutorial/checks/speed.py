"""Checks of the exercises of the page on which generator learns fastest."""

from __future__ import annotations

import math
from collections.abc import Callable

from .report import Mistake, call, compare, passed

_NONE_AS_GOOD = [
    Mistake(40.0, "No run is that good, so there is no time to give: math.inf, not the longest."),
    Mistake(0.0, "No run is that good: it takes for ever, not no time."),
]


def _slips(rows: list[tuple[float, float]], score: float) -> list[Mistake]:
    mistakes = [
        Mistake(
            min(rows, key=lambda row: abs(row[1] - score))[0],
            "That run is the nearest to the score. It has to be at least as good.",
        ),
        Mistake(
            next(minutes for minutes, reached in rows if reached >= score),
            "That is the first in the list that is good enough. The runs come in any order.",
        ),
    ]
    ordered = sorted(rows)
    for (start, low), (end, high) in zip(ordered, ordered[1:], strict=False):
        if low < score < high:
            between = start + (score - low) / (high - low) * (end - start)
            told = "That lies on the line between two runs: no run ended there."
            mistakes.append(Mistake(between, told))
    return mistakes


def check_minutes_to(minutes_to: Callable) -> None:
    """`minutes_to(rows, score)`: the fewest minutes of a run that has at least that score.

    `rows` are (minutes, score) of runs that ended, in any order; infinite where none is as good.

    Raises:
        CheckFailed: naming the mistake.
    """
    rows = [(40.0, 0.8), (2.0, 0.1), (10.0, 0.7), (20.0, 0.6), (5.0, 0.3)]
    for score in (0.6, 0.5, 0.8, 0.9):
        good = [minutes for minutes, reached in rows if reached >= score]
        right = min(good, default=math.inf)
        mistakes = _slips(rows, score) if good else _NONE_AS_GOOD
        what = f"minutes_to(rows, {score})"
        compare(call(minutes_to, rows, score), right, mistakes, what)
    passed("only runs that ended count, and only those that are as good.")


def check_credit(credit: Callable) -> None:
    """`credit(neither, first, second, both)`: what the first of two changes gained.

    The four are scores: with none of the changes, with one alone, the other alone, and both. Its
    gain is averaged over the two orders in which the changes can be made (Shapley 1953).

    Raises:
        CheckFailed: naming the mistake.
    """
    for scores in ((0.1, 0.2, 0.5, 0.8), (0.2, 0.3, 0.3, 0.9), (0.0, 0.4, 0.1, 0.4)):
        neither, first, second, both = scores
        right = ((first - neither) + (both - second)) / 2
        mistakes = (
            Mistake(
                first - neither,
                "That makes this change first. Made after the other it gains something else: "
                "take both orders.",
            ),
            Mistake(
                both - second,
                "That makes this change last. Made before the other it gains something else: "
                "take both orders.",
            ),
            Mistake(
                both - neither,
                "That is what both changes gained together.",
            ),
            Mistake(
                ((second - neither) + (both - first)) / 2,
                "That is what the second change gained.",
            ),
            Mistake(
                (first - neither) + (both - second),
                "That adds the two orders. Each change is made once: take their mean.",
            ),
        )
        compare(call(credit, *scores), right, mistakes, f"credit{scores}")
    passed("the gains of the two changes now add up to what both gained.")
