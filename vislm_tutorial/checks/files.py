"""Checks of page 5.15's exercises: a matrix in bytes, and how many bytes that takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed, require


def check_to_int8(to_int8: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """`to_int8(weights)`: (R, C) float -> int8 (R, C) and scales (R, 1), weights = scale * q.

    Raises:
        CheckFailed: naming the mistake.
    """
    weights = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    weights *= torch.tensor([[0.01], [1.0], [30.0], [1.0]])
    weights[1] = -weights[1].abs()  # its largest value is not its largest size
    answer = call(to_int8, weights.clone())
    require(
        isinstance(answer, tuple) and len(answer) == 2,
        "Return two tensors: the whole numbers, and the scales.",
    )
    q, scale = answer
    require(
        isinstance(q, Tensor) and q.dtype == torch.int8,
        "The whole numbers are to be a tensor of torch.int8: .to(torch.int8) at the end.",
    )
    largest = weights.abs().amax(dim=1, keepdim=True)
    one = (weights.abs().max() / 127).expand(4, 1)
    mistakes = [
        Mistake(weights.amax(dim=1, keepdim=True) / 127, "Largest in *size*: take abs() first."),
        Mistake(largest / 128, "127 is the largest int8; 128 would turn into -128."),
        Mistake(largest / 255, "Symmetric: from -127 to 127, so the size of the largest is 127."),
        Mistake(127 / largest, "Upside down: a weight is scale * q."),
        Mistake(largest[:, 0] / 127, "Keep the axis: scales of shape (R, 1) multiply row by row."),
        Mistake(one, "One scale for all rows: the row of small weights becomes zeros."),
        Mistake(
            one.flatten()[0], "One scale for all rows: the row of small weights becomes zeros."
        ),
    ]
    compare(scale, largest / 127, mistakes, "The scale")
    require(
        not torch.equal(q, (weights / scale).trunc().to(torch.int8)),
        "Cut off, not rounded: the error doubles, and every weight moves towards 0.",
    )
    error = (scale * q - weights).abs()
    require(bool((error <= 0.501 * scale).all()), "scale * q is off by more than half a scale.")
    zeros = torch.zeros(2, 3)
    q, scale = call(to_int8, zeros)
    back = scale * q
    require(
        bool((scale > 0).all() and torch.isfinite(scale).all()) and torch.equal(back, zeros),
        "A row of zeros gets the scale 0, and 0 / 0 is no number. Any scale above 0 will do.",
    )
    passed("no weight moves by more than half a scale, and rows of zeros come back.")


def check_int8_bytes(int8_bytes: Callable[[int, int], int]) -> None:
    """`int8_bytes(rows, columns)`: bytes of a matrix as int8 with a float32 scale a row.

    Raises:
        CheckFailed: naming the mistake.
    """
    rows, columns = 384, 1536
    mistakes = [
        Mistake(rows * columns, "The scales are missing: 4 bytes a row."),
        Mistake(rows * columns + rows, "A scale is a float32: 4 bytes."),
        Mistake(rows * columns + 4 * columns, "A scale a *row*; you counted the columns."),
        Mistake(rows * columns + 4, "One scale for all. Count one a row."),
        Mistake(8 * rows * columns + 32 * rows, "Those are bits."),
        Mistake(4 * rows * columns + 4 * rows, "An int8 takes one byte; four are a float32's."),
    ]
    answer = call(int8_bytes, rows, columns)
    compare(answer, rows * columns + 4 * rows, mistakes, "The number of bytes")
    compare(call(int8_bytes, 2, 1), 10, what="For 2 x 1 the number of bytes")
    passed("a byte a weight and four a row; for one column that is more than float32 takes.")
