"""The checks of pages 4.1 to 4.4 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial import losses
from vislm_tutorial.checks import (
    check_best_critic,
    check_best_picture,
    check_best_std,
    check_code_cost,
    check_draw_code,
    check_jensen_shannon,
    check_logistic_probability,
    check_soft_cross_entropy,
)


def best_std(prediction, target):
    return (target - prediction).square().mean().sqrt()


def best_picture(pictures, seen):
    return torch.einsum("b,bchw->chw", seen / seen.sum(), pictures)


def probability(x, mean, scale):
    edges = torch.cat([torch.tensor([-math.inf]), (x[1:] + x[:-1]) / 2, torch.tensor([math.inf])])
    return ((edges - mean) / scale).sigmoid().diff()


def inner_probability(x, mean, scale):
    return ((x + 1 / 255 - mean) / scale).sigmoid() - ((x - 1 / 255 - mean) / scale).sigmoid()


def density(x, mean, scale):
    u = (x - mean) / scale
    return u.sigmoid() * (1 - u.sigmoid()) / scale


def draw_code(mean, log_variance, noise):
    return mean + torch.exp(0.5 * log_variance) * noise


def best_critic(real, fake, share):
    return losses.optimal_discriminator(share * real, (1 - share) * fake)


def jensen_shannon(p, q):
    def entropy(d):
        return torch.special.entr(d).sum()

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def naive_jensen_shannon(p, q):
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


RIGHT = [
    (check_best_std, best_std),
    (check_best_picture, best_picture),
    (check_soft_cross_entropy, F.cross_entropy),
    (check_soft_cross_entropy, losses.pixel_cross_entropy),
    (check_logistic_probability, probability),
    (check_code_cost, losses.kl_to_standard_normal),
    (check_draw_code, draw_code),
    (check_best_critic, best_critic),
    (check_jensen_shannon, jensen_shannon),
]
WRONG = [
    (check_best_std, lambda p, t: F.mse_loss(p, t), "Take its root"),
    (check_best_std, lambda p, t: (t - p).std(), "off by a constant"),
    (check_best_std, lambda p, t: F.l1_loss(p, t), "mean absolute error"),
    (check_best_std, lambda p, t: t.std(), "how far the pictures vary"),
    (check_best_picture, lambda x, n: x.mean(dim=0), "counted once"),
    (check_best_picture, lambda x, n: x[n.argmax()], "seen most often"),
    (check_best_picture, lambda x, n: (x * n[:, None, None, None]).mean(dim=0), "by how many were"),
    (check_best_picture, lambda x, n: x.median(dim=0).values, "the absolute error"),
    (check_soft_cross_entropy, lambda u, y: F.cross_entropy(u, y, reduction="sum"), "summed over"),
    (
        check_soft_cross_entropy,
        lambda u, y: -(u.softmax(1) * y.log()).sum(1).mean(),
        "exchanged",
    ),
    (check_soft_cross_entropy, lambda u, y: -(y * u.log_softmax(1)).mean(), "2 times too small"),
    (check_soft_cross_entropy, lambda u, y: F.cross_entropy(u, y.argmax(1)), "likeliest class"),
    (
        check_soft_cross_entropy,
        lambda u, y: (
            F.cross_entropy(u, y, reduction="sum") / len(u)
            if u.shape[1] > 2
            else F.cross_entropy(u, y)
        ),
        "divided by the pictures",
    ),
    (check_logistic_probability, inner_probability, "The two ends are missing"),
    (check_logistic_probability, density, "That is the density"),
    (
        check_logistic_probability,
        lambda x, m, s: ((x + 1 / 510 - m) / s).sigmoid() - ((x - 1 / 510 - m) / s).sigmoid(),
        "half as wide",
    ),
    (check_code_cost, lambda m, v: -losses.kl_to_standard_normal(m, v), "sign is turned"),
    (check_code_cost, lambda m, v: losses.kl_to_standard_normal(m, 2 * v), "standard deviation"),
    (check_code_cost, lambda m, v: losses.kl_to_standard_normal(m, v).mean(), "has its own"),
    (check_code_cost, lambda m, v: losses.kl_to_standard_normal(m, v) / 4, "mean over the code"),
    (check_draw_code, lambda m, v, e: m + v.exp() * e, "takes its root"),
    (check_draw_code, lambda m, v, e: m + e, "variance is not used"),
    (check_draw_code, lambda m, v, e: draw_code(m, v, e).detach(), "no gradient gets back"),
    (check_draw_code, lambda m, v, e: draw_code(m, v.detach(), e), "no gradient gets back"),
    (check_best_critic, lambda p, q, share: p / (p + q), "was not used"),
    (check_best_critic, lambda p, q, share: best_critic(q, p, 1 - share), "probability of *fake*"),
    (check_best_critic, lambda p, q, share: share * p / ((1 - share) * q), "Those are the odds"),
    (check_best_critic, lambda p, q, share: best_critic(p, q, 1 - share), "shares are exchanged"),
    (check_jensen_shannon, lambda p, q: 2 * jensen_shannon(p, q), "Twice too much"),
    (
        check_jensen_shannon,
        lambda p, q: ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2,
        "compared with their mixture",
    ),
    (check_jensen_shannon, naive_jensen_shannon, "0 log 0"),
    (check_jensen_shannon, lambda p, q: jensen_shannon(p, q) / math.log(2), "in bits"),
]
