"""Checks of page 5.18's exercises: a loss that looks one place ahead, and a mean over an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .report import Mistake, call, compare, passed


def check_code_loss(code_loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`code_loss(logits, codes)`: cross entropy of the codes behind a caption.

    Logits (B, L + n, K) of [caption, start | codes], codes (B, n); the mean over all B n codes.

    Raises:
        CheckFailed: naming the mistake.
    """
    random = torch.Generator().manual_seed(0)
    for length in (3, 1):
        n, k = 5, 7
        logits = torch.randn(2, length + n, k, generator=random)
        codes = torch.randint(k, (2, n), generator=random)
        flat = codes.flatten()
        right = F.cross_entropy(logits[:, -n - 1 : -1].flatten(0, 1), flat)
        total = F.cross_entropy(logits[:, -n - 1 : -1].flatten(0, 1), flat, reduction="sum")
        mistakes = [
            Mistake(
                F.cross_entropy(logits[:, -n:].flatten(0, 1), flat),
                "No shift: at a code's own place the model has read it already. What stands "
                "*before* it has to say it.",
            ),
            Mistake(
                F.cross_entropy(logits[:, :n].flatten(0, 1), flat),
                "Those are the caption's places. The codes begin behind L of them.",
            ),
            Mistake(
                F.cross_entropy(logits[:, -n:-1].flatten(0, 1), codes[:, 1:].flatten()),
                "The first code is left out. The start, the last of the L places, says it.",
            ),
            Mistake(total, "A sum; the mean over all codes was asked for."),
            Mistake(total / 2, "A sum over a picture's codes; divide by their number, too."),
            Mistake(-right, "The sign is turned: a loss falls when the right code gets likelier."),
        ]
        compare(call(code_loss, logits, codes), right, mistakes, "The loss")
    passed("each code is said by the place before it, the first one by the start.")


def check_epoch_loss(epoch_loss: Callable[[Sequence[float], Sequence[int]], float]) -> None:
    """`epoch_loss(losses, sizes)`: the mean loss of a picture, from the batches' means.

    Raises:
        CheckFailed: naming the mistake.
    """
    losses, sizes = [2.0, 3.0, 10.0], [16, 16, 1]
    mistakes = [
        Mistake(5.0, "As in the listing: the last batch has one picture and counts like sixteen."),
        Mistake(90.0, "A sum; divide by the number of pictures."),
        Mistake(30.0, "Divided by the number of batches; divide by that of pictures."),
        Mistake(15.0 / 33, "Each batch's loss is a mean already: weigh it by its pictures."),
        Mistake(15.0, "A sum of means. Weigh each by its pictures, and divide by all of them."),
    ]
    answer = call(epoch_loss, losses, sizes)
    compare(answer, 90.0 / 33, mistakes, "The mean loss of an epoch")
    compare(call(epoch_loss, [1.0], [7]), 1.0, what="For a single batch the mean loss")
    passed("a batch counts for as many pictures as it has.")
