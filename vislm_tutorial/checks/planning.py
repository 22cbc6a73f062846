"""Checks of chapter 5's exercises on planning a run: page 5.11."""

from __future__ import annotations

from collections.abc import Callable

from .report import Mistake, call, compare, passed


def check_optimiser_bytes(optimiser_bytes: Callable[[int, str], int]) -> None:
    """Page 5.11: `optimiser_bytes(parameters, optimizer)`: what an optimiser remembers.

    Raises:
        CheckFailed: naming the mistake.
    """
    n = 1_000_000
    kept = {"adamw": 8 * n, "sgd": 4 * n}
    mistakes = {
        "adamw": [
            Mistake(4 * n, "AdamW keeps two numbers a weight: a mean, and a mean of squares."),
            Mistake(2 * n, "Two numbers is right. Each takes 4 bytes in float32."),
            Mistake(16 * n, "That is weight and gradient as well. Only what the optimiser keeps."),
            Mistake(12 * n, "The gradient is not the optimiser's: it is gone after the step."),
        ],
        "sgd": [
            Mistake(0, "SGD without momentum keeps nothing. This one has momentum: one number."),
            Mistake(8 * n, "SGD has no mean of squares: one number a weight, its momentum."),
            Mistake(n, "One number is right. It takes 4 bytes in float32."),
        ],
    }
    for name, right in kept.items():
        answer = call(optimiser_bytes, n, name)
        compare(answer, right, mistakes[name], f"For {name} the number of bytes")
    passed("two numbers a weight for AdamW, one for SGD with momentum, 4 bytes each.")


def check_largest_micro_batch(largest: Callable[[int, int, int, int], int]) -> None:
    """Page 5.11: `largest(memory, small, peak_small, peak_twice)`: the most items that fit.

    Raises:
        CheckFailed: naming the mistake.
    """
    # (bytes there are, items, peak with so many, peak with twice as many) -> items
    for memory, small, one, two in ((10_000, 8, 1_800, 2_600), (1_000, 4, 700, 900)):
        each = (two - one) // small
        fixed = one - small * each
        right = (memory - fixed) // each
        mistakes = [
            Mistake(
                memory // (one // small),
                "You shared all of the peak among the items. Weights and optimiser are there once, "
                "however many items there are: the difference of the two peaks is the items' part.",
            ),
            Mistake(memory // each, "What does not depend on the batch has to be taken off first."),
            Mistake((memory - one) // each, "That many fit besides the ones that are in already."),
            Mistake(right * each, "Those are the bytes of the items; how many items are they?"),
        ]
        answer = call(largest, memory, small, one, two)
        compare(answer, right, mistakes, "The largest micro-batch")
    passed("two peaks give the price of an item and what is paid once.")


def check_bound(bound: Callable[[float, float, float, float], str]) -> None:
    """Page 5.11: `bound(flops, size, rate, bandwidth)`: "arithmetic" or "memory".

    Raises:
        CheckFailed: naming the mistake.
    """
    swapped = "The other way round: the larger of the two times is what one waits for."
    cases = (
        # A product of two 4096 x 4096 matrices, and a sum of two vectors, on an A100.
        ((2 * 4096**3, 3 * 4 * 4096**2, 19.5e12, 1.555e12), "arithmetic"),
        ((1e8, 3 * 4 * 1e8, 19.5e12, 1.555e12), "memory"),
        # The same number of operations and bytes: 10 a byte.
        ((1e9, 1e8, 1e12, 1e12), "arithmetic"),
        ((1e9, 1e8, 1e14, 1e12), "memory"),
    )
    for arguments, right in cases:
        other = "memory" if right == "arithmetic" else "arithmetic"
        compare(call(bound, *arguments), right, [Mistake(other, swapped)], "The answer")
    passed("a faster unit turns the same kernel from bound by arithmetic to bound by memory.")
