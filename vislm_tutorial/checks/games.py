"""Checks of page 2.5's exercises, on a GAN's critic: what it answers at best, what R1 costs it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .report import Mistake, call, compare, passed, require


def check_verdict(verdict: Callable) -> None:
    """Page 2.5: `verdict(right, drawn, wrong, s)`: the best critic's answer, in {-1, 0, 1}.

    `right`, `drawn` and `wrong` are densities (N,) of the three kinds of pair, which the hinge loss
    weighs by 1, 1 - s and s.

    Raises:
        CheckFailed: naming the mistake.
    """
    right = torch.tensor([0.50, 0.10, 0.30, 0.25, 0.20, 0.05, 0.40])
    drawn = torch.tensor([0.60, 0.30, 0.30, 0.50, 0.00, 0.05, 0.50])
    wrong = torch.tensor([0.00, 0.20, 0.60, 0.00, 0.90, 0.90, 0.30])
    for s in (0.5, 0.25):
        fakes = (1 - s) * drawn + s * wrong
        margin = right - fakes
        compare(
            call(verdict, right, drawn, wrong, s),
            margin.sign(),
            [
                Mistake(
                    (right - drawn - wrong).sign(),
                    "The weights 1 - s and s are missing: drawn and wrong pairs count in full.",
                ),
                Mistake(
                    (right - s * drawn - (1 - s) * wrong).sign(),
                    "The weights are exchanged: s belongs to the wrong pairs.",
                ),
                Mistake(
                    (right + s * wrong - (1 - s) * drawn).sign(),
                    "Wrong pairs count as real here. The picture is real, but the pair is not.",
                ),
                Mistake(
                    (right - (1 - s) * drawn).sign(),
                    "The wrong pairs do not count. They are fakes too.",
                ),
                Mistake((right - drawn).sign(), "That is the game without the third kind."),
                Mistake((-margin).sign(), "The sign is turned: 1 means real."),
                Mistake(
                    (margin > 0).float(),
                    "Where fakes are denser the hinge's best answer is -1, not 0.",
                ),
                Mistake(
                    margin,
                    "That is by how much the right pairs are denser. The hinge's best critic says "
                    "only which is: take the sign.",
                ),
                Mistake(
                    right / (right + fakes),
                    "That is the best answer to the cross entropy. The hinge's has three values.",
                ),
            ],
            f"With s = {s:g} it",
        )
    passed("1 where right pairs are denser than all fakes, weighed, and -1 where they are not.")


def check_r1(r1: Callable) -> None:
    """Page 2.5: `r1(critic, real)`: E |grad f(x)|^2 / 2 at real pictures, to be differentiated.

    Raises:
        CheckFailed: naming the mistake.
    """
    critic, real = _Critic(), torch.linspace(-1, 1, 3 * 2 * 2 * 2).view(3, 2, 2, 2)
    slope = (2 * critic.weight * real).detach()  # of sum (w x^2): (3, 2, 2, 2)
    lengths = slope.square().flatten(1).sum(dim=1)
    right = lengths.mean().item() / 2
    mistakes = [
        Mistake(2 * right, "The half is missing: R1 is gamma / 2 times the squared length."),
        Mistake(
            slope.square().mean().item() / 2,
            "That is the mean over all values. A length sums over a picture's values; only over "
            "the pictures is the mean taken.",
        ),
        Mistake(
            lengths.sum().item() / 2,
            "Summed over the batch: the penalty would grow with it. Take the mean over pictures.",
        ),
        Mistake(
            lengths.sqrt().mean().item() / 2,
            "That is the length, not its square.",
        ),
        Mistake(
            lengths.mean().item() / 2 / len(real) ** 2,
            "The slope is that of the mean score, so each picture's is divided by the batch's "
            "size. Differentiate the sum.",
        ),
        Mistake(
            (lengths.sqrt() - 1).square().mean().item(),
            "That pulls the length to 1, as a gradient penalty for Wasserstein critics does. R1 "
            "pulls it to 0.",
        ),
    ]
    answer = call(r1, critic, real.clone())
    compare(answer.detach() if isinstance(answer, Tensor) else answer, right, mistakes)
    require(
        isinstance(answer, Tensor) and answer.requires_grad,
        "The value is right, but no gradient leads from it to the critic's weights, so it would "
        "change nothing. Pass create_graph=True to torch.autograd.grad, and detach nothing.",
    )
    (trained,) = torch.autograd.grad(answer, critic.weight)
    exact = 4 * critic.weight.detach() * real.square().mean(dim=0)
    compare(trained, exact, what="The value is right; its gradient in the critic's weights")
    passed("half the mean squared length of the slope at real pictures, and the critic feels it.")


class _Critic(nn.Module):
    """f(x) = sum of w x^2, of which every slope is known: 2 w x in x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.9, 8).view(2, 2, 2))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2, 2, 2) -> scores (B,)."""
        return (self.weight * images.square()).flatten(1).sum(dim=1)
