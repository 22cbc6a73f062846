"""Checks of page 5.10's exercises: searching for good settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .report import Mistake, call, compare, passed, require


def check_log_uniform(draw: Callable[[float, float, int, int], Sequence[float]]) -> None:
    """`draw(low, high, n, seed)`: n numbers whose logarithm is uniform between the ends' own.

    Raises:
        CheckFailed: naming the mistake.
    """
    low, high, n = 1e-4, 1.0, 4000
    values = [float(value) for value in call(draw, low, high, n, 0)]
    require(len(values) == n, f"{len(values)} numbers came back; asked for {n}.")
    require(
        min(values) > 0,
        f"{min(values):.3g} came back: that is a logarithm. Raise it to the power again.",
    )
    require(
        low * 0.999 <= min(values) and max(values) <= high * 1.001,
        f"Numbers from {min(values):.3g} to {max(values):.3g} came back; expected {low:g} to "
        f"{high:g}. exp goes with log, and 10 ** with log10.",
    )
    small = sum(value < 1e-2 for value in values) / n
    require(
        small > 0.03,
        f"Only {small:.0%} are below 0.01. A uniform draw leaves the small rates out: draw the "
        "logarithm.",
    )
    require(
        0.46 < small < 0.54,
        f"{small:.0%} are below 0.01, the middle of the logarithms; expected half.",
    )
    same = [float(value) for value in call(draw, low, high, n, 0)]
    require(same == values, "The same seed gave other numbers.")
    other = [float(value) for value in call(draw, low, high, n, 1)]
    require(other != values, "Seeds 0 and 1 gave the same numbers.")
    passed("each power of ten gets its equal share of the draws.")


def check_prune(prune: Callable[[float, list[float]], bool]) -> None:
    """`prune(value, others)`: the median rule for one trial at one step; lower is better.

    Raises:
        CheckFailed: naming the mistake.
    """
    others = [1.0, 2.0, 9.0]
    cases = (
        (3.0, others, True, "3 is worse than 2, the median of 1, 2 and 9. Is it the mean, 4?"),
        (1.5, others, False, "1.5 is better than the median, 2. It need not be the best: keep it."),
        (8.0, others, True, "8 is worse than the median, 2. It is not the worst, and yet ends."),
        (2.0, others, False, "As good as the median is not worse."),
        (5.0, [], False, "With nothing to compare there is no median: keep it."),
        (2.4, [1.0, 4.0], False, "Of two values the median is the middle, 2.5."),
        (math.nan, others, True, "NaN is not above anything, so `>` keeps it: ask isnan first."),
    )
    for value, values, right, message in cases:
        answer = call(prune, value, list(values))
        answer = bool(answer) if hasattr(answer, "item") else answer
        compare(answer, right, [Mistake(not right, message)], f"prune({value}, {values})")
    passed("ended if worse than the median of the others at the same step, or no number at all.")


def check_report(report: Callable[[list[dict]], tuple[str, float]]) -> None:
    """`report(trials)`: which trial is chosen, and the score to be published for it.

    Raises:
        CheckFailed: naming the mistake.
    """
    trials = [
        {"name": "a", "validation": 0.70, "test": 0.66},
        {"name": "b", "validation": 0.74, "test": 0.69},
        {"name": "c", "validation": 0.72, "test": 0.75},
    ]
    answer = call(report, [dict(trial) for trial in trials])
    require(
        isinstance(answer, tuple | list) and len(answer) == 2,
        f"{answer!r} came back; return two things: the name, and the score.",
    )
    name, score = answer
    messages = {
        "c": "c has the best test score of three. A test that chooses is a validation set: its "
        "winner's score is the luckiest of three, and no picture is left to say how lucky.",
        "a": "a is the worst on validation; these are scores, higher is better.",
    }
    compare(name, "b", [Mistake(k, m) for k, m in messages.items()], "The chosen trial")
    wrong = [
        Mistake(0.74, "That is the score b was chosen for, and the luckiest of three. Publish what "
                "b reaches where nothing was chosen."),
        Mistake(0.75, "That is another trial's score."),
    ]  # fmt: skip
    compare(float(score), 0.69, wrong, "The published score")
    passed("validation chooses; the test is asked once, about the one that was chosen.")
