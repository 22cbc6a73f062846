"""The checks of page 2.4 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)
from torch.distributions import Normal, kl_divergence

from vislm_tutorial.checks import check_active_share, check_gaussian_kl


def each(q_mean, q_std, p_mean, p_std):
    apart = (q_mean - p_mean) ** 2
    return torch.log(p_std / q_std) + (q_std**2 + apart) / (2 * p_std**2) - 0.5


def by_hand(*moments):
    return each(*moments).sum(dim=(1, 2, 3))


def by_torch(q_mean, q_std, p_mean, p_std):
    nats = kl_divergence(Normal(q_mean, q_std), Normal(p_mean, p_std))
    return nats.flatten(1).sum(1)


def turned(q_mean, q_std, p_mean, p_std):
    return by_hand(p_mean, p_std, q_mean, q_std)


def not_squared(q_mean, q_std, p_mean, p_std):
    return (
        ((p_std / q_std).log() / 2 + (q_std + (q_mean - p_mean) ** 2) / (2 * p_std) - 0.5)
        .flatten(1)
        .sum(1)
    )


def standard(q_mean, q_std, p_mean, p_std):
    return by_hand(q_mean, q_std, torch.zeros_like(q_mean), torch.ones_like(q_std))


def without_means(q_mean, q_std, p_mean, p_std):
    return by_hand(q_mean, q_std, q_mean, p_std)


def log_turned(q_mean, q_std, p_mean, p_std):
    moments = q_mean, q_std, p_mean, p_std
    return by_hand(*moments) - 2 * (p_std / q_std).log().flatten(1).sum(1)


def active_share(nats):
    return (nats.mean(dim=0) > 0.01).float().mean().item()


RIGHT = [
    (check_gaussian_kl, by_hand),
    (check_gaussian_kl, by_torch),
    (check_active_share, active_share),
    (check_active_share, lambda n: (n.mean(0) > 0.01).sum() / n[0].numel()),
]
WRONG = [
    (check_gaussian_kl, turned, "KL(p || q)"),
    (check_gaussian_kl, not_squared, "both stds are squared"),
    (check_gaussian_kl, standard, "prior is learned"),
    (check_gaussian_kl, without_means, "means are not used"),
    (check_gaussian_kl, log_turned, "upside down"),
    (check_gaussian_kl, lambda *m: by_hand(*m) + 4, "-1/2 is missing"),
    (check_gaussian_kl, lambda *m: each(*m).flatten(1).mean(1), "mean over the numbers"),
    (check_gaussian_kl, lambda *m: each(*m).sum(1), "Only the channels"),
    (check_gaussian_kl, lambda *m: each(*m).sum(), "whole batch"),
    (check_gaussian_kl, lambda *m: by_hand(*m).mean(), "mean cost"),
    (check_gaussian_kl, lambda *m: -by_hand(*m), "sign is turned"),
    (check_gaussian_kl, each, "single numbers"),
    (check_active_share, lambda n: (n > 0.01).float().mean(), "compared by itself"),
    (check_active_share, lambda n: (n.amax(0) > 0.01).float().mean(), "single picture"),
    (check_active_share, lambda n: (n.sum(0) > 0.01).float().mean(), "added up"),
    (check_active_share, lambda n: (n.mean(0) > 0).float().mean(), "above 0 counted"),
    (check_active_share, lambda n: (n.mean((0, 2, 3)) > 0.01).float().mean(), "share of channels"),
    (check_active_share, lambda n: (n.mean(0).sum(0) > 0.01).float().mean(), "share of cells"),
    (check_active_share, lambda n: (n.mean(0) > 0.01).sum(), "how many"),
    (check_active_share, lambda n: 1 - active_share(n), "share of silent"),
    (check_active_share, lambda n: n.mean(), "mean of the nats"),
]
