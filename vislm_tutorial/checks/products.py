"""Checks of the exercises of the page on products."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, fail, passed


def check_level(level: Callable) -> None:
    """`level(value, low, high)`: "low", "middle" or "high", the third of a range.

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = {(70, 60, 90): "middle", (69, 60, 90): "low", (85, 60, 90): "high"}
    for arguments, right in cases.items():
        by_value = 3 * arguments[0] / arguments[2]
        from_zero = ("low", "middle", "high")[min(int(by_value), 2)]
        mistakes = [Mistake(from_zero, "You divided from 0 to high. The range begins at low.")]
        what = f"level{arguments}"
        compare(call(level, *arguments), right, mistakes, what)
    for value, right in ((90, "high"), (95, "high"), (55, "low")):
        answer = call(level, value, 60, 90, may_be_none=True)
        if answer is None:
            fail(f"level({value}, 60, 90) has no answer: what lies outside has a nearest third.")
        what = f"level({value}, 60, 90)"
        compare(answer, right, [], what)
    passed("three equal parts of the range, and the nearest one beyond its ends.")


def check_gauss_newton(step: Callable) -> None:
    """`step(jacobian, residual)`: (P, M) and (P,) -> (M,), the least squares of the linear model.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    for pixels, measures in ((12, 3), (20, 2)):
        scale = torch.tensor([1.0, 5.0, 0.2])[:measures]
        jacobian = torch.randn(pixels, measures, generator=random) * scale
        residual = torch.randn(pixels, generator=random)
        right = torch.linalg.lstsq(jacobian, residual[:, None]).solution[:, 0]
        gradient = jacobian.T @ residual
        mistakes = [
            Mistake(
                gradient,
                "That is the gradient: the right side of the equation. Solve J^T J d = J^T r.",
            ),
            Mistake(
                -right,
                "The sign is turned: with residual = picture - drawing, J d has to become r.",
            ),
            Mistake(
                gradient / jacobian.square().sum(dim=0),
                "Each measure by itself: but measures share pixels. Invert all of J^T J.",
            ),
        ]
        compare(call(step, jacobian, residual), right, mistakes, "step(...)", tolerance=1e-3)
    passed("the step after which a drawing that changed linearly would fit best.")
