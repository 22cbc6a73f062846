"""The checks of page 5.11 accept right answers and name each known mistake."""

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_bound, check_largest_micro_batch, check_optimiser_bytes


def optimiser_bytes(parameters, optimizer):
    return 4 * parameters * {"adamw": 2, "sgd": 1}[optimizer]


def largest(memory, small, one, two):
    each = (two - one) / small
    return int((memory - (one - small * each)) / each)


def bound(flops, size, rate, bandwidth):
    return "arithmetic" if flops / rate > size / bandwidth else "memory"


RIGHT = [
    (check_optimiser_bytes, optimiser_bytes),
    (check_largest_micro_batch, largest),
    (check_bound, bound),
]

WRONG = [
    (check_optimiser_bytes, lambda n, name: 4 * n, "AdamW keeps two numbers"),
    (check_optimiser_bytes, lambda n, name: 2 * n, "4 bytes in float32"),
    (check_optimiser_bytes, lambda n, name: 16 * n, "Only what the optimiser keeps"),
    (check_optimiser_bytes, lambda n, name: 12 * n, "not the optimiser's"),
    (check_optimiser_bytes, lambda n, name: 8 * n, "no mean of squares"),
    (check_optimiser_bytes, lambda n, name: 8 * n if name == "adamw" else 0, "has momentum"),
    (check_optimiser_bytes, lambda n, name: 8 * n if name == "adamw" else n, "One number is right"),
    (check_largest_micro_batch, lambda m, s, a, b: m // (a // s), "shared all of the peak"),
    (check_largest_micro_batch, lambda m, s, a, b: m // ((b - a) // s), "taken off first"),
    (check_largest_micro_batch, lambda m, s, a, b: (m - a) // ((b - a) // s), "in already"),
    (
        check_largest_micro_batch,
        lambda m, s, a, b: largest(m, s, a, b) * ((b - a) // s),
        "how many items",
    ),
    (
        check_bound,
        lambda f, s, r, b: "memory" if f / r > s / b else "arithmetic",
        "The other way round",
    ),
]
