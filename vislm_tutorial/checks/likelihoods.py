"""Checks of chapter 4's exercises on likelihoods, hidden codes and critics: pages 4.1 to 4.4."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed, require


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_best_std(best_std: Callable) -> None:
    """Page 4.1: `best_std(prediction, target)`: the one std with the highest likelihood.

    Raises:
        CheckFailed: naming the mistake.
    """
    target = torch.randn(4, 3, 5, 5, generator=_seeded(0))
    prediction = 0.5 * target + 0.4  # off by something that has a mean
    error = target - prediction
    mse = error.square().mean()
    mistakes = [
        Mistake(mse.item(), "That is the mean squared error, the best *variance*. Take its root."),
        Mistake(
            error.std().item(),
            "`std` takes the error's own mean away first. A prediction that is off by a constant "
            "is then forgiven: square the error itself.",
        ),
        Mistake(error.std(unbiased=False).item(), "The error's own mean was taken away first."),
        Mistake(error.abs().mean().item(), "That is the mean absolute error; a Laplace has it."),
        Mistake(target.std().item(), "That is how far the pictures vary, not how far you are off."),
        Mistake(error.square().sum().sqrt().item(), "Root of the sum; it wants the mean."),
        Mistake(
            error.square().flatten(1).sum(dim=1).mean().sqrt().item(),
            "You summed over the values of a picture and averaged over pictures only.",
        ),
    ]
    answer = call(best_std, prediction, target)
    compare(answer, mse.sqrt().item(), mistakes, "The std")
    passed("the root of the mean squared error, a constant offset included.")


def check_best_picture(best_picture: Callable) -> None:
    """Page 4.1: `best_picture(pictures (B, C, H, W), seen (B,))`, seen so often: (C, H, W).

    Raises:
        CheckFailed: naming the mistake.
    """
    pictures = torch.rand(3, 3, 4, 4, generator=_seeded(0)) * 2 - 1
    seen = torch.tensor([5.0, 2.0, 1.0])
    weighted = (pictures * seen[:, None, None, None]).sum(dim=0)
    mistakes = [
        Mistake(
            pictures.mean(dim=0),
            "Each picture counted once. The first was seen five times, and its error counts five "
            "times.",
        ),
        Mistake(
            pictures[0],
            "That is the picture seen most often. It is right five times in eight, and far off in "
            "the other three: squared error would rather be half wrong always.",
        ),
        Mistake(weighted, "The weighted sum is right; divide by how many were seen in all."),
        Mistake(weighted / 3, "Divide by how many were seen, 8, not by how many differ, 3."),
        Mistake(
            pictures.median(dim=0).values,
            "That is the median: right for the absolute error, not for the squared one.",
        ),
        Mistake((weighted / 8)[None], "The values are right, but a batch axis is left over."),
    ]
    compare(call(best_picture, pictures, seen), weighted / 8, mistakes, "The picture")
    passed("the mean of what was seen, each as often as it was seen.")


def check_soft_cross_entropy(soft_cross_entropy: Callable) -> None:
    """Page 4.2: `soft_cross_entropy(logits, target)`, both (B, K, H, W): the mean over pixels.

    Raises:
        CheckFailed: naming the mistake.
    """
    for k, side in ((2, 1), (4, 3)):
        logits = torch.randn(2, k, side, side, generator=_seeded(k))
        target = torch.randn(2, k, side, side, generator=_seeded(9)).softmax(dim=1)
        log_p = logits.log_softmax(dim=1)
        each = -(target * log_p).sum(dim=1)  # (B, H, W)
        hard = -log_p.gather(1, target.argmax(dim=1, keepdim=True))
        mistakes = [
            Mistake(each.sum().item(), "You summed over pixels where the mean was asked."),
            Mistake(
                (each.sum() / 2).item(),
                "It grows with the image: you divided by the pictures and not by their pixels.",
            ),
            Mistake(
                (-(target * log_p).mean()).item(),
                f"{k} times too small: the K classes of a pixel are summed, only pixels averaged.",
            ),
            Mistake(
                (-(log_p.exp() * target.log()).sum(dim=1).mean()).item(),
                "Target and prediction are exchanged, as on the page's first figure: the log "
                "belongs to the prediction.",
            ),
            Mistake(-each.mean().item(), "The sign is turned: a better answer costs less."),
            Mistake(
                hard.mean().item(), "Only the likeliest class was used. The target is a whole row."
            ),
            Mistake(
                (-(target * logits.log_softmax(dim=-1)).sum(dim=1).mean()).item(),
                "The softmax ran along the last axis, W. The classes are axis 1.",
            ),
            Mistake(
                (-(target * logits).sum(dim=1).mean()).item(),
                "Logits are not log-probabilities yet: log_softmax makes them so.",
            ),
            Mistake(each.mean().item() / math.log(2), "That is in bits; nats were asked."),
        ]
        compare(call(soft_cross_entropy, logits, target), each.mean().item(), mistakes, "The loss")
    passed("target times log prediction, summed over classes, averaged over pixels.")


def check_logistic_probability(probability: Callable) -> None:
    """Page 4.2: `probability(x, mean, scale)` of one of 256 steps in [-1, 1], all of them (256,).

    Raises:
        CheckFailed: naming the mistake.
    """
    values = torch.linspace(-1, 1, 256)

    def between(below, above, mean, scale):
        high, low = (((values + step - mean) / scale).sigmoid() for step in (above, -below))
        return high - low

    for mean, scale in ((0.2, 0.1), (0.95, 0.1)):
        inner = between(1 / 255, 1 / 255, mean, scale)
        right = inner.clone()
        right[0] = torch.sigmoid((values[0] + 1 / 255 - mean) / scale)
        right[-1] = torch.sigmoid(-(values[-1] - 1 / 255 - mean) / scale)
        u = (values - mean) / scale
        density = u.sigmoid() * (-u).sigmoid() / scale
        mistakes = [
            Mistake(
                inner,
                "The two ends are missing: what lies beyond -1 and 1 belongs to the outermost "
                "steps. As it is, the 256 do not add up to 1.",
            ),
            Mistake(
                between(1 / 510, 1 / 510, mean, scale),
                "The bin is half as wide as it must be. From -1 to 1 there are 255 gaps, so a step "
                "is 2/255 wide: 1/255 to each side.",
            ),
            Mistake(
                between(2 / 255, 2 / 255, mean, scale),
                "The bin is twice as wide as it must be: 1/255 to each side of the value.",
            ),
            Mistake(
                density,
                "That is the density, which may exceed 1. The probability of a step is the "
                "sigmoid at its upper edge less the sigmoid at its lower.",
            ),
            Mistake(density * 2 / 255, "Density times width is near; the exact one was asked."),
            Mistake(u.sigmoid(), "That is the probability of this value *or less*."),
        ]
        answer = call(probability, values, mean, scale)
        compare(answer, right, mistakes, f"At mean {mean}", tolerance=2e-5)
    passed("256 probabilities that add up to 1, the outermost two with their tails.")


def check_code_cost(code_cost: Callable) -> None:
    """Page 4.3: `code_cost(mean, log_variance)`, both (B, D): KL to N(0, 1) in nats, (B,).

    Raises:
        CheckFailed: naming the mistake.
    """
    mean = torch.randn(3, 4, generator=_seeded(0))
    log_variance = torch.randn(3, 4, generator=_seeded(1))
    variance = log_variance.exp()
    each = (mean.square() + variance - 1 - log_variance) / 2  # (B, D)
    right = each.sum(dim=1)
    mistakes = [
        Mistake(-right, "The sign is turned. A code that says nothing costs 0, any other more."),
        Mistake(2 * right, "Twice too much: the half is missing."),
        Mistake(each.mean(dim=1), "That is a mean over the code. Each number of it is paid for."),
        Mistake(each.sum(), "That is the cost of the whole batch; each example has its own, (B,)."),
        Mistake(each.sum() / 3, "That is one mean cost; each example has its own, (B,)."),
        Mistake(
            (right + 2), "The -1 is missing: N(0, 1) itself would cost 1/2 nat for each number."
        ),
        Mistake(
            ((mean.square() + variance.square() - 1) / 2 - log_variance).sum(dim=1),
            "log_variance was read as the log of the standard deviation. It is that of its square.",
        ),
        Mistake(
            ((mean.square() + 1) / variance / 2 - 0.5 + log_variance / 2).sum(dim=1),
            "That is KL(N(0, 1) || q): the other way round. The mean is taken over the code.",
        ),
        Mistake(each, "These are the costs of single numbers, (B, D). Add each row up."),
    ]
    compare(call(code_cost, mean, log_variance), right, mistakes, "The cost")
    passed("nothing for N(0, 1), and each number of the code pays for itself.")


def check_draw_code(draw_code: Callable) -> None:
    """Page 4.3: `draw_code(mean, log_variance, noise)`, all (B, D): a code that gradients pass.

    Raises:
        CheckFailed: naming the mistake.
    """
    mean, log_variance, noise = torch.randn(3, 2, 3, generator=_seeded(0))
    std = (log_variance / 2).exp()
    mistakes = [
        Mistake(
            mean + log_variance.exp() * noise,
            "The noise was scaled by the variance; it takes its root, exp(log_variance / 2).",
        ),
        Mistake(
            mean + log_variance * noise, "log_variance itself scales the noise. Take it out of log."
        ),
        Mistake(mean + noise, "The variance is not used."),
        Mistake(mean, "No noise: this is the code's mean, not a draw."),
        Mistake(std * (mean + noise), "The mean was scaled as well; only noise is."),
        Mistake(mean - std * noise, "As likely a draw, but with the noise's sign turned."),
    ]
    compare(call(draw_code, mean, log_variance, noise), mean + std * noise, mistakes, "The code")
    inputs = [t.clone().requires_grad_() for t in (mean, log_variance)]
    drawn = draw_code(*inputs, noise)
    reached = drawn.requires_grad
    if reached:
        gradients = torch.autograd.grad(drawn.sum(), inputs, allow_unused=True)
        reached = all(g is not None for g in gradients)
    require(
        reached,
        "The values are right, but no gradient gets back to mean and log_variance. Did you "
        "detach, or work under no_grad? Then an encoder cannot learn from it.",
    )
    passed("mean + std * noise, and the gradient reaches both.")


def check_best_critic(best_critic: Callable) -> None:
    """Page 4.4: `best_critic(real, fake, share)`: densities (N,), and the share of real examples.

    Raises:
        CheckFailed: naming the mistake.
    """
    real, fake = torch.rand(2, 6, generator=_seeded(0)) + 0.1
    for share in (0.5, 0.2):
        a, b = share * real, (1 - share) * fake
        mistakes = [
            Mistake(
                real / (real + fake),
                f"share is {share:g} here and was not used. Among many fakes a place must look "
                "more real to be called so.",
            ),
            Mistake(b / (a + b), "That is the probability of *fake*."),
            Mistake(fake / (real + fake), "That is the probability of *fake*, for equal shares."),
            Mistake(a / b, "Those are the odds o. The probability is o / (1 + o)."),
            Mistake(
                (1 - share) * real / ((1 - share) * real + share * fake),
                "The shares are exchanged: `share` is that of real examples.",
            ),
            Mistake((a > b).to(real), "That is the hinge critic's answer: the sign alone."),
        ]
        answer = call(best_critic, real, fake, share)
        compare(answer, a / (a + b), mistakes, f"At share {share:g} the critic")
    passed("what is real there, over all that is there, each with its share.")


def check_jensen_shannon(jensen_shannon: Callable) -> None:
    """Page 4.4: `jensen_shannon(p, q)` in nats of distributions (N,) that may hold zeros.

    Raises:
        CheckFailed: naming the mistake.
    """
    for p, q in (
        (torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.2, 0.7])),
        (torch.tensor([0.6, 0.4, 0.0]), torch.tensor([0.0, 0.0, 1.0])),
        (torch.tensor([0.6, 0.4, 0.0]), torch.tensor([0.0, 0.5, 0.5])),
        (torch.tensor([0.6, 0.4, 0.0]), torch.tensor([0.5, 0.5, 0.0])),
    ):
        middle = (p + q) / 2
        kept = middle > 0  # elsewhere it is 0 / 0
        left, other = (torch.special.xlogy(d, d / middle)[kept].sum().item() for d in (p, q))
        right = (left + other) / 2
        jeffreys = ((p - q) * (p.log() - q.log())).sum().item() / 2
        mistakes = [
            Mistake(left + other, "Twice too much: it is the *mean* of the two divergences."),
            Mistake(
                jeffreys,
                "That is the mean of KL(p || q) and KL(q || p). Each is compared with their "
                "mixture (p + q) / 2, which keeps it finite.",
            ),
            Mistake(2 * jeffreys, "KL(p || q) + KL(q || p): compare with (p + q) / 2 instead."),
            Mistake(left, "That is p against the mixture. q is compared with it too."),
            Mistake(other, "That is q against the mixture. p is compared with it too."),
            Mistake(right / math.log(2), "That is in bits; nats were asked."),
            Mistake(math.sqrt(right), "That is its root, the Jensen-Shannon *distance*."),
        ]
        answer = call(jensen_shannon, p, q)
        number = answer.item() if hasattr(answer, "item") and answer.numel() == 1 else answer
        require(
            not (isinstance(number, float) and math.isnan(number)),
            "The answer is nan: 0 log 0 counts as 0, but to a computer it is 0 times -infinity, "
            "and where both are 0, p / m is 0 / 0. torch.special.entr and xlogy know the first.",
        )
        compare(number, right, mistakes, f"For {p.tolist()} and {q.tolist()} it")
    passed("0 for equal distributions, log 2 for two that share nothing, and zeros do no harm.")
