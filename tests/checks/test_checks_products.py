"""The checks of the page on products accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_gauss_newton, check_level

LEVELS = ("low", "middle", "high")


def level(value, low, high):
    return LEVELS[min(max(int(3 * (value - low) / (high - low)), 0), 2)]


def inside_only(value, low, high):
    return level(value, low, high) if low <= value < high else None


RIGHT = [
    (check_level, level),
    (check_gauss_newton, lambda jacobian, residual: torch.linalg.pinv(jacobian) @ residual),
]
WRONG = [
    (check_level, lambda value, low, high: LEVELS[min(int(3 * value / high), 2)], "begins at low"),
    (check_level, inside_only, "has a nearest third"),
    (check_gauss_newton, lambda j, r: j.T @ r, "gradient"),
    (check_gauss_newton, lambda j, r: -torch.linalg.pinv(j) @ r, "sign is turned"),
    (check_gauss_newton, lambda j, r: j.T @ r / j.square().sum(dim=0), "share pixels"),
]
