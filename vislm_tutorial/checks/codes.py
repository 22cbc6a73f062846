"""Checks of page 2.7's exercises, on pictures as codes: how many are in use, which may be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed, require


def check_perplexity(perplexity: Callable) -> None:
    """Page 2.7: `perplexity(codes, k)`: codes (B, h, w) of k entries, as how many used alike.

    Raises:
        CheckFailed: naming the mistake.
    """
    for codes, k in (
        (torch.tensor([[[0, 0, 1], [0, 2, 1]], [[2, 0, 0], [3, 0, 1]]]), 4),
        (torch.tensor([[[0, 0], [4, 0]], [[1, 1], [4, 0]]]), 6),  # two entries are never used
    ):
        right = _perplexity(codes, k)
        nats = math.log(right)
        each = sum(_perplexity(picture, k) for picture in codes) / len(codes)
        used = float(codes.unique().numel())
        mistakes = [
            Mistake(nats, "That is the entropy in nats. Its exponential is a number of entries."),
            Mistake(
                nats / math.log(2), "That is the entropy in bits; 2 to that power is the answer."
            ),
            Mistake(
                math.exp(nats / math.log(2)),
                "Bits went into exp. Two belongs to bits and e to nats: take log and exp alike.",
            ),
            Mistake(2**nats, "Nats went into a power of 2. Take log and exp of the same base."),
            Mistake(1 / right, "The sign is turned: entropy is minus the sum of p log p."),
            Mistake(used, "That counts an entry seen once like one seen everywhere. Weigh them."),
            Mistake(float(k), "That is the size of the codebook, whether used or not."),
            Mistake(
                each,
                "That is the mean of what each picture uses. A codebook is shared: count over all "
                "pictures first.",
            ),
        ]
        answer = call(perplexity, codes, k)
        value = float(answer) if not isinstance(answer, Tensor) or answer.numel() == 1 else 0.0
        require(
            not math.isnan(value),
            "The answer is nan: an entry that is never used gives 0 times log 0. Leave it out, or "
            "use torch.special.entr.",
        )
        compare(answer, right, mistakes, f"With {k} entries it")
    passed("the exponential of the entropy over all pictures; unused entries add nothing.")


def check_top_p(top_p: Callable) -> None:
    """Page 2.7: `top_p(logits, p)`: logits (B, K), -inf where a code is not among the likeliest.

    Raises:
        CheckFailed: naming the mistake.
    """
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.05, 0.05, 0.88, 0.02]])
    logits = probabilities.log() + torch.tensor([[0.5], [-1.0]])  # not normalised
    order = logits.argsort(dim=1, descending=True)
    in_order = probabilities.gather(1, order)
    for p in (0.65, 0.9):
        before = in_order.cumsum(dim=1) - in_order
        right = _only(logits, order, before < p)
        mistakes = [
            (
                _only(logits, order, before + in_order <= p),
                "The code that carries the sum past p is missing. Keep it: otherwise less than p "
                "is kept, and of a model that is sure, nothing at all.",
            ),
            (
                logits.masked_fill(probabilities < p, -math.inf),
                "Each probability was compared with p. It is their sum, from the likeliest on.",
            ),
            (
                logits.masked_fill(probabilities < 1 - p, -math.inf),
                "Each probability was compared with 1 - p. It is a sum that must reach p.",
            ),
            (
                logits.masked_fill(probabilities.cumsum(1) - probabilities >= p, -math.inf),
                "The sum runs in the order of the codebook. Sort by probability first.",
            ),
            (
                logits.gather(1, order).masked_fill(before >= p, -math.inf),
                "The right ones are kept, but in sorted order: code numbers no longer mean the "
                "same. Put them back with scatter or gather.",
            ),
            (
                _only(logits, order, before >= p),
                "The likely codes were thrown out and the unlikely kept: the mask is turned.",
            ),
            (
                right.masked_fill(right.isinf(), 0.0),
                "A logit of 0 is no ban: its code still gets a share. Only -inf has none.",
            ),
        ]
        answer = call(top_p, logits, p)
        require(
            isinstance(answer, Tensor) and answer.shape == logits.shape,
            f"Expected logits of shape {tuple(logits.shape)}, one for each code of each picture.",
        )
        compare(
            _shares(answer),
            _shares(right),
            [Mistake(_shares(wrong), message) for wrong, message in mistakes],
            f"At p = {p:g} the softmax of it",
        )
    passed("the fewest likeliest codes that hold p, each still at its own number.")


def _perplexity(codes: Tensor, k: int) -> float:
    """exp(entropy) of how often each of k entries occurs in codes of any shape."""
    shares = torch.bincount(codes.flatten(), minlength=k).double() / codes.numel()
    return torch.special.entr(shares).sum().exp().item()


def _shares(logits: Tensor) -> Tensor:
    """The softmax, for which a constant more on all logits is as good; 0 where all are -inf."""
    return logits.softmax(dim=1).nan_to_num(0.0)


def _only(logits: Tensor, order: Tensor, kept: Tensor) -> Tensor:
    """(B, K) logits with -inf where `kept`, given in sorted `order`, is False."""
    return logits.masked_fill(~torch.zeros_like(kept).scatter(1, order, kept), -math.inf)
