"""Checks of the exercises of the page on skills: a product of shares, and what it asks of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .report import Mistake, call, compare, passed


def check_product_of_parts(product_of_parts: Callable) -> None:
    """`product_of_parts(right)`: the share all right if parts fail independently.

    `right` is (drawings, parts) of bool.

    Raises:
        CheckFailed: naming the mistake.
    """
    for right in (
        np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=bool),
        np.array([[1, 1], [0, 0], [1, 1], [0, 0]], dtype=bool),
    ):
        each = right.mean(axis=0)
        mistakes = [
            Mistake(
                float(right.all(axis=1).mean()),
                "That is the share that is all right in these drawings, which the product is to be "
                "compared with. Take each part's share first.",
            ),
            Mistake(float(each.mean()), "That is the mean of the shares; multiply them."),
            Mistake(
                float(each.min()),
                "That is the share of the worst part: all right if the others fail only where it "
                "does. Multiply the shares.",
            ),
            Mistake(
                float(right.mean(axis=1).prod()),
                "That multiplies over drawings. A part is a column: average over axis 0.",
            ),
            Mistake(float(each.sum()), "That is the sum of the shares; multiply them."),
            Mistake(float(1 - (1 - each).prod()), "That is the share with at least one part."),
        ]
        answer = call(product_of_parts, right.copy())
        compare(answer, float(each.prod()), mistakes, "The product")
    passed("each part's share over all drawings, multiplied.")


def check_needed(needed: Callable) -> None:
    """`needed(level, parts)`: how often each of equally good parts must be right.

    Raises:
        CheckFailed: naming the mistake.
    """
    for level, parts in ((0.5, 4), (0.9, 7), (0.5, 1)):
        mistakes = [
            Mistake(
                level**parts,
                "That is how often all are right if each is right that often. The question goes "
                "the other way: a root.",
            ),
            Mistake(
                1 - (1 - level) / parts,
                "That shares the failures out, as if no two parts ever failed in one drawing. "
                "Independent ones do at times, so each may fail a little more often.",
            ),
            Mistake(level / parts, "A share of a part is no part of the share: take a root."),
            Mistake(float(level), "If each were right that often, all would be right less often."),
        ]
        what = f"needed({level}, {parts})"
        compare(call(needed, level, parts), level ** (1 / parts), mistakes, what)
    passed("the root of the level: the more parts, the nearer to 1 each has to be.")
