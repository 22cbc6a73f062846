"""The checks of the page on what learns accept right answers and name the known wrong ones."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)
from torch.nn.functional import gelu

from vislm_tutorial.checks import check_bottleneck, check_lora_forward, check_rank_parameters


def lora(x, weight, a, b, alpha):
    return x @ weight.T + alpha / len(a) * x @ a.T @ b.T


def merged(x, weight, a, b, alpha):
    return x @ (weight + alpha / a.shape[0] * b @ a).T


def bottleneck(h, down, up):
    return h + gelu(h @ down.T) @ up.T


RIGHT = [
    (check_lora_forward, lora),
    (check_lora_forward, merged),
    (check_rank_parameters, lambda rows, columns, rank: rank * (rows + columns)),
    (check_rank_parameters, lambda m, n, r: torch.zeros(m, r).numel() + torch.zeros(r, n).numel()),
    (check_bottleneck, bottleneck),
]
WRONG = [
    (check_lora_forward, lambda x, w, a, b, s: x @ w.T, "update x A' B' is missing"),
    (check_lora_forward, lambda x, w, a, b, s: s / len(a) * x @ a.T @ b.T, "W itself is missing"),
    (check_lora_forward, lambda x, w, a, b, s: x @ w.T + x @ a.T @ b.T, "not scaled"),
    (check_lora_forward, lambda x, w, a, b, s: x @ w.T + s * x @ a.T @ b.T, "not by alpha"),
    (check_lora_forward, lambda x, w, a, b, s: x @ (w + b @ a / len(a)).T, "alpha is missing"),
    (
        check_lora_forward,
        lambda x, w, a, b, s: x @ w.T + s / x.shape[1] * x @ a.T @ b.T,
        "divided by the width",
    ),
    (
        check_lora_forward,
        lambda x, w, a, b, s: (
            (x @ w if w.shape[0] == w.shape[1] else x @ w.T) + s / len(a) * x @ a.T @ b.T
        ),
        "W was not turned",
    ),
    (check_lora_forward, lambda x, w, a, b, s: None, "returned None"),
    (check_rank_parameters, lambda m, n, r: m * n, "the whole matrix"),
    (check_rank_parameters, lambda m, n, r: m * n * r, "not multiplied yet"),
    (check_rank_parameters, lambda m, n, r: m * r * n * r, "do not multiply"),
    (check_rank_parameters, lambda m, n, r: n * r if m != n else r * (m + n), "A alone"),
    (check_rank_parameters, lambda m, n, r: m * r if m != n else r * (m + n), "B alone"),
    (check_rank_parameters, lambda m, n, r: m + n, "Each of the r pairs"),
    (check_rank_parameters, lambda m, n, r: 2 * m * r, "as many columns"),
    (check_rank_parameters, lambda m, n, r: 2 * n * r, "only if the matrix is square"),
    (check_bottleneck, lambda h, d, u: gelu(h @ d.T) @ u.T, "way around is missing"),
    (check_bottleneck, lambda h, d, u: h + h @ d.T @ u.T, "Without gelu"),
    (check_bottleneck, lambda h, d, u: h + gelu(h @ d.T @ u.T), "not after both"),
    (check_bottleneck, lambda h, d, u: h + (h @ d.T).relu() @ u.T, "That is relu"),
]
