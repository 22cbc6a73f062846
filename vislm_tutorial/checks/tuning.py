"""Checks of page 5.8: a low-rank update, its size, and an adapter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gelu

from .report import Mistake, call, compare, passed


def check_lora_forward(lora: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Page 5.8: `lora(x, weight, a, b, alpha)`: x (n, D) through W + (alpha / r) B A.

    Raises:
        CheckFailed: naming the mistake.
    """
    generator = torch.Generator().manual_seed(0)
    for n, inner, outer, rank, alpha in ((3, 6, 5, 2, 8.0), (4, 5, 5, 3, 6.0)):
        x, weight, a, b = (
            torch.randn(size, generator=generator)
            for size in ((n, inner), (outer, inner), (rank, inner), (outer, rank))
        )
        base, update = x @ weight.T, x @ a.T @ b.T
        mistakes = [
            Mistake(base, "The base alone came out: the update x A' B' is missing."),
            Mistake(update * alpha / rank, "The update alone came out: W itself is missing."),
            Mistake(base + update, "The update is not scaled. It is multiplied by alpha / r."),
            Mistake(base + alpha * update, "The update is multiplied by alpha / r, not by alpha."),
            Mistake(base + update / rank, "alpha is missing: the factor is alpha / r."),
            Mistake(
                base + update * alpha / inner,
                "alpha was divided by the width of x. r is the number of A's rows.",
            ),
        ]
        if inner == outer:
            mistakes.append(
                Mistake(
                    x @ weight + alpha / rank * update,
                    "W was not turned: a row of W belongs to an output, so it is x @ W.T.",
                )
            )
        right = base + alpha / rank * update
        compare(call(lora, x, weight, a, b, alpha), right, mistakes, "The output")
    passed("x W' + (alpha / r) x A' B', and no matrix as large as W was made for it.")


def check_rank_parameters(parameters: Callable[[int, int, int], int]) -> None:
    """Page 5.8: `parameters(rows, columns, rank)`: how many numbers a low-rank update has.

    Raises:
        CheckFailed: naming the mistake.
    """
    for rows, columns, rank in ((384, 384, 8), (192, 576, 4), (10, 1000, 1)):
        mistakes = [
            Mistake(rows * columns, "That is the whole matrix. The update is B A, two thin ones."),
            Mistake(rows * columns * rank, "A and B are not multiplied yet: add their sizes."),
            Mistake(rows * rank * columns * rank, "Add the sizes of A and B; do not multiply."),
            Mistake(rows * rank, "That is B alone, (rows, r). A has (r, columns)."),
            Mistake(columns * rank, "That is A alone, (r, columns). B has (rows, r)."),
            Mistake(rows + columns, "Each of the r pairs has a column of B and a row of A."),
            Mistake(
                2 * rows * rank, "A and B have equal sizes only if the matrix has as many columns."
            ),
            Mistake(2 * columns * rank, "A and B have equal sizes only if the matrix is square."),
        ]
        what = f"For {rows} x {columns} at rank {rank} it"
        compare(call(parameters, rows, columns, rank), rank * (rows + columns), mistakes, what)
    passed("r (rows + columns): it grows with the edge of the matrix, not with its area.")


def check_bottleneck(adapter: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Page 5.8: `adapter(h, down, up)`: h (n, D) + gelu(h down') up', without biases.

    Raises:
        CheckFailed: naming the mistake.
    """
    generator = torch.Generator().manual_seed(1)
    h, down, up = (torch.randn(s, generator=generator) for s in ((4, 6), (2, 6), (6, 2)))
    narrow = h @ down.T
    mistakes = [
        Mistake(
            gelu(narrow) @ up.T,
            "The way around is missing: with up = 0 the states must come out as they went in.",
        ),
        Mistake(
            h + narrow @ up.T,
            "Without gelu between them, two matrices are one of low rank: that is LoRA's update.",
        ),
        Mistake(h + gelu(narrow @ up.T), "gelu belongs between the two matrices, not after both."),
        Mistake(h + narrow.relu() @ up.T, "That is relu; asked is gelu."),
    ]
    compare(call(adapter, h, down, up), h + gelu(narrow) @ up.T, mistakes, "The output")
    zero = torch.zeros_like(up)
    compare(call(adapter, h, down, zero), h, [], "With up = 0 the output")
    passed("down, gelu, up, and a way around; with up = 0 it changes nothing.")
