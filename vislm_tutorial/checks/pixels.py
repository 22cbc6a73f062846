"""Checks of page 2.6's exercises: what a masked convolution may see, and how far a stack sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed, require


def check_causal_kernel(causal_kernel: Callable) -> None:
    """Page 2.6: `causal_kernel(k, own)`: (k, k) of 1 and 0, 1 where a pixel may look.

    `k` is odd, the middle is the pixel itself, and `own` says whether it may see itself.

    Raises:
        CheckFailed: naming the mistake.
    """
    for k in (3, 5):
        for own in (False, True):
            right = _kernel(k, own)
            middle = k // 2
            above_only = right.clone()
            above_only[middle, :middle] = 0
            whole_row = right.clone()
            whole_row[middle, middle + 1 :] = 1
            quarter = right.clone()
            quarter[:, middle + 1 :] = 0
            mistakes = [
                Mistake(
                    _kernel(k, not own),
                    "The pixel itself is the wrong way round: with own=False, the first layer, it "
                    "is hidden, or the answer would be copied; with own=True it is open.",
                ),
                Mistake(
                    whole_row,
                    "The pixels to the right in its own row are open. They are drawn later.",
                ),
                Mistake(
                    above_only,
                    "Its own row is hidden to the left too. What stands there is drawn already.",
                ),
                Mistake(
                    quarter,
                    "The columns to the right are hidden in the rows above too. Those rows are "
                    "finished: only in the pixel's own row is the right side to come.",
                ),
                Mistake(
                    right.flip(0, 1),
                    "The kernel is turned round: rows below are open. torch.nn.Conv2d does not "
                    "flip its kernel, so its first row lies on the row above.",
                ),
                Mistake(right.T, "Rows and columns are exchanged: drawing goes row by row."),
                Mistake(1 - right, "1 and 0 are exchanged: 1 is where a pixel may look."),
            ]
            answer = call(causal_kernel, k, own)
            require(
                isinstance(answer, Tensor) and answer.shape == (k, k),
                f"Expected a tensor of shape ({k}, {k}), to be multiplied with a kernel's weights.",
            )
            compare(answer.float(), right, mistakes, f"For k = {k}, own = {own} the kernel")
    passed("all rows above, the row itself up to the pixel, and the pixel only if it is asked for.")


def check_reach(reach: Callable) -> None:
    """Page 2.6: `reach(kernel, dilations)`: how many pixels to the left a stack of layers sees.

    Each layer is a convolution over `kernel` pixels, the own one and `kernel - 1` to the left.

    Raises:
        CheckFailed: naming the mistake.
    """
    for kernel, dilations in ((2, (1, 3, 4)), (3, (1, 4, 2)), (2, (5, 1)), (4, (2,))):
        layers, sum_ = len(dilations), sum(dilations)
        right = (kernel - 1) * sum_
        product = 1
        for dilation in dilations:
            product *= dilation * (kernel - 1)
        mistakes = [
            Mistake(
                right + 1,
                "That is one too many: it counts the pixel itself, and the question is how many to "
                "its left.",
            ),
            Mistake(
                kernel * sum_,
                "Each layer was given kernel steps. A kernel over k pixels spans k - 1 steps.",
            ),
            Mistake(
                (kernel - 1) * layers,
                "The dilations are not in it: with dilation d, each step of the kernel is d "
                "pixels wide.",
            ),
            Mistake(
                sum_,
                "The kernel's size is not in it: a kernel over 3 pixels takes two steps of its "
                "dilation.",
            ),
            Mistake(
                (kernel - 1) * max(dilations),
                "That is the farthest single layer. A layer looks at what the one below saw, so "
                "the steps add up.",
            ),
            Mistake(product, "The steps were multiplied. Layers in a row add their steps."),
        ]
        answer = call(reach, kernel, dilations)
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        compare(answer, right, mistakes, f"For kernel {kernel}, dilations {dilations} it")
    passed("each layer adds its steps, kernel - 1 of them, each as wide as its dilation.")


def _kernel(k: int, own: bool) -> Tensor:
    """(k, k): 1 in the rows above, to the left in the middle row, and in the middle if `own`."""
    middle = k // 2
    kernel = torch.zeros(k, k)
    kernel[:middle] = 1
    kernel[middle, : middle + int(own)] = 1
    return kernel
