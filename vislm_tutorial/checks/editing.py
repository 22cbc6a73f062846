"""Checks of the exercises of the page on editing."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed


def check_give_back(give_back: Callable) -> None:
    """`give_back(x, mask, picture, noise, level)`: RePaint's outside, noised to the level.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    x, picture, noise = torch.randn(3, 1, 4, 6, 6, generator=random)
    mask = (torch.rand(1, 1, 6, 6, generator=random) > 0.5).float()
    for level in (0.3, 0.8):
        given = (1 - level) * picture + level * noise
        mistakes = [
            Mistake(
                mask * x + (1 - mask) * picture,
                "You gave the clean picture. At this step all is noisy: mix noise into it, too.",
            ),
            Mistake(
                mask * given + (1 - mask) * x,
                "Inside and outside are exchanged: the mask is 1 where the model draws.",
            ),
            Mistake(
                mask * x + (1 - mask) * (level * picture + (1 - level) * noise),
                "Picture and noise are exchanged: at level 0 there is no noise, at 1 only noise.",
            ),
            Mistake(
                mask * x + (1 - mask) * (picture + level * noise),
                "Noise was added and the picture kept whole. In a flow its share is 1 - level.",
            ),
            Mistake(given, "The mask has no effect: inside, x should come back unchanged."),
        ]
        arguments = (x, mask, picture, noise, level)
        compare(
            call(give_back, *arguments),
            mask * x + (1 - mask) * given,
            mistakes,
            f"give_back(x, mask, picture, noise, {level})",
        )
    passed("inside is the drawing, outside the picture, both as noisy as this step is.")


def check_undo_step(undo: Callable) -> None:
    """`undo(x, low, high, velocity, rounds)`: the high end of a step of Euler's, by iteration.

    Raises:
        CheckFailed: naming the mistake.
    """
    low, high = 0.4, 0.7

    def velocity(x: torch.Tensor, level: float) -> torch.Tensor:
        return torch.sin(x) + level

    def answer(x, rounds, sign=1.0, at=high, onwards=False):
        guess = x
        for _ in range(rounds):
            guess = (guess if onwards else x) + sign * (high - low) * velocity(guess, at)
        return guess

    x = torch.linspace(-2, 2, 12).reshape(1, 3, 2, 2)
    for rounds in (1, 3):
        mistakes = [
            Mistake(
                answer(x, rounds, at=low),
                "The velocity is to be taken at the high end, where drawing takes it.",
            ),
            Mistake(
                answer(x, rounds, sign=-1.0),
                "That goes further down. From low to high the step is plus (high - low) v.",
            ),
            Mistake(
                answer(x, rounds, onwards=True),
                "Each round went on from its last guess. Always begin at x: only the place where "
                "the velocity is taken moves.",
            ),
            Mistake(
                answer(x, 1), "That is one round, however many were asked for: look again, and so."
            ),
            Mistake(
                answer(x, rounds + 1), "That is one round too many: rounds = 1 looks only once."
            ),
        ]
        compare(
            call(undo, x, low, high, velocity, rounds),
            answer(x, rounds),
            mistakes,
            f"undo(x, {low}, {high}, velocity, {rounds})",
        )
    passed("the step from low to high is the one that drawing takes back.")
