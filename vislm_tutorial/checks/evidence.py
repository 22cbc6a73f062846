"""Checks of the exercises of the page on evidence: a difference's interval, and few seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .report import Mistake, call, compare, passed

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


def _wilson(right: int, n: int) -> tuple[float, float, float]:
    """Share, low and high."""
    share = right / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
    return share, middle - half, middle + half


def _newcombe(first: tuple, second: tuple) -> tuple[float, float]:
    (p, low, high), (q, least, most) = first, second
    down = math.hypot(p - low, most - q)
    up = math.hypot(high - p, q - least)
    return p - q - down, p - q + up


def check_difference(difference: Callable) -> None:
    """`difference(first, second)`: (low, high) of the first share less the second.

    Both are (share, low, high) with Wilson's interval (Newcombe 1998, method 10).

    Raises:
        CheckFailed: naming the mistake.
    """
    for counts in ((77, 100, 81, 100), (62, 100, 30, 100), (3, 100, 0, 100)):
        first, second = _wilson(*counts[:2]), _wilson(*counts[2:])
        (p, low, high), (q, least, most) = first, second
        right = _newcombe(first, second)
        mistakes = (
            (
                (low - most, high - least),
                "That adds the two distances, as if both shares were unlucky at the same time. "
                "Independent ones add in squares: the root of the sum of squares.",
            ),
            (
                (low - least, high - most),
                "That takes the ends that belong together from each other. The difference is "
                "lowest where the first is low and the second is high.",
            ),
            (
                (p - q - math.hypot(high - p, q - least), p - q + math.hypot(p - low, most - q)),
                "The distances are exchanged: downwards go the first one's low end and the "
                "second one's high end.",
            ),
            (
                tuple(-x for x in reversed(right)),
                "That is the second less the first.",
            ),
            (
                (p - q - max(p - low, most - q), p - q + max(high - p, q - least)),
                "The larger distance alone forgets that the other share is uncertain too.",
            ),
        )
        answer = call(difference, first, second)
        for end, name in enumerate(("low", "high")):
            what = f"The {name} end for {p:.2f} less {q:.2f}"
            found = answer[end] if isinstance(answer, Sequence) and len(answer) == 2 else answer
            told = [Mistake(values[end], text) for values, text in mistakes]
            compare(found, right[end], told, what)
    passed("the root of the sum of squares, each distance on the side where it counts.")


def check_smallest_p(smallest_p: Callable) -> None:
    """`smallest_p(first, second)`: what a permutation test of so many runs can give at the least.

    Two-sided: all runs of one group better than all of the other, either way round.

    Raises:
        CheckFailed: naming the mistake.
    """
    for first, second in ((3, 3), (5, 5), (2, 4)):
        ways = math.comb(first + second, first)
        mistakes = [
            Mistake(
                1 / ways,
                "That is one-sided. The other group could have been ahead of all: count both.",
            ),
            Mistake(
                2 / math.factorial(first + second),
                "The order inside a group does not matter: count choices, not orders.",
            ),
            Mistake(
                2 / 2 ** (first + second),
                "That tosses a coin for each run, so groups could have any size. How many ways "
                "are there to choose which runs are the first group's?",
            ),
            Mistake(
                2 / 2 ** min(first, second),
                "That compares in pairs. Here any run could have been in either group.",
            ),
        ]
        what = f"smallest_p({first}, {second})"
        compare(call(smallest_p, first, second), 2 / ways, mistakes, what)
    passed("two of the ways to choose a group are as extreme as that.")
