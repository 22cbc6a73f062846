"""The checks of the page on evidence accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_difference, check_smallest_p


def difference(first, second):
    (p, low, high), (q, least, most) = first, second
    return (
        p - q - math.sqrt((p - low) ** 2 + (most - q) ** 2),
        p - q + math.sqrt((high - p) ** 2 + (q - least) ** 2),
    )


def exchanged(first, second):
    (p, low, high), (q, least, most) = first, second
    return p - q - math.hypot(high - p, q - least), p - q + math.hypot(p - low, most - q)


def larger(first, second):
    (p, low, high), (q, least, most) = first, second
    return p - q - max(p - low, most - q), p - q + max(high - p, q - least)


RIGHT = [(check_difference, difference), (check_smallest_p, lambda a, b: 2 / math.comb(a + b, a))]
WRONG = [
    (check_difference, lambda a, b: (a[1] - b[2], a[2] - b[1]), "adds the two"),
    (check_difference, lambda a, b: (a[1] - b[1], a[2] - b[2]), "belong together"),
    (check_difference, exchanged, "exchanged"),
    (check_difference, lambda a, b: difference(b, a), "second less the first"),
    (check_difference, larger, "forgets"),
    (check_difference, lambda a, b: None, "return"),
    (check_smallest_p, lambda a, b: 1 / math.comb(a + b, a), "one-sided"),
    (check_smallest_p, lambda a, b: 2 / math.factorial(a + b), "not orders"),
    (check_smallest_p, lambda a, b: 2 / 2 ** (a + b), "tosses a coin"),
    (check_smallest_p, lambda a, b: 2 / 2 ** min(a, b), "in pairs"),
]
