"""The checks of the page on speed accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_credit, check_minutes_to


def minutes_to(rows, score):
    return min((minutes for minutes, reached in rows if reached >= score), default=math.inf)


def between(rows, score):
    rows = sorted(rows)
    for (start, low), (end, high) in zip(rows, rows[1:], strict=False):
        if low <= score <= high:
            return start + (score - low) / (high - low) * (end - start)
    return math.inf


def earliest(rows, score):
    return next((minutes for minutes, reached in rows if reached >= score), math.inf)


RIGHT = [
    (check_minutes_to, minutes_to),
    (check_credit, lambda none, first, second, both: (first - none + both - second) / 2),
]
WRONG = [
    (check_minutes_to, lambda rows, score: min(rows, key=lambda r: abs(r[1] - score))[0], "neare"),
    (check_minutes_to, between, "no run ended there"),
    (check_minutes_to, earliest, "any order"),
    (check_minutes_to, lambda rows, s: min([m for m, r in rows if r >= s] or [40.0]), "math.inf"),
    (check_minutes_to, lambda rows, s: min([m for m, r in rows if r >= s] or [0.0]), "for ever"),
    (check_credit, lambda none, first, second, both: first - none, "first"),
    (check_credit, lambda none, first, second, both: both - second, "last"),
    (check_credit, lambda none, first, second, both: both - none, "together"),
    (check_credit, lambda none, first, second, both: (second - none + both - first) / 2, "second"),
    (check_credit, lambda none, first, second, both: first - none + both - second, "mean"),
]
