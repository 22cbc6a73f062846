"""The checks of page 5.18 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch.nn.functional as F
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_code_loss, check_epoch_loss


def code_loss(logits, codes, reduction="mean"):
    before = logits[:, -codes.shape[1] - 1 : -1]
    return F.cross_entropy(before.transpose(1, 2), codes, reduction=reduction)


def at_own_place(logits, codes):
    return F.cross_entropy(logits[:, -codes.shape[1] :].transpose(1, 2), codes)


def in_the_caption(logits, codes):
    return F.cross_entropy(logits[:, : codes.shape[1]].transpose(1, 2), codes)


def without_the_first(logits, codes):
    return F.cross_entropy(logits[:, -codes.shape[1] : -1].transpose(1, 2), codes[:, 1:])


def weighted(losses, sizes):
    return sum(loss * n for loss, n in zip(losses, sizes, strict=True))


RIGHT = [
    (check_code_loss, code_loss),
    (check_epoch_loss, lambda losses, sizes: weighted(losses, sizes) / sum(sizes)),
]
WRONG = [
    (check_code_loss, at_own_place, "No shift"),
    (check_code_loss, in_the_caption, "the caption's places"),
    (check_code_loss, without_the_first, "first code is left out"),
    (check_code_loss, lambda x, c: code_loss(x, c, "sum"), "the mean over all codes"),
    (check_code_loss, lambda x, c: code_loss(x, c, "sum") / len(c), "divide by their number"),
    (check_code_loss, lambda x, c: -code_loss(x, c), "sign is turned"),
    (check_epoch_loss, lambda losses, sizes: sum(losses) / len(losses), "counts like sixteen"),
    (check_epoch_loss, weighted, "divide by the number of pictures"),
    (check_epoch_loss, lambda losses, n: weighted(losses, n) / len(n), "number of batches"),
    (check_epoch_loss, lambda losses, sizes: sum(losses) / sum(sizes), "a mean already"),
    (check_epoch_loss, lambda losses, sizes: sum(losses), "A sum of means"),
]
