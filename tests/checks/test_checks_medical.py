"""The checks of the page on synthetic slices accept right answers and name the known mistakes."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_to_grey, check_too_near


def window(hu, low, high):
    return torch.minimum(torch.maximum(hu, torch.tensor(low)), torch.tensor(high))


def grey(hu, low, high):
    return 2 * (window(hu, low, high) - low) / (high - low) - 1


def least(points, training):
    return (points[:, None] - training[None]).norm(dim=-1).amin(dim=1)


def share(flags):
    return sum(flags.tolist()) / len(flags)


RIGHT = [
    (check_to_grey, lambda x, a, b, low, high: grey(a * x + b, low, high)),
    (
        check_too_near,
        lambda d, n, t: share(least(d, t) < torch.quantile(least(n, t), 0.05)),
    ),
]
WRONG = [
    (check_to_grey, lambda x, a, b, low, high: grey(x, low, high), "stored numbers"),
    (check_to_grey, lambda x, a, b, low, high: grey(x + b, low, high), "slope is missing"),
    (check_to_grey, lambda x, a, b, low, high: grey(a * (x + b), low, high), "after the slope"),
    (
        check_to_grey,
        lambda x, a, b, low, high: 2 * (a * x + b - low) / (high - low) - 1,
        "outside the window",
    ),
    (check_to_grey, lambda x, a, b, low, high: grey(a * x + b, low, high) / 2 + 0.5, "0 to 1"),
    (
        check_too_near,
        lambda d, n, t: share(least(d, t) < torch.quantile(least(d, t), 0.05)),
        "always below",
    ),
    (
        check_too_near,
        lambda d, n, t: share(least(d, t) < torch.quantile(least(n, t), 0.95)),
        "other end",
    ),
    (
        check_too_near,
        lambda d, n, t: share(least(d, t) > torch.quantile(least(n, t), 0.05)),
        "nearer is smaller",
    ),
    (check_too_near, lambda d, n, t: share(least(d, t) < least(n, t).amin()), "stray"),
    (check_too_near, lambda d, n, t: share(least(d, t) < least(n, t).mean()), "no 5 % quantile"),
    (
        check_too_near,
        lambda d, n, t: share(torch.cdist(d, t).mean(1) < torch.cdist(n, t).mean(1).quantile(0.05)),
        "mean distances",
    ),
]
