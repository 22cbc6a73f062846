"""The errata page's check accepts a right answer and tells the known wrong ones apart."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.functional import pad

from vislm_tutorial.checks import CheckFailed, check_caption_labels


def right(ids, mask):
    return torch.where(mask.bool(), ids, -100)


def in_place(ids, mask):
    ids[mask == 0] = -100
    return ids


@pytest.mark.parametrize("answer", [right, lambda i, m: i.masked_fill(m == 0, -100)])
def test_right_answers_pass_and_say_what_was_verified(answer, capsys):
    check_caption_labels(answer)
    assert re.fullmatch(r"Right: every real token .*no padding\.\n", capsys.readouterr().out)


WRONG = [
    (lambda ids, mask: ids, "the end token after the end token"),
    (lambda ids, mask: ids * mask, "a token like any other"),
    (lambda ids, mask: ids.masked_fill(ids == 2, -100), "each caption's own end"),
    (lambda ids, mask: right(ids, 1 - mask), "the wrong way round"),
    (lambda ids, mask: right(ids, mask)[:, 1:], "yours moves twice"),
    (lambda ids, mask: pad(right(ids, mask)[:, 1:], (0, 1), value=-100), "yours moves twice"),
    (in_place, "changed input_ids itself"),
    (lambda ids, mask: right(ids, mask).float(), "wants whole numbers"),
    (lambda ids, mask: right(ids, mask)[mask.bool()], "expected a tensor of shape (2, 5)"),
    (lambda ids, mask: None, "Does it end in `return`"),
]


@pytest.mark.parametrize(("answer", "message"), WRONG)
def test_wrong_answers_are_named(answer, message):
    with pytest.raises(CheckFailed, match=re.escape(message)):
        check_caption_labels(answer)
