"""Checks of the exercises of the page on few steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed


def check_student_target(target: Callable) -> None:
    """`target(x, then, sigma, sigma_then)`: the velocity whose Euler step leads from x to `then`.

    Both places are (B, C, h, w); the noise level falls from `sigma` to `sigma_then`.

    Raises:
        CheckFailed: naming the mistake.
    """
    draws = torch.Generator().manual_seed(0)
    for sigma, sigma_then in ((0.75, 0.5), (0.5, 0.0), (1.0, 0.9)):
        x, then = torch.randn(2, 2, 3, 4, 4, generator=draws)
        stride = sigma - sigma_then
        mistakes = (
            Mistake(
                (then - x) / stride,
                "That points forwards. Euler's step is x - stride v: the velocity points from data "
                "to noise, against the way of drawing.",
            ),
            Mistake(x - then, "That is the whole step. A velocity is a step over its stride."),
            Mistake(
                (x - then) * stride,
                "That multiplies by the stride. The step is stride times velocity; solve for it.",
            ),
            Mistake(
                (x - then) / sigma,
                "That divides by the noise level, as if the step went on to 0. It ends at "
                "sigma_then.",
            ),
        )
        what = f"The target from sigma = {sigma} to {sigma_then}"
        compare(call(target, x, then, sigma, sigma_then), (x - then) / stride, mistakes, what)
    passed("one Euler step with this velocity ends exactly at the next place.")


def check_fixed_cost(fixed_cost: Callable) -> None:
    """`fixed_cost(first, second)`: what a picture costs beside its backbone calls.

    Both are (backbone calls, milliseconds) of a picture; each call costs the same.

    Raises:
        CheckFailed: naming the mistake.
    """
    for first, second in (((80, 330.0), (40, 170.0)), ((4, 20.0), (80, 324.0))):
        (n, t), (m, u) = first, second
        each = (t - u) / (n - m)
        mistakes = (
            Mistake(each, "That is what one call costs. Take all calls of a picture off its time."),
            Mistake(
                t / n, "That shares the fixed cost out among the calls: it is what we look for."
            ),
            Mistake(
                t - n * t / n, "That takes the mean cost of a call, which has the fixed part in it."
            ),
            Mistake(
                t - each,
                "That takes off one call. The first picture took more of them.",
            ),
            Mistake(
                t - m * each,
                "That takes the second picture's calls off the first one's time.",
            ),
        )
        what = f"fixed_cost({first}, {second})"
        compare(call(fixed_cost, first, second), t - n * each, mistakes, what)
    passed("a line through two points; where it meets no calls stands what is left.")
