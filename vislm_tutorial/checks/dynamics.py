"""Checks of the second half of chapter 4: one after another, flow, guidance, contrast, updates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .report import Mistake, call, compare, fail, passed, require


def check_temper(temper: Callable) -> None:
    """Page 4.5: `temper(logits, temperature)`: probabilities over the last axis.

    Raises:
        CheckFailed: naming the mistake.
    """
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))  # wrong axes fit too
    for temperature in (0.5, 3.0):
        p = logits.softmax(-1)
        mistakes = [
            Mistake(
                (logits * temperature).softmax(-1),
                "Upside down: a low temperature must sharpen. Divide by it.",
            ),
            Mistake(
                p / temperature,
                "That no longer sums to 1. The temperature divides the logits, before the softmax.",
            ),
            Mistake(
                (p / temperature).softmax(-1),
                "Two softmaxes: the temperature divides the logits, not the probabilities.",
            ),
            Mistake(
                p ** (1 / temperature),
                "The power 1 / temperature is right; divide by the sum, so that it is 1 again.",
            ),
            Mistake((logits / temperature).softmax(0), "The classes lie along the last axis."),
            Mistake((logits / temperature).log_softmax(-1), "These are the logarithms."),
            Mistake(p, "The temperature is not used."),
        ]
        answer = call(temper, logits, temperature)
        right = (logits / temperature).softmax(-1)
        compare(answer, right, mistakes, f"At temperature {temperature} the distribution")
    passed("sharper below 1, flatter above, and a distribution each time.")


def check_bits(bits: Callable) -> None:
    """Page 4.5: `bits(log_p, shape)`: the mean bits per dim of B pictures, from (B,) nats.

    Raises:
        CheckFailed: naming the mistake.
    """
    shape = (3, 8, 4)
    d, pixels = math.prod(shape), shape[1] * shape[2]
    for log_p in (torch.tensor([-120.0, -200.0]), torch.tensor([-50.0, -70.0, -90.0])):
        nats = -log_p.mean().item()
        right = nats / (d * math.log(2))
        mistakes = [
            Mistake(-right, "The sign is turned: fewer bits are better, and none are below 0."),
            Mistake(nats / d, "These are nats. A bit is log 2 nats: divide once more."),
            Mistake(nats * math.log(2) / d, "A bit is *less* than a nat: divide by log 2."),
            Mistake(nats / math.log(2), "These are bits a picture. Divide by its values."),
            Mistake(
                right * d / pixels,
                "Divided by the pixels. A pixel of three channels holds three values.",
            ),
            Mistake(right * len(log_p), "The sum over the batch, where the mean was asked."),
        ]
        compare(call(bits, log_p, shape), right, mistakes, "The number of bits")
    passed("nats over log 2, shared among channels, rows and columns.")


def check_noise_to_velocity(velocity: Callable) -> None:
    """Page 4.6: `velocity(noise, noisy, sigma)`: v of a model that predicts the noise.

    Raises:
        CheckFailed: naming the mistake.
    """
    x0, noise = torch.randn(2, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for sigma in (0.25, 0.7):
        noisy = (1 - sigma) * x0 + sigma * noise
        mistakes = [
            Mistake(x0, "That is the guess of x_0. The velocity is the noise less that."),
            Mistake(x0 - noise, "The sign is turned: v points from the picture to the noise."),
            Mistake(
                (noise - noisy) / sigma,
                "Over sigma goes what is left of the way to the picture. From here to the noise "
                "1 - sigma is left.",
            ),
            Mistake(noise - noisy, "That is the way still to go, 1 - sigma of the whole: divide."),
            Mistake(
                (noisy - noise) / (1 - sigma),
                "The sign is turned: v points from the picture to the noise.",
            ),
            Mistake(
                noise - (noisy - sigma * noise),
                "noisy - sigma noise is (1 - sigma) x_0: divide it before you take it off.",
            ),
        ]
        answer = call(velocity, noise, noisy, sigma)
        compare(answer, noise - x0, mistakes, f"At sigma = {sigma} the velocity", 1e-4)
    passed("a model of the noise holds a velocity, at every sigma below 1.")


def check_heun(heun: Callable) -> None:
    """Page 4.6: `heun(velocity, x, sigma, lower)`: one step of Heun's method down to `lower`.

    Raises:
        CheckFailed: naming the mistake.
    """

    def field(x, sigma):
        return torch.sin(x) + sigma**2 * x

    x = torch.tensor([0.4, -1.0, 2.0])
    for sigma, lower in ((1.0, 0.7), (0.5, 0.1)):
        h = lower - sigma
        here = field(x, sigma)
        there = field(x + h * here, lower)
        mistakes = [
            Mistake(x + h * here, "That is Euler's step: one slope. Ask again where it lands."),
            Mistake(
                x - h * (here + field(x - h * here, lower)) / 2,
                "It walks away from the picture: sigma falls, so lower - sigma is below 0.",
            ),
            Mistake(
                x + h * (here + field(x, lower)) / 2,
                "The second slope was asked at the old x. Take Euler's step first.",
            ),
            Mistake(
                x + h * (here + field(x + h * here, sigma)) / 2,
                "The second slope was asked at the old sigma. Where it lands, sigma is lower.",
            ),
            Mistake(x + h * (here + there), "The mean of both slopes, not their sum."),
            Mistake(
                x + h * field(x + h / 2 * here, (sigma + lower) / 2),
                "That is the midpoint method: as exact, but not Heun's mean of two slopes.",
            ),
            Mistake(
                x + h * there, "That uses the second slope alone; Heun takes the mean of both."
            ),
        ]
        answer = call(heun, field, x, sigma, lower)
        right = x + h * (here + there) / 2
        compare(answer, right, mistakes, f"The step from {sigma} to {lower}")
    passed("Euler's step, a second look from there, the mean of the two.")


def check_tilted_std(tilted_std: Callable[[float, float, float], float]) -> None:
    """Page 4.7: `tilted_std(wide, narrow, w)` of p(x) p(c | x)^w, both densities Gaussian.

    Raises:
        CheckFailed: naming the mistake.
    """
    for wide, narrow, w in ((1.0, 0.5, 3.0), (2.0, 0.8, 4.0)):
        precision = (1 - w) / wide**2 + w / narrow**2
        shifted = -w / wide**2 + (1 + w) / narrow**2
        mistakes = [
            Mistake(
                wide ** (1 - w) * narrow**w,
                "That is what guided *sampling* ends with. The question is about the density.",
            ),
            Mistake(precision**-1, "That is the variance; asked was its root."),
            Mistake(precision, "That is the precision, 1 / variance."),
            Mistake(
                shifted**-0.5,
                "There w + 1 stands where w belongs: at w = 1 it must give `narrow`.",
            ),
            Mistake(narrow, "w is not used."),
            Mistake(
                narrow / math.sqrt(w),
                "That is p(x | c)^w alone. p(x)^(1 - w) takes some of that precision away.",
            ),
            Mistake(
                math.sqrt(abs((1 - w) * wide**2 + w * narrow**2)),
                "Variances do not add here. A product of Gaussians adds precisions, 1 / variance.",
            ),
        ]
        answer = call(tilted_std, wide, narrow, w)
        compare(answer, precision**-0.5, mistakes, f"The deviation at w = {w}")
    compare(call(tilted_std, 1.0, 0.5, 1.0), 0.5, (), "At w = 1 the deviation")
    passed("precisions add, weighted by their powers; w = 1 gives the caption's own.")


def check_guide_between(guide: Callable) -> None:
    """Page 4.7: `guide(empty, caption, w, sigma, low, high)`: guidance only where low <= sigma
    <= high, the caption alone elsewhere.

    Raises:
        CheckFailed: naming the mistake.
    """
    empty, caption = torch.randn(2, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    full = empty + 3.0 * (caption - empty)
    outside = [
        Mistake(empty, "Outside the interval the caption was not asked at all: w = 0, not 1."),
        Mistake(full, "Guided outside the interval too."),
        Mistake(torch.zeros_like(empty), "Outside the interval the picture still has to move."),
    ]
    inside = [
        Mistake(caption, "Inside the interval nothing was guided."),
        Mistake(
            caption + 3.0 * (caption - empty),
            "It starts at the caption, so its w is one too large. Start at the empty answer.",
        ),
        Mistake(empty + 3.0 * (empty - caption), "It goes away from the caption."),
    ]
    for sigma, right in ((0.9, caption), (0.1, caption), (0.5, full), (0.3, full), (0.7, full)):
        mistakes = inside if right is full else outside
        answer = call(guide, empty, caption, 3.0, sigma, 0.3, 0.7)
        compare(answer, right, mistakes, f"At sigma = {sigma} of [0.3, 0.7] it")
    passed("guided inside the interval and at its ends, the caption alone elsewhere.")


def check_pmi(pmi: Callable) -> None:
    """Page 4.8: `pmi(joint)`: pointwise mutual information in nats, from (X, C) probabilities.

    Raises:
        CheckFailed: naming the mistake.
    """
    joint = torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    joint = joint / joint.sum()
    row, column = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    right = (joint / (row * column)).log()
    once = "One marginal is missing: divide by p(x) and by p(c)."
    mistakes = [
        Mistake(joint.log(), "That is log p(x, c). Divide by what chance alone would give."),
        Mistake((joint / row).log(), once),
        Mistake((joint / column).log(), once),
        Mistake(
            (joint / (joint.sum(1) * joint.sum(0))).log(),
            "p(x) was spread over the wrong axis: row i belongs to picture i. Use keepdim=True.",
        ),
        Mistake(right / math.log(2), "These are bits; nats have the natural logarithm."),
        Mistake(right.exp(), "That is the ratio itself; take its logarithm."),
        Mistake(
            (joint * right).sum(), "That is the mean over pairs, the mutual information itself."
        ),
        Mistake(joint * right, "Each pair's information was weighted by its probability."),
        Mistake(-right, "The sign is turned: pairs that belong together lie above 0."),
    ]
    compare(call(pmi, joint), right, mistakes, "The table")
    passed("0 where picture and caption are strangers, above it where they belong together.")


def check_one_side(one_side: Callable) -> None:
    """Page 4.8: `one_side(similarity)`: which caption is the picture's, (B, B) with rows pictures.

    Raises:
        CheckFailed: naming the mistake.
    """
    similarity = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    own = torch.arange(4)
    right = F.cross_entropy(similarity, own)
    mistakes = [
        Mistake(
            F.cross_entropy(similarity.T, own),
            "That asks which picture is the caption's: the softmax runs along each row.",
        ),
        Mistake(4 * right, "The sum over pictures, where the mean was asked."),
        Mistake(-right, "The sign is turned: a loss is least when the own caption wins."),
        Mistake(
            -similarity.log_softmax(1).mean(),
            "All captions were asked for. Only the one on the diagonal is the picture's.",
        ),
        Mistake(-similarity.softmax(1).diag().mean(), "The logarithm is missing."),
        Mistake(-similarity.diag().mean(), "The softmax is missing: nothing pushes strangers off."),
        Mistake(
            -similarity.flatten().log_softmax(0).view(4, 4).diag().mean(),
            "One softmax over the whole table. Each picture has a choice of its own: dim=1.",
        ),
    ]
    answer = call(one_side, similarity)
    require(
        not isinstance(answer, torch.Tensor) or answer.ndim == 0,
        f"The answer has shape {tuple(getattr(answer, 'shape', ()))}; a loss is one number.",
    )
    compare(answer, right, mistakes, "The loss")
    passed("each picture chooses among the batch's captions, and its own is the right choice.")


def check_clip(clip: Callable) -> None:
    """Page 4.9: `clip(gradients, max_norm)`: a list of tensors, together no longer than max_norm.

    Raises:
        CheckFailed: naming the mistake.
    """
    gradients = [torch.tensor([3.0, -4.0]), torch.tensor([[12.0], [0.5]])]
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))

    def flat(tensors):
        return torch.cat([g.flatten() for g in tensors])

    cases = [
        (
            1.0,
            flat(gradients) / norm,
            [
                Mistake(
                    flat([g / g.norm() for g in gradients]),
                    "Each tensor was shortened by its own norm. The norm is of all together, or "
                    "the direction changes.",
                ),
                Mistake(
                    flat([g.clamp(-1, 1) for g in gradients]),
                    "Each value was cut off, which turns the gradient. Scale all by one factor.",
                ),
                Mistake(flat(gradients) / norm**2, "Divided by the squared norm: take its root."),
                Mistake(
                    flat(gradients) / sum(g.abs().sum() for g in gradients),
                    "That norm sums absolute values; the length sums squares, then takes the root.",
                ),
                Mistake(
                    flat(gradients) / sum(g.norm() for g in gradients),
                    "Norms of parts do not add; their squares do.",
                ),
                Mistake(flat(gradients), "Nothing was shortened."),
            ],
        ),
        (
            2 * norm,
            flat(gradients),
            [
                Mistake(
                    2 * flat(gradients),
                    "A gradient short enough was made longer. The factor is at most 1.",
                )
            ],
        ),
    ]
    for max_norm, right, mistakes in cases:
        answer = call(clip, [g.clone() for g in gradients], max_norm)
        try:
            shapes = [tuple(g.shape) for g in answer]
        except (TypeError, AttributeError):
            fail("Return a list of tensors, as many as came in.")
        wanted = [tuple(g.shape) for g in gradients]
        require(shapes == wanted, f"Shapes {shapes} came back; expected {wanted}.")
        shown = f"The gradient of length {norm:.1f} at max_norm {max_norm:.1f}"
        compare(flat(answer), right, mistakes, shown, 1e-4)
    passed("one factor for all, at most 1: shorter, never turned, never longer.")


def check_first_step(first_step: Callable) -> None:
    """Page 4.9: `first_step(gradient, lr, betas, eps)`: what Adam's first update adds.

    Raises:
        CheckFailed: naming the mistake.
    """
    g = torch.tensor([100.0, -0.5, 0.02, 0.0])
    for lr, betas, eps in ((0.1, (0.8, 0.95), 0.01), (0.003, (0.9, 0.999), 0.1)):
        right = -lr * g / (g.abs() + eps)
        one, two = 1 - betas[0], 1 - betas[1]
        mistakes = [
            Mistake(-right, "The sign is turned: an update goes against the gradient."),
            Mistake(
                -lr * one * g / (math.sqrt(two) * g.abs() + eps),
                "Without the correction: after one step both averages are still too small.",
            ),
            Mistake(
                -lr * one * g / (g.abs() + eps),
                "The mean gradient was not corrected: divide it by 1 - beta_1.",
            ),
            Mistake(
                -lr * g / (math.sqrt(two) * g.abs() + eps),
                "The mean square was not corrected: divide it by 1 - beta_2.",
            ),
            Mistake(
                -lr * g / (g.square() + eps).sqrt(),
                "Is your epsilon inside the square root? Adam adds it after.",
            ),
            Mistake(-lr * g / (g.square() + eps), "The square root is missing."),
            Mistake(-lr * g.sign(), "Nearly: epsilon holds back the smallest gradients."),
            Mistake(-lr * g, "That is plain gradient descent."),
        ]
        answer = call(first_step, g, lr, betas, eps)
        compare(answer, right, mistakes, "The first step", 1e-6)
    passed("the learning rate times the sign, less where the gradient is as small as epsilon.")
