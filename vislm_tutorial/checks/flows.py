"""Checks of page 2.8's exercises: how straight a path is, and when a drawing is decided."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed


def check_straightness(straightness: Callable[[Tensor], Tensor]) -> None:
    """Page 2.8: `straightness(path)`: of (T, N, 2), each point's way as the crow flies over the
    way it went, (N,).

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    bent = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])  # 5 across, 7 along
    straight = torch.tensor([[1.0, 1.0], [2.0, 3.0], [4.0, 7.0]])
    for path in (
        torch.stack([bent, straight], dim=1),
        torch.randn(5, 4, 2, generator=random).cumsum(0),
    ):
        steps = path[1:] - path[:-1]  # (T, N, 2) -> (T - 1, N, 2)
        length, chord = steps.norm(dim=-1).sum(0), (path[-1] - path[0]).norm(dim=-1)
        right = chord / length
        mistakes = [
            Mistake(length / chord, "Upside down: a straight path has 1, a bent one less."),
            Mistake(
                steps.sum(0).norm(dim=-1) / length.sum(),
                "Each point has a path of its own: do not add the lengths over the points.",
            ),
            Mistake(
                torch.ones_like(right),
                "It is 1 for a path with a corner. The steps were added before their lengths were "
                "taken, and their sum is the straight line.",
            ),
            Mistake(
                chord / steps.abs().sum(-1).sum(0),
                "These lengths are sums of absolute values. A length is the root of the squares.",
            ),
            Mistake(
                chord / steps.square().sum(-1).sum(0),
                "The squared lengths of the steps were added: take the root of each first.",
            ),
            Mistake(
                chord / steps.norm(dim=-1).mean(0),
                "The mean step, where the whole way was asked: sum over the steps.",
            ),
            Mistake(chord, "That is the straight line alone. Divide it by the way that was gone."),
            Mistake(length, "That is the way that was gone. It belongs below the line."),
            Mistake(right.mean(), "One number for all. Each point has its own: shape (N,)."),
        ]
        compare(call(straightness, path), right, mistakes, "The straightness")
    passed("1 where the path is a line, less the more it bends, for each point.")


def check_decided_at(decided_at: Callable[[Tensor], Tensor]) -> None:
    """Page 2.8: `decided_at(same)`: of (T, B) bool, the first step from which on all are True, (B,)
    whole numbers; T where the last is False.

    Raises:
        CheckFailed: naming the mistake.
    """
    rows = ("00111", "01011", "11111", "11110", "00000", "10001")
    same = torch.tensor([[letter == "1" for letter in row] for row in rows]).T  # (T, B)
    steps = len(same)
    right = torch.tensor([2, 3, 0, 5, 5, 4])
    first = torch.where(same.any(0), same.int().argmax(0), steps)
    never = torch.where(same[-1], right, steps - 1)
    mistakes = [
        Mistake(
            first,
            "That is the first time it was so. What is so at step 1 and no more at step 2 was not "
            "decided at 1.",
        ),
        Mistake(
            same.int().argmax(0),
            "That is the first time it was so, and 0 where it never was. Look for the last False.",
        ),
        Mistake(
            right - 1,
            "That is the last step that was still False. It is decided at the one after it.",
        ),
        Mistake(right + 1, "One too late: steps are counted from 0."),
        Mistake(
            never, f"Where the last step is False nothing was decided: the answer is T, {steps}."
        ),
        Mistake(
            steps - same.sum(0),
            "That counts how often it was not so, wherever those steps lie. One False late undoes "
            "all that came before.",
        ),
        Mistake(same.sum(0), "That counts how often it was so. Asked was from when on."),
    ]
    answer = call(decided_at, same)
    answer = answer.long() if isinstance(answer, Tensor) else answer
    compare(answer, right, mistakes, "The step")
    passed("the step after the last False, 0 if there is none, T if it is the last one.")
