"""Checks of the exercises of the page on panoramas."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .report import Mistake, call, compare, passed


def check_visible_seam(visible: Callable) -> None:
    """`visible(image)`: how visible the seam of one panorama (3, H, W) is, 1 where it is not.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    for width in (8, 12):
        image = torch.rand(3, 4, width, generator=random) * 2 - 1
        image[..., -1] += 3 * torch.randn(3, 4, generator=random).sign()  # a seam, of both signs
        edge = image[..., -1] - image[..., 0]
        steps = image[..., 1:] - image[..., :-1]
        right = (edge.abs().mean() / steps.abs().mean()).item()
        mistakes = [
            Mistake(
                edge.abs().mean().item(),
                "That is the difference alone. Divide by that of neighbouring columns elsewhere, "
                "or a calm picture passes for a seamless one.",
            ),
            Mistake(
                (edge.mean().abs() / steps.abs().mean()).item(),
                "Differences of both signs cancel there. Take the absolute value of each first.",
            ),
            Mistake(
                (edge.mean() / steps.mean()).item(),
                "Differences of both signs cancel there. Take the absolute value of each first.",
            ),
            Mistake(
                (edge.abs().sum() / steps.abs().sum()).item(),
                "Those are sums, of one pair of columns and of many. Compare means.",
            ),
            Mistake(
                (steps.abs().mean() / edge.abs().mean()).item(),
                "That is upside down: a visible seam should give a large number.",
            ),
            Mistake(
                (edge.square().mean() / steps.square().mean()).item(),
                "Those are squares. The formula has absolute values.",
            ),
        ]
        compare(call(visible, image), right, mistakes, f"visible(an image {width} wide)")
    passed("the last column and the first are compared as any two neighbours are.")


def check_heading(heading: Callable) -> None:
    """`heading(column, width)`: degrees to the right of north, in [0, 360), of a column's middle.

    Raises:
        CheckFailed: naming the mistake.
    """
    for column, width in ((3, 4), (0, 4), (1, 4), (128, 256), (250, 256)):
        middle = 360 * (column + 0.5) / width
        mistakes = [
            Mistake(
                (360 * column / width - 180) % 360,
                "That is the column's left edge. Its middle lies half a column further on.",
            ),
            Mistake(middle, "North is the middle of the picture; you began at its left edge."),
            Mistake(
                middle - 180, "That may be negative. Directions run from 0 to 360: take it % 360."
            ),
            Mistake((180 - middle) % 360, "You turned left. East is to the right of north."),
            Mistake(
                (360 * column / (width - 1) - 180) % 360,
                "With width - 1 the last column would be the first one again: they are neighbours.",
            ),
        ]
        what = f"heading({column}, {width})"
        compare(call(heading, column, width), (middle - 180) % 360, mistakes, what)
    passed("north is in the middle, south at the edges, and every column has its own middle.")
