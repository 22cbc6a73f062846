"""The checks of page 5.15 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_int8_bytes, check_to_int8


def with_scale(scale_of, whole=torch.round, dtype=torch.int8):
    """An answer that finds its scales by `scale_of(weights)`."""

    def to_int8(weights):
        scale = scale_of(weights)
        return whole(weights / scale).clamp(-128, 127).to(dtype), scale

    return to_int8


def largest(weights):
    return weights.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)


def signed(weights):
    return weights.amax(dim=1, keepdim=True) / 127


RIGHT = [
    (check_to_int8, with_scale(lambda w: largest(w) / 127)),
    (check_int8_bytes, lambda rows, columns: rows * (columns + 4)),
]
WRONG = [
    (check_to_int8, with_scale(signed), "abs() first"),
    (check_to_int8, with_scale(lambda w: largest(w) / 128), "127 is the largest"),
    (check_to_int8, with_scale(lambda w: largest(w) / 255), "Symmetric"),
    (check_to_int8, with_scale(lambda w: 127 / largest(w)), "Upside down"),
    (check_to_int8, with_scale(lambda w: w.abs().max() / 127), "One scale for all"),
    (
        check_to_int8,
        with_scale(lambda w: (w.abs().max() / 127).expand(len(w), 1)),
        "One scale for all",
    ),
    (check_to_int8, with_scale(lambda w: largest(w) / 127, torch.trunc), "Cut off"),
    (check_to_int8, with_scale(lambda w: largest(w) / 127, dtype=torch.int32), "torch.int8"),
    (check_to_int8, with_scale(lambda w: largest(w) / 127, torch.floor), "half a scale"),
    (check_to_int8, with_scale(lambda w: w.abs().amax(1, keepdim=True) / 127), "A row of zeros"),
    (
        check_to_int8,
        lambda w: (with_scale(lambda w: largest(w) / 127)(w)[0], largest(w)[:, 0] / 127),
        "Keep the axis",
    ),
    (check_to_int8, lambda w: w.to(torch.int8), "Return two tensors"),
    (check_int8_bytes, lambda r, c: r * c, "scales are missing"),
    (check_int8_bytes, lambda r, c: r * c + r, "4 bytes"),
    (check_int8_bytes, lambda r, c: r * c + 4 * c, "the columns"),
    (check_int8_bytes, lambda r, c: r * c + 4, "One scale for all"),
    (check_int8_bytes, lambda r, c: 8 * r * c + 32 * r, "bits"),
    (check_int8_bytes, lambda r, c: 4 * r * c + 4 * r, "one byte"),
]
