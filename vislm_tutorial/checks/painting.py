"""Checks of the exercises of the page on brush strokes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed, require


def check_along(along: Callable) -> None:
    """`along(gx, gy)`: the unit vector (tx, ty) along an edge with the gradient (gx, gy).

    Raises:
        CheckFailed: naming the mistake.
    """
    for gx, gy in ((3.0, 4.0), (0.0, -2.0)):
        right = torch.tensor([-gy, gx]) / (gx**2 + gy**2) ** 0.5
        answer = call(along, gx, gy)
        mistakes = [
            Mistake(right.flip(0).neg(), "That is mirrored: the scalar product with g is not 0."),
            Mistake(torch.tensor([-gy, gx]), "Right direction, but its length should be 1."),
            Mistake(
                torch.tensor([gx, gy]) / (gx**2 + gy**2) ** 0.5,
                "That is the gradient's own direction, across the edge. Turn it by a right angle.",
            ),
        ]
        turned = isinstance(answer, torch.Tensor) and answer.shape == right.shape
        if turned and torch.allclose(answer.float(), -right, atol=1e-5):
            continue  # a stroke has no arrow
        compare(answer, right, mistakes, f"along({gx}, {gy})")
    still = call(along, 0.0, 0.0)
    require(
        isinstance(still, torch.Tensor) and not still.isnan().any(),
        "along(0, 0) divides by zero; without a gradient there is no edge: return zeros.",
    )
    compare(still, torch.zeros(2), [], "along(0, 0)")
    passed("it runs along the edge, has length 1, and rests where there is none.")


def check_where_to_paint(where: Callable) -> None:
    """`where(canvas, picture, threshold)`: (3, H, W) twice -> (H, W), where paint is missing.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    canvas, picture = torch.rand(2, 3, 5, 6, generator=random) * 2 - 1
    threshold = 0.5
    difference = canvas - picture
    right = (difference.abs().mean(0) > threshold).float()
    mistakes = [
        Mistake(
            (difference.mean(0).abs() > threshold).float(),
            "Too much red and too little blue cancel there. Take the absolute value first.",
        ),
        Mistake(
            (difference.mean(0) > threshold).float(),
            "Too much red and too little blue cancel there. Take the absolute value first.",
        ),
        Mistake(1 - right, "That is where the canvas is right already."),
        Mistake((difference.abs().sum(0) > threshold).float(), "That is the sum over the colours."),
        Mistake((difference.abs().amax(0) > threshold).float(), "That is the largest of three."),
    ]
    answer = call(where, canvas, picture, threshold)
    if isinstance(answer, torch.Tensor):
        answer = answer.float()
    compare(answer, right, mistakes, "where(canvas, picture, 0.5)")
    passed("every colour's error counts, whichever way it goes.")
