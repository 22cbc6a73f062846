"""The checks of the page on obedience accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

from math import prod

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_all_of_parts, check_wilson
from vislm_tutorial.evaluation.control import share


def wilson(right, n):
    score = share([True] * right + [False] * (n - right))
    return score.low, score.high


def usual(right, n):
    p = right / n
    half = 1.96 * (p * (1 - p) / n) ** 0.5
    return p - half, p + half


def around_p(right, n):
    low, high = wilson(right, n)
    return right / n - (high - low) / 2, right / n + (high - low) / 2


def undivided(right, n):
    return tuple(end * (1 + 1.96**2 / n) for end in wilson(right, n))


def shares(parts):
    return [sum(picture[name] for picture in parts) / len(parts) for name in parts[0]]


RIGHT = [(check_wilson, wilson), (check_all_of_parts, lambda parts: prod(shares(parts)))]
WRONG = [
    (check_wilson, usual, "no width"),
    (check_wilson, undivided, "divided by"),
    (check_wilson, lambda right, n: wilson(right, n)[::-1], "lower end"),
    (check_wilson, around_p, "The middle is not p"),
    (check_all_of_parts, lambda parts: sum(all(p.values()) for p in parts) / len(parts), "really"),
    (check_all_of_parts, lambda parts: min(shares(parts)), "worst part"),
    (check_all_of_parts, lambda parts: sum(shares(parts)) / 3, "mean"),
]
