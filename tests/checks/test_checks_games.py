"""The checks of page 2.5 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_r1, check_verdict
from vislm_tutorial.losses import r1_penalty


def verdict(right, drawn, wrong, s):
    return (right - (1 - s) * drawn - s * wrong).sign()


def by_search(right, drawn, wrong, s):
    """The best of three answers at each place, by what each costs; ties are answered 0."""
    costs = torch.stack(
        [
            right * (1 - f) + ((1 - s) * drawn + s * wrong) * (1 + f)
            for f in (-1.0, 1.0)  # the hinge's cost inside the margins
        ]
    )
    return torch.sign(costs[0] - costs[1])


def slopes(critic, real, **kwargs):
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(real).sum(), real, **kwargs)
    return slope.flatten(1)


def r1(critic, real):
    return slopes(critic, real, create_graph=True).square().sum(1).mean() / 2


def of_the_package(critic, real):
    real.requires_grad_()
    return r1_penalty(critic(real), real)


def of_the_mean_score(critic, real):
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(real).mean(), real, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2


def to_one(critic, real):
    return (slopes(critic, real, create_graph=True).norm(dim=1) - 1).square().mean()


RIGHT = [
    (check_verdict, verdict),
    (check_verdict, by_search),
    (check_r1, r1),
    (check_r1, of_the_package),
]
WRONG = [
    (check_verdict, lambda p, q, w, s: (p - q - w).sign(), "weights 1 - s and s are missing"),
    (check_verdict, lambda p, q, w, s: verdict(p, q, w, 1 - s), "weights are exchanged"),
    (check_verdict, lambda p, q, w, s: (p + s * w - (1 - s) * q).sign(), "count as real"),
    (check_verdict, lambda p, q, w, s: (p - (1 - s) * q).sign(), "do not count"),
    (check_verdict, lambda p, q, w, s: (p - q).sign(), "without the third kind"),
    (check_verdict, lambda *a: -verdict(*a), "sign is turned"),
    (check_verdict, lambda *a: verdict(*a).clamp(min=0), "not 0"),
    (check_verdict, lambda p, q, w, s: p - (1 - s) * q - s * w, "take the sign"),
    (
        check_verdict,
        lambda p, q, w, s: p / (p + (1 - s) * q + s * w),
        "cross entropy",
    ),
    (check_r1, lambda f, x: 2 * r1(f, x), "half is missing"),
    (check_r1, lambda f, x: slopes(f, x, create_graph=True).square().mean() / 2, "all values"),
    (check_r1, lambda f, x: len(x) * r1(f, x), "Summed over the batch"),
    (check_r1, lambda f, x: slopes(f, x, create_graph=True).norm(dim=1).mean() / 2, "its square"),
    (check_r1, of_the_mean_score, "Differentiate the sum"),
    (check_r1, to_one, "R1 pulls it to 0"),
    (check_r1, lambda f, x: slopes(f, x).square().sum(1).mean() / 2, "create_graph=True"),
    (check_r1, lambda f, x: r1(f, x).item(), "detach nothing"),
]
