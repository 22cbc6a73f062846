"""Checks of the exercises of the page on synthetic slices."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed


def check_to_grey(to_grey: Callable) -> None:
    """`to_grey(stored, slope, intercept, low, high)`: stored numbers -> a window in [-1, 1].

    Raises:
        CheckFailed: naming the mistake.
    """
    stored = torch.tensor([[0.0, 200.0, 1000.0], [1400.0, 2000.0, 4000.0]])
    for slope, intercept, low, high in ((1.0, -1024.0, -1000.0, 400.0), (2.0, -900.0, -160.0, 240)):
        hu = slope * stored + intercept

        def window(values, low=low, high=high):
            return (values.clamp(low, high) - low) / (high - low) * 2 - 1

        mistakes = [
            Mistake(
                window(stored),
                "Those are the stored numbers. Hounsfield units are slope * stored + intercept.",
            ),
            Mistake(window(stored + intercept), "The slope is missing: slope * stored."),
            Mistake(
                window(slope * (stored + intercept)),
                "The intercept is added after the slope, and not multiplied by it.",
            ),
            Mistake(
                (hu - low) / (high - low) * 2 - 1,
                "Values outside the window leave [-1, 1]. Clip them to low and high.",
            ),
            Mistake(
                (window(hu) + 1) / 2, "That reaches from 0 to 1; pictures here reach from -1 to 1."
            ),
        ]
        arguments = (stored, slope, intercept, low, high)
        what = f"to_grey(stored, {slope:g}, {intercept:g}, {low:g}, {high:g})"
        compare(call(to_grey, *arguments), window(hu), mistakes, what)
    passed("the window's ends are -1 and 1, whatever the file's slope and intercept.")


def check_too_near(too_near: Callable) -> None:
    """`too_near(drawn, new, training)`: the share nearer to training than 95 % of new ones are.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    training, new = (torch.randn(n, 6, generator=random) for n in (300, 200))
    copies = training[:40] + 0.05 * torch.randn(40, 6, generator=random)
    drawn = torch.cat([copies, torch.randn(60, 6, generator=random)])

    def nearest(points: torch.Tensor) -> torch.Tensor:
        return torch.cdist(points, training).min(dim=1).values

    def share(flags: torch.Tensor) -> float:
        return flags.float().mean().item()

    near, chance = nearest(drawn), nearest(new)
    mistakes = [
        Mistake(
            share(near < near.quantile(0.05)),
            "The threshold comes from the drawn ones: a twentieth of them is always below it. "
            "Take it from the new ones.",
        ),
        Mistake(
            share(near < chance.quantile(0.95)),
            "That is the other end: nearer than 95 % of the new ones is below their 5 % quantile.",
        ),
        Mistake(share(near > chance.quantile(0.05)), "Those are the others: nearer is smaller."),
        Mistake(
            share(near < chance.min()),
            "That asks for nearer than all new ones. One stray new case would decide.",
        ),
        Mistake(
            share(near < chance.mean()), "The mean of the new ones is no 5 % quantile of them."
        ),
        Mistake(
            share(
                torch.cdist(drawn, training).mean(1)
                < torch.cdist(new, training).mean(1).quantile(0.05)
            ),
            "Those are mean distances to all training cases. A copy is near to one: take that.",
        ),
    ]
    answer = call(too_near, drawn, new, training)
    what = "too_near(drawn, new, training)"
    compare(answer, share(near < chance.quantile(0.05)), mistakes, what)
    passed("the threshold is chance's own, and a copy is nearer.")
