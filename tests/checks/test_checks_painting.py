"""The checks of the page on strokes accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_along, check_where_to_paint


def unit(x, y):
    vector = torch.tensor([float(x), float(y)])
    return vector / vector.norm().clamp(min=1e-12)


def careless(gx, gy):
    return torch.tensor([-gy, gx]) / torch.tensor([gx, gy]).norm()


RIGHT = [
    (check_along, lambda gx, gy: unit(-gy, gx)),
    (check_along, lambda gx, gy: unit(gy, -gx)),
    (check_where_to_paint, lambda c, p, t: (c - p).abs().sum(0) > 3 * t),
]
WRONG = [
    (check_along, lambda gx, gy: unit(gx, gy), "across the edge"),
    (check_along, lambda gx, gy: torch.tensor([-gy, gx]), "length should be 1"),
    (check_along, lambda gx, gy: unit(-gx, gy), "mirrored"),
    (check_along, careless, "divides by zero"),
    (check_where_to_paint, lambda c, p, t: (c - p).mean(0).abs() > t, "cancel"),
    (check_where_to_paint, lambda c, p, t: (c - p).mean(0) > t, "cancel"),
    (check_where_to_paint, lambda c, p, t: (c - p).abs().mean(0) <= t, "right already"),
    (check_where_to_paint, lambda c, p, t: (c - p).abs().sum(0) > t, "sum"),
    (check_where_to_paint, lambda c, p, t: (c - p).abs().amax(0) > t, "largest"),
]
