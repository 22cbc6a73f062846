"""Checks of chapter 4's second half accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import (
    check_bits,
    check_clip,
    check_first_step,
    check_guide_between,
    check_heun,
    check_noise_to_velocity,
    check_one_side,
    check_pmi,
    check_temper,
    check_tilted_std,
)
from vislm_tutorial.losses import bits_per_dim, guided


def temper(logits, temperature):
    return (logits / temperature).softmax(-1)


def bits(log_p, shape):
    return bits_per_dim(-log_p.mean() / math.prod(shape))


def noise_to_velocity(noise, noisy, sigma):
    return (noise - noisy) / (1 - sigma)


def heun(velocity, x, sigma, lower):
    here = velocity(x, sigma)
    there = velocity(x + (lower - sigma) * here, lower)
    return x + (lower - sigma) * (here + there) / 2


def tilted_std(wide, narrow, w):
    return ((1 - w) / wide**2 + w / narrow**2) ** -0.5


def guide(empty, caption, w, sigma, low, high):
    return guided(empty, caption, w if low <= sigma <= high else 1.0)


def pmi(joint):
    return (joint / (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True))).log()


def one_side(similarity):
    return F.cross_entropy(similarity, torch.arange(len(similarity)))


def clip(gradients, max_norm):
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    return [min(1.0, max_norm / norm) * g for g in gradients]


def first_step(gradient, lr, betas, eps):
    return -lr * gradient / (gradient.abs() + eps)


RIGHT = [
    (check_temper, temper),
    (check_bits, bits),
    (check_noise_to_velocity, noise_to_velocity),
    (check_heun, heun),
    (check_tilted_std, tilted_std),
    (check_guide_between, guide),
    (check_pmi, pmi),
    (check_one_side, one_side),
    (check_clip, clip),
    (check_first_step, first_step),
]
WRONG = [
    (check_temper, lambda z, t: (z * t).softmax(-1), "Upside down"),
    (check_temper, lambda z, t: z.softmax(-1) / t, "no longer sums to 1"),
    (check_temper, lambda z, t: (z.softmax(-1) / t).softmax(-1), "Two softmaxes"),
    (check_temper, lambda z, t: z.softmax(-1) ** (1 / t), "divide by the sum"),
    (check_temper, lambda z, t: (z / t).softmax(0), "along the last axis"),
    (check_bits, lambda p, shape: -bits(p, shape), "sign is turned"),
    (check_bits, lambda p, shape: -p.mean() / math.prod(shape), "These are nats"),
    (check_bits, lambda p, shape: bits(p, shape[1:]), "three channels"),
    (check_bits, lambda p, shape: bits(p, ()), "bits a picture"),
    (check_bits, lambda p, shape: len(p) * bits(p, shape), "sum over the batch"),
    (
        check_noise_to_velocity,
        lambda noise, noisy, sigma: (noise - noisy) / sigma,
        "1 - sigma is left",
    ),
    (
        check_noise_to_velocity,
        lambda noise, noisy, sigma: (noisy - sigma * noise) / (1 - sigma),
        "guess of x_0",
    ),
    (check_noise_to_velocity, lambda e, x, s: (x - e) / (1 - s), "sign is turned"),
    (check_heun, lambda v, x, s, t: x + (t - s) * v(x, s), "Euler's step"),
    (
        check_heun,
        lambda v, x, s, t: x + (s - t) * (v(x, s) + v(x + (s - t) * v(x, s), t)) / 2,
        "walks away",
    ),
    (
        check_heun,
        lambda v, x, s, t: x + (t - s) * (v(x, s) + v(x, t)) / 2,
        "asked at the old x",
    ),
    (
        check_heun,
        lambda v, x, s, t: x + (t - s) * (v(x, s) + v(x + (t - s) * v(x, s), s)) / 2,
        "asked at the old sigma",
    ),
    (check_tilted_std, lambda S, s, w: S ** (1 - w) * s**w, "guided *sampling*"),
    (check_tilted_std, lambda S, s, w: tilted_std(S, s, w) ** 2, "the variance"),
    (check_tilted_std, lambda S, s, w: tilted_std(S, s, w + 1), "w + 1 stands"),
    (
        check_guide_between,
        lambda e, c, w, sigma, low, high: guided(e, c, w if low <= sigma <= high else 0.0),
        "w = 0, not 1",
    ),
    (check_guide_between, lambda e, c, w, *rest: guided(e, c, w), "outside the interval too"),
    (check_guide_between, lambda e, c, w, *rest: c, "nothing was guided"),
    (check_pmi, lambda joint: joint.log(), "what chance alone"),
    (check_pmi, lambda joint: (joint / joint.sum(0)).log(), "One marginal is missing"),
    (check_pmi, lambda joint: (joint / (joint.sum(1) * joint.sum(0))).log(), "keepdim=True"),
    (check_pmi, lambda joint: pmi(joint) / math.log(2), "These are bits"),
    (check_one_side, lambda s: one_side(s.T), "along each row"),
    (check_one_side, lambda s: -s.log_softmax(1).mean(), "Only the one on the diagonal"),
    (check_one_side, lambda s: len(s) * one_side(s), "the mean was asked"),
    (check_one_side, lambda s: -s.log_softmax(1).diagonal(), "a loss is one number"),
    (check_clip, lambda gs, c: [g * min(1, c / g.norm()) for g in gs], "by its own norm"),
    (check_clip, lambda gs, c: [g.clamp(-c, c) for g in gs], "turns the gradient"),
    (
        check_clip,
        lambda gs, c: [c * g / math.sqrt(sum(h.square().sum() for h in gs)) for g in gs],
        "made longer",
    ),
    (check_clip, lambda gs, c: gs[0], "Shapes"),
    (check_first_step, lambda g, lr, b, e: -lr * g / (g**2 + e).sqrt(), "inside the square root"),
    (
        check_first_step,
        lambda g, lr, b, e: -lr * (1 - b[0]) * g / (math.sqrt(1 - b[1]) * g.abs() + e),
        "Without the correction",
    ),
    (check_first_step, lambda g, lr, b, e: -first_step(g, lr, b, e), "sign is turned"),
    (check_first_step, lambda g, lr, b, e: -lr * g, "plain gradient descent"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda f: f.__name__)
def test_right_answers_pass_in_float64_too(check, answer):
    """Chapter 4's pages compute in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        check(answer)
    finally:
        torch.set_default_dtype(torch.float32)
