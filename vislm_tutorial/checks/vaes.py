"""Checks of page 2.4's exercises, on a rung of a VAE: what it costs, and who says anything."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed

LEAST = 0.01  # nats: a number that says less on average counts as silent


def check_gaussian_kl(gaussian_kl: Callable) -> None:
    """Page 2.4: `gaussian_kl(q_mean, q_std, p_mean, p_std)`, all (B, C, h, w): KL(q || p), (B,).

    Raises:
        CheckFailed: naming the mistake.
    """
    seeded = torch.Generator().manual_seed(0)
    q_mean, p_mean = torch.randn(2, 3, 2, 2, 2, generator=seeded)
    q_std, p_std = torch.rand(2, 3, 2, 2, 2, generator=seeded) + 0.3

    def each(q_mean, q_std, p_mean, p_std):
        square = (q_std.square() + (q_mean - p_mean).square()) / p_std.square()
        return (p_std / q_std).log() + (square - 1) / 2

    nats = each(q_mean, q_std, p_mean, p_std)  # (B, C, h, w)
    right = nats.flatten(1).sum(dim=1)

    def summed(values):
        return values.flatten(1).sum(dim=1)

    mistakes = [
        Mistake(
            summed(each(p_mean, p_std, q_mean, q_std)),
            "That is KL(p || q). The code is drawn from q, so the mean is taken over q, and p's "
            "std divides.",
        ),
        Mistake(
            summed(each(q_mean, q_std.sqrt(), p_mean, p_std.sqrt())),
            "A std was used where its square belongs: inside the bracket both stds are squared.",
        ),
        Mistake(
            summed(nats + 1 / 2),
            "The -1/2 is missing: where q equals p the cost must be 0, for each number.",
        ),
        Mistake(
            summed(nats - 2 * (p_std / q_std).log()),
            "The log ratio is upside down: it is log(p_std / q_std). A narrow q is dear.",
        ),
        Mistake(
            summed(each(q_mean, q_std, torch.zeros_like(p_mean), torch.ones_like(p_std))),
            "That is the cost against N(0, 1). This prior is learned: use its mean and std.",
        ),
        Mistake(
            summed(each(q_mean, q_std, q_mean, p_std)),
            "The means are not used. A q beside the prior is dear even if it is as wide.",
        ),
        Mistake(
            nats.flatten(1).mean(dim=1),
            "That is a mean over the numbers of a picture. Each is paid for: add them up.",
        ),
        Mistake(
            nats.sum(dim=1),
            "Only the channels were added up; each cell of a grid is paid for too.",
        ),
        Mistake(nats.sum(), "That is the cost of the whole batch; each picture has its own, (B,)."),
        Mistake(right.mean(), "That is the mean cost; each picture has its own, (B,)."),
        Mistake(nats, "These are the costs of single numbers. Add up those of each picture, (B,)."),
        Mistake(-right, "The sign is turned. A KL is never below 0."),
    ]
    answer = call(gaussian_kl, q_mean, q_std, p_mean, p_std)
    compare(answer, right, mistakes, "The cost")
    passed("nothing where q equals p, and every number of a rung pays for itself.")


def check_active_share(active_share: Callable) -> None:
    """Page 2.4: `active_share(nats)` of (B, C, h, w) nats a number: the share that says something.

    Raises:
        CheckFailed: naming the mistake.
    """
    nats = torch.zeros(4, 3, 2, 3)
    nats[:, 0, 0, 0] = 0.5  # speaks always
    nats[0, 0, 0, 1] = 0.2  # in one picture of four, 0.05 on average
    nats[1, 0, 1, 0] = 0.03  # in one of four, 0.0075 on average: silent
    nats[:, 1, 1, 0] = 0.004  # whispers in every picture; so does the next
    nats[:, 2, 1, 2] = 0.001
    average = nats.mean(dim=0)  # (C, h, w)
    right = (average > LEAST).double().mean().item()
    mistakes = [
        Mistake(
            (nats.amax(dim=0) > LEAST).double().mean().item(),
            "A number counted that speaks up in a single picture. Take the mean over pictures "
            "before you compare.",
        ),
        Mistake(
            (nats > LEAST).double().mean().item(),
            "Each picture's number was compared by itself. Take the mean over pictures first.",
        ),
        Mistake(
            (nats.sum(dim=0) > LEAST).double().mean().item(),
            "The nats of all pictures were added up: with more pictures all numbers would count. "
            "Take their mean.",
        ),
        Mistake(
            (average > 0).double().mean().item(),
            "Everything above 0 counted. A KL is never quite 0; the limit is 0.01.",
        ),
        Mistake(
            (average.mean(dim=(1, 2)) > LEAST).double().mean().item(),
            "That is the share of channels. A channel has a number in each cell of the grid.",
        ),
        Mistake(
            (average.sum(dim=0) > LEAST).double().mean().item(),
            "That is the share of cells. A cell holds a number of each channel.",
        ),
        Mistake(
            float((average > LEAST).sum()),
            "That is how many numbers are active. The share of them was asked.",
        ),
        Mistake(1 - right, "That is the share of silent numbers: the comparison is turned."),
        Mistake(average.mean().item(), "That is the mean of the nats. Count who exceeds 0.01."),
    ]
    compare(call(active_share, nats), right, mistakes, "The share")
    passed("a number counts if it says more than 0.01 nats on average over pictures.")
