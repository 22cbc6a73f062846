"""The checks of page 2.6 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_causal_kernel, check_reach


def causal_kernel(k, own):
    place = torch.arange(k * k).view(k, k)
    last = k * k // 2
    return (place < last + own).float()


def whole_row(k, own):
    kernel = causal_kernel(k, own)
    kernel[k // 2, k // 2 + 1 :] = 1
    return kernel


def above_only(k, own):
    kernel = causal_kernel(k, own)
    kernel[k // 2, : k // 2] = 0
    return kernel


def reach(kernel, dilations):
    return sum((kernel - 1) * dilation for dilation in dilations)


RIGHT = [
    (check_causal_kernel, causal_kernel),
    (check_causal_kernel, lambda k, own: causal_kernel(k, own) > 0),
    (check_reach, reach),
    (check_reach, lambda kernel, dilations: float((kernel - 1) * sum(dilations))),
]
WRONG = [
    (check_causal_kernel, lambda k, own: causal_kernel(k, not own), "wrong way round"),
    (check_causal_kernel, lambda k, own: causal_kernel(k, True), "wrong way round"),
    (check_causal_kernel, whole_row, "to the right in its own row"),
    (check_causal_kernel, above_only, "hidden to the left too"),
    (check_causal_kernel, lambda k, own: causal_kernel(k, own).tril(k // 2 - 1), "expected"),
    (
        check_causal_kernel,
        lambda k, own: causal_kernel(k, own) * (torch.arange(k) <= k // 2),
        "Those rows are finished",
    ),
    (check_causal_kernel, lambda k, own: causal_kernel(k, own).flip(0, 1), "turned round"),
    (check_causal_kernel, lambda k, own: causal_kernel(k, own).T, "exchanged: drawing"),
    (check_causal_kernel, lambda k, own: 1 - causal_kernel(k, own), "1 and 0 are exchanged"),
    (check_causal_kernel, lambda k, own: causal_kernel(k, own)[0], "Expected a tensor"),
    (check_reach, lambda kernel, d: reach(kernel, d) + 1, "one too many"),
    (check_reach, lambda kernel, d: kernel * sum(d), "spans k - 1 steps"),
    (check_reach, lambda kernel, d: (kernel - 1) * len(d), "dilations are not in it"),
    (check_reach, lambda kernel, d: sum(d), "kernel's size is not in it"),
    (check_reach, lambda kernel, d: (kernel - 1) * max(d), "farthest single layer"),
    (
        check_reach,
        lambda kernel, d: math.prod((kernel - 1) * dilation for dilation in d),
        "multiplied",
    ),
]
