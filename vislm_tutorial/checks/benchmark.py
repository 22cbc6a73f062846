"""Checks of page 8.5's exercises: marks of pictures that combine concepts, and a paired error."""

from __future__ import annotations

import math
from collections.abc import Callable

from .report import Mistake, call, compare, fail, passed

# Of each picture, whether it shows each thing that it was asked for; three are asked for more.
PICTURES = [
    [True, True],
    [True, False],
    [True, True, True, True],
    [True, True, True, False],
    [False, False, False, False, False],
]


def check_concept_marks(concept_marks: Callable) -> None:
    """Page 8.5: `concept_marks(pictures)`: the full mark and the concept fraction, each in [0, 1].

    Args:
        concept_marks: takes a list with one list of True and False a picture.

    Raises:
        CheckFailed: naming the mistake.
    """
    full, fraction = _two(call(concept_marks, PICTURES), "concept_marks", "(full mark, fraction)")
    fractions = [sum(checks) / len(checks) for checks in PICTURES]
    compare(
        full,
        2 / 5,
        [
            Mistake(3 / 5, "A picture with half of what was asked has no full mark: ask `all`."),
            Mistake(4 / 5, "That counts pictures that show anything at all: ask `all`, not `any`."),
            Mistake(
                2.0, "That is how many pictures have everything. Divide by how many there are."
            ),
            Mistake(
                sum(fractions) / 5,
                "The full mark is the fraction here. It comes first, and gives no part of a mark.",
            ),
        ],
        "The full mark",
    )
    asked, shown = sum(map(len, PICTURES)), sum(map(sum, PICTURES))
    compare(
        fraction,
        sum(fractions) / 5,
        [
            Mistake(
                shown / asked,
                "That is the share of all checks together, in which a picture that was asked for "
                "more counts for more. Take each picture's share first, then their mean.",
            ),
            Mistake(sum(fractions), "The fractions are added up. Take their mean."),
            Mistake(2 / 5, "The fraction is the full mark here. Half of what was asked is a half."),
        ],
        "The fraction",
    )
    passed("everything or nothing first, then each picture's share of what it was asked for.")


# Right or not, prompt by prompt: eight prompts are hard for both.
FIRST = [True] * 52 + [False] * 8 + [True] * 3 + [False]
SECOND = [True] * 46 + [False] * 6 + [False] * 8 + [False] * 3 + [True]


def check_paired_error(paired_error: Callable) -> None:
    """Page 8.5: `paired_error(first, second)`: (difference, its standard error), prompt by prompt.

    Args:
        paired_error: takes two lists of True and False, of the same prompts in the same order. The
            division may be by n or by n - 1.

    Raises:
        CheckFailed: naming the mistake.
    """
    n = len(FIRST)
    steps = [a - b for a, b in zip(FIRST, SECOND, strict=True)]
    right = sum(steps) / n
    variance = sum((step - right) ** 2 for step in steps) / n
    p, q = sum(FIRST) / n, sum(SECOND) / n
    apart = math.sqrt((p * (1 - p) + q * (1 - q)) / n)
    answer = call(paired_error, list(FIRST), list(SECOND))
    difference, error = _two(answer, "paired_error", "(difference, standard error)")
    compare(
        difference,
        right,
        [
            Mistake(-right, "The sign is turned: the first's share less the second's."),
            Mistake(
                sum(map(abs, steps)) / n,
                "That is how often the two disagree. A prompt that only the second gets right "
                "counts as -1.",
            ),
            Mistake(right * n, "That is a number of prompts. Divide by how many there are."),
        ],
        "The difference",
    )
    mistakes = [
        Mistake(
            apart,
            "That is the error of two independent shares. Here both answer the same prompts: take "
            "the differences prompt by prompt, and their spread.",
        ),
        Mistake(
            math.sqrt(variance), "That is the spread of single prompts. Divide by the root of n."
        ),
        Mistake(variance / n, "That is the squared error. Take its root."),
        Mistake(math.sqrt(variance) / n, "Divided by n, not by its root."),
        Mistake(
            2 * math.sqrt(variance / n),
            "That is twice the error, the half width of an interval. One error is asked for.",
        ),
        Mistake(
            math.sqrt(sum(map(abs, steps)) / n / n),
            "Nearly: the mean difference was not taken out before squaring.",
        ),
    ]
    if not math.isclose(error, math.sqrt(variance / (n - 1)), rel_tol=1e-4):
        compare(error, math.sqrt(variance / n), mistakes, "The error")
    passed("only prompts on which the two disagree make the difference unsure.")


def _two(answer: object, name: str, expected: str) -> tuple[float, float]:
    try:
        first, second = (float(number) for number in answer)
    except (TypeError, ValueError):
        fail(f"{name} returned {answer!r}; return two numbers: {expected}.")
    return first, second
