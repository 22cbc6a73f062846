"""Checks of the exercises of page 5.14: more than one GPU."""

from __future__ import annotations

from collections.abc import Callable

from .report import Mistake, call, compare, passed


def check_rescaled_rate(rescaled_rate: Callable[[float, int, int, int], float]) -> None:
    """Page 5.14: `rescaled_rate(rate, batch, processes, batch_each)` by the linear rule.

    Raises:
        CheckFailed: naming the mistake.
    """
    rate, batch, processes, each = 1e-2, 32, 4, 64
    right = rate * processes * each / batch
    mistakes = [
        Mistake(rate * each / batch, "The processes count too: their batches make one step."),
        Mistake(rate * processes, "The batch of a process has changed as well: compare all items."),
        Mistake(
            rate * batch / (processes * each),
            "Upside down: a larger batch has a surer gradient and takes the larger step.",
        ),
        Mistake(
            rate * (processes * each / batch) ** 0.5,
            "That is the square-root rule, which some prefer for Adam. The linear one was asked.",
        ),
        Mistake(rate, "The rate has not moved, and the batch is eight times as large."),
    ]
    compare(call(rescaled_rate, rate, batch, processes, each), right, mistakes, "The rate")
    same = call(rescaled_rate, 0.5, 64, 4, 16)
    compare(same, 0.5, what="With the batch of 64 cut into 4 times 16 the rate")
    passed("the rate grows with the items of a step, and cutting a batch up changes nothing.")


def check_fsdp_bytes(fsdp_bytes: Callable[[float, int], float]) -> None:
    """Page 5.14: `fsdp_bytes(parameters, gpus)`: state on each GPU, in bytes, all in float32.

    Raises:
        CheckFailed: naming the mistake.
    """
    parameters, gpus = 3e9, 8
    right = 20 * parameters / gpus
    mistakes = [
        Mistake(right * gpus, "That is what DDP keeps. FSDP cuts everything by the GPUs."),
        Mistake(4 * parameters / gpus, "Those are the weights alone."),
        Mistake(
            16 * parameters / gpus,
            "One of five is missing: weights, gradients, Adam's two means, and the EMA.",
        ),
        Mistake(
            4 * parameters / gpus + 16 * parameters,
            "Gradients, optimiser and averages are sliced as the weights are.",
        ),
        Mistake(
            4 * parameters + 16 * parameters / gpus,
            "The weights are sliced too, and gathered a block at a time.",
        ),
        Mistake(5 * parameters / gpus, "Those are numbers. In float32 each takes 4 bytes."),
    ]
    compare(float(call(fsdp_bytes, parameters, gpus)), right, mistakes, "The state on each GPU")
    compare(float(call(fsdp_bytes, 1e6, 1)), 2e7, what="On one GPU, which has nobody to share, it")
    passed("20 bytes a parameter, divided by the GPUs.")


def check_ring_seconds(ring_seconds: Callable[[float, int, float], float]) -> None:
    """Page 5.14: `ring_seconds(parameters, gpus, link)`: float32 gradients summed on a ring.

    Raises:
        CheckFailed: naming the mistake.
    """
    parameters, gpus, link = 1e9, 4, 1e9
    size = 4 * parameters
    right = 2 * (gpus - 1) / gpus * size / link
    mistakes = [
        Mistake(right / 2, "Half the way: after summing, the sums must also go round."),
        Mistake(right / 4, "Gradients are float32: 4 bytes each."),
        Mistake(2 * size / link, "One of the n parts is at home already: n - 1 of n travel."),
        Mistake(
            2 * (gpus - 1) * size / link,
            "On a ring only an n-th of the gradients travels at a time.",
        ),
        Mistake(right * 8, "The link is given in bytes, not in bits."),
    ]
    compare(float(call(ring_seconds, parameters, gpus, link)), right, mistakes, "The time")
    compare(float(call(ring_seconds, parameters, 1, link)), 0.0, what="With one GPU the time")
    passed("2 (n - 1) / n times the bytes; it hardly grows once n is large.")
