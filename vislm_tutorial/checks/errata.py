"""The check of the errata page's exercise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed, require

IGNORED = -100  # the label that PyTorch's cross entropy leaves out, unless told otherwise


def check_caption_labels(caption_labels: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The errata: `caption_labels(input_ids, attention_mask)`, both (B, L), to labels (B, L).

    Raises:
        CheckFailed: naming the mistake.
    """
    # The end token, 2, ends the first caption and fills up the second: only the mask tells which.
    ids = torch.tensor([[7, 8, 9, 5, 2], [3, 4, 2, 2, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    right = torch.where(mask.bool(), ids, IGNORED)
    ahead = torch.nn.functional.pad(right[:, 1:], (0, 1), value=IGNORED)
    shifted = (
        "The labels are moved by one token. GPT2LMHeadModel does that itself: yours moves twice."
    )
    mistakes = [
        Mistake(
            ids,
            "The padding is still in the labels, so the model is trained to write the end token "
            "after the end token. Put -100 there.",
        ),
        Mistake(
            ids * mask,
            "Where there is padding you put 0, which is a token like any other. The label that "
            "cross entropy leaves out is -100.",
        ),
        Mistake(
            ids.masked_fill(ids == 2, IGNORED),
            "You left out the token 2, and with it each caption's own end. Ask the mask, not the "
            "ids: the padding token is the end token here.",
        ),
        Mistake(
            torch.where(mask.bool(), IGNORED, ids),
            "It is the wrong way round: the mask is 1 at real tokens, which are to be learned.",
        ),
        Mistake(ahead, shifted),
        Mistake(right[:, 1:], shifted),
    ]
    given = ids.clone()
    answer = call(caption_labels, given, mask)
    require(
        torch.equal(given, ids),
        "Your function changed input_ids itself, which the model still has to read. Work on a "
        "copy, as torch.where or masked_fill do.",
    )
    compare(answer, right, mistakes, "The labels")
    require(
        not answer.is_floating_point(),
        f"The labels are {answer.dtype}; cross entropy wants whole numbers, torch.int64.",
    )
    passed("every real token is learned, the end of a caption too, and no padding.")
