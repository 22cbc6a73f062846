"""The checks of the page on editing accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_give_back, check_undo_step


def mixed(picture, noise, level):
    return torch.lerp(picture, noise, level)


def undone(x, low, high, velocity, rounds, sign=1, at=None, onwards=False):
    guess = x
    for _ in range(rounds):
        step = sign * (high - low) * velocity(guess, high if at is None else at)
        guess = (guess if onwards else x) + step
    return guess


RIGHT = [
    (
        check_give_back,
        lambda x, m, picture, noise, s: torch.where(m > 0, x, mixed(picture, noise, s)),
    ),
    (check_undo_step, undone),
]
WRONG = [
    (check_give_back, lambda x, m, p, e, s: m * x + (1 - m) * p, "clean"),
    (check_give_back, lambda x, m, p, e, s: m * mixed(p, e, s) + (1 - m) * x, "Inside and outside"),
    (check_give_back, lambda x, m, p, e, s: m * x + (1 - m) * mixed(e, p, s), "exchanged: at"),
    (check_give_back, lambda x, m, p, e, s: m * x + (1 - m) * (p + s * e), "kept whole"),
    (check_give_back, lambda x, m, p, e, s: mixed(p, e, s), "no effect"),
    (check_undo_step, lambda x, a, b, v, n: undone(x, a, b, v, n, at=a), "high end"),
    (check_undo_step, lambda x, a, b, v, n: undone(x, a, b, v, n, sign=-1), "further down"),
    (check_undo_step, lambda x, a, b, v, n: undone(x, a, b, v, n, onwards=True), "begin at x"),
    (check_undo_step, lambda x, a, b, v, n: undone(x, a, b, v, 1), "one round, however"),
    (check_undo_step, lambda x, a, b, v, n: undone(x, a, b, v, n + 1), "too many"),
]
