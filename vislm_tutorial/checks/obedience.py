"""Checks of the exercises of the page on how well models obey."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

from .report import Mistake, call, compare, passed

Z = 1.96  # of a normal distribution's 95 %


def _wilson(right: int, n: int) -> torch.Tensor:
    p = right / n
    middle, scale = p + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    return torch.tensor([(middle - half) / scale, (middle + half) / scale])


def check_wilson(wilson: Callable) -> None:
    """`wilson(right, n)`: the ends of Wilson's 95 % interval for a share (Wilson 1927).

    Raises:
        CheckFailed: naming the mistake.
    """
    for right, n in ((5, 5), (7, 20), (0, 12)):
        ends = _wilson(right, n)
        p = right / n
        usual = Z * (p * (1 - p) / n) ** 0.5
        undivided = ends * (1 + Z**2 / n)
        mistakes = [
            Mistake(
                torch.tensor([p - usual, p + usual]),
                "That is the usual interval, which has no width where all are right.",
            ),
            Mistake(undivided, "Both ends still have to be divided by 1 + z^2 / n."),
            Mistake(ends.flip(0), "The lower end comes first."),
            Mistake(
                torch.tensor([p, p]) + (ends - ends.mean()),
                "The middle is not p: it is drawn towards a half, by z^2 / (2 n).",
            ),
        ]
        answer = call(wilson, right, n)
        given = torch.tensor([float(end) for end in answer]) if _is_pair(answer) else answer
        compare(given, ends, mistakes, f"wilson({right}, {n})", tolerance=1e-3)
    passed("it keeps a width where all are right, or none.")


def _is_pair(answer: object) -> bool:
    return isinstance(answer, (tuple, list, torch.Tensor)) and len(answer) == 2


def check_all_of_parts(apart: Callable) -> None:
    """`apart(parts)`: the share of whole pictures, were parts to fail apart from each other.

    Raises:
        CheckFailed: naming the mistake.
    """
    pictures = [
        {"kind": True, "colour": True, "place": True},
        {"kind": True, "colour": False, "place": True},
        {"kind": True, "colour": True, "place": False},
        {"kind": True, "colour": False, "place": True},
    ]
    for parts in (pictures, pictures[:3]):
        n = len(parts)
        shares = [sum(picture[name] for picture in parts) / n for name in parts[0]]
        mistakes = [
            Mistake(
                sum(all(picture.values()) for picture in parts) / n,
                "That is the share that is really whole. Multiply the parts' shares.",
            ),
            Mistake(min(shares), "That is the worst part: as if all failures met in one picture."),
            Mistake(sum(shares) / len(shares), "That is the parts' mean, not their product."),
        ]
        answer = call(apart, parts)
        compare(answer, prod(shares), mistakes, f"apart({n} pictures)")
    passed("the product of the parts' shares.")
