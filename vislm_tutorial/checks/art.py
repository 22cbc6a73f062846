"""Checks of the exercises of the page on styles."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed


def _velocities() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, generator=random) for _ in range(3)]


def check_two_scales(two_scales: Callable) -> None:
    """`two_scales(nothing, thing, both, w, s)`: guidance with a weight for thing and for style.

    Raises:
        CheckFailed: naming the mistake.
    """
    nothing, thing, both = _velocities()
    for w, s in ((2.0, 3.0), (4.0, 1.0), (1.0, 0.0)):
        right = nothing + w * (thing - nothing) + s * (both - thing)
        mistakes = [
            Mistake(
                nothing + w * (thing - nothing) + s * (both - nothing),
                "The style's difference begins at the thing, not at nothing: so the thing counts "
                "twice.",
            ),
            Mistake(
                nothing + s * (thing - nothing) + w * (both - thing),
                "The weights are exchanged: w is of the thing, s of the style.",
            ),
            Mistake(
                w * (thing - nothing) + s * (both - thing),
                "It has to begin somewhere: add the velocity without words.",
            ),
            Mistake(
                thing + w * (thing - nothing) + s * (both - thing),
                "With w = 1 and s = 0 the thing's velocity should come out; begin at nothing.",
            ),
        ]
        answer = call(two_scales, nothing, thing, both, w, s)
        compare(answer, right, mistakes, f"two_scales(..., w={w}, s={s})")
    passed("from nothing to the thing with w, from there to its style with s.")


def check_interpolation(between: Callable) -> None:
    """`between(nothing, first, second, a, w)`: guided by a mixture; `a` = 0 is the first.

    Raises:
        CheckFailed: naming the mistake.
    """
    nothing, first, second = _velocities()
    for a, w in ((0.3, 4.0), (0.8, 2.0)):
        right = nothing + w * ((1 - a) * first + a * second - nothing)
        mistakes = [
            Mistake(
                nothing + w * (a * first + (1 - a) * second - nothing),
                "a = 0 should be the first, a = 1 the second; yours runs the other way.",
            ),
            Mistake(
                w * ((1 - a) * first + a * second - nothing),
                "Guidance begins at the velocity without words: add it.",
            ),
            Mistake(
                nothing + w * ((1 - a) * first + a * second),
                "Guidance goes along a difference: subtract the velocity without words inside.",
            ),
            Mistake(
                (1 - a) * first + a * second,
                "That is the mixture, without guidance: w has no part in it.",
            ),
        ]
        answer = call(between, nothing, first, second, a, w)
        compare(answer, right, mistakes, f"between_styles(..., a={a}, w={w})")
    passed("the two are mixed, and the mixture is what guidance goes towards.")
