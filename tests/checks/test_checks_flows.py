"""The checks of page 2.8 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_decided_at, check_straightness


def lengths(path):
    return (path[1:] - path[:-1]).norm(dim=-1)


def chord(path):
    return (path[-1] - path[0]).norm(dim=-1)


def straightness(path):
    return chord(path) / lengths(path).sum(0)


def decided_at(same):
    undone = (~same).flip(0).cumsum(0) > 0  # from the end: a False from here on
    return undone.sum(0)


def decided_by_loop(same):
    answer = []
    for column in same.T.tolist():
        late = [step for step, so in enumerate(column) if not so]
        answer.append(late[-1] + 1 if late else 0)
    return torch.tensor(answer)


RIGHT = [
    (check_straightness, straightness),
    (check_decided_at, decided_at),
    (check_decided_at, decided_by_loop),
]
WRONG = [
    (check_straightness, lambda p: 1 / straightness(p), "Upside down"),
    (check_straightness, lambda p: chord(p) / (p[1:] - p[:-1]).sum(0).norm(dim=-1), "a corner"),
    (check_straightness, lambda p: chord(p) / lengths(p).mean(0), "The mean step"),
    (check_straightness, lambda p: chord(p) / lengths(p).sum(), "do not add the lengths"),
    (
        check_straightness,
        lambda p: chord(p) / (p[1:] - p[:-1]).abs().sum((0, 2)),
        "sums of absolute values",
    ),
    (check_straightness, lambda p: chord(p) / lengths(p).square().sum(0), "squared lengths"),
    (check_straightness, lambda p: straightness(p).mean(), "One number for all"),
    (check_straightness, lambda p: chord(p), "straight line alone"),
    (check_straightness, lambda p: lengths(p).sum(0), "below the line"),
    (check_straightness, lambda p: None, "Does it end in `return`?"),
    (check_decided_at, lambda same: same.int().argmax(0), "0 where it never was"),
    (
        check_decided_at,
        lambda same: torch.where(same.any(0), same.int().argmax(0), len(same)),
        "the first time it was so",
    ),
    (check_decided_at, lambda same: decided_at(same) - 1, "the one after it"),
    (check_decided_at, lambda same: decided_at(same) + 1, "counted from 0"),
    (check_decided_at, lambda same: decided_at(same).clamp(max=len(same) - 1), "the answer is T"),
    (check_decided_at, lambda same: (~same).sum(0), "how often it was not so"),
    (check_decided_at, lambda same: same.sum(0), "how often it was so"),
    (check_decided_at, lambda same: decided_at(same.T), "expected a tensor of shape"),
]
