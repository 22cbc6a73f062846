"""The checks of page 2.7 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_perplexity, check_top_p


def shares(codes, k):
    return torch.bincount(codes.flatten(), minlength=k) / codes.numel()


def perplexity(codes, k):
    p = shares(codes, k)
    p = p[p > 0]
    return (-(p * p.log()).sum()).exp()


def with_bits(codes, k):
    p = [x for x in shares(codes, k).tolist() if x]
    return 2 ** -sum(x * math.log2(x) for x in p)


def nan_perplexity(codes, k):
    p = shares(codes, k)
    return (-(p * p.log()).sum()).exp()


def top_p(logits, p):
    value, order = logits.softmax(1).sort(dim=1, descending=True)
    out = value.cumsum(1) - value >= p
    return logits.masked_fill(out.gather(1, order.argsort(1)), -math.inf)


def short(logits, p):
    value, order = logits.softmax(1).sort(dim=1, descending=True)
    out = value.cumsum(1) > p
    return logits.masked_fill(out.gather(1, order.argsort(1)), -math.inf)


def unsorted(logits, p):
    value = logits.softmax(1)
    return logits.masked_fill(value.cumsum(1) - value >= p, -math.inf)


def left_sorted(logits, p):
    value, order = logits.softmax(1).sort(dim=1, descending=True)
    return logits.gather(1, order).masked_fill(value.cumsum(1) - value >= p, -math.inf)


def zeroed(logits, p):
    kept = top_p(logits, p)
    return torch.where(kept.isinf(), 0.0, kept)


def turned(logits, p):
    return torch.where(top_p(logits, p).isinf(), logits, -math.inf)


RIGHT = [
    (check_perplexity, perplexity),
    (check_perplexity, with_bits),
    (check_top_p, top_p),
    (check_top_p, lambda x, p: top_p(x, p).log_softmax(1)),
]
WRONG = [
    (check_perplexity, lambda c, k: perplexity(c, k).log(), "entropy in nats"),
    (check_perplexity, lambda c, k: math.log2(perplexity(c, k)), "entropy in bits"),
    (check_perplexity, lambda c, k: math.exp(math.log2(perplexity(c, k))), "Bits went into exp"),
    (check_perplexity, lambda c, k: 2 ** math.log(perplexity(c, k)), "Nats went into"),
    (check_perplexity, lambda c, k: float(len(c.unique())), "seen once"),
    (check_perplexity, lambda c, k: 1 / perplexity(c, k), "sign is turned"),
    (
        check_perplexity,
        lambda c, k: sum(perplexity(x, k) for x in c) / len(c),
        "count over all pictures",
    ),
    (check_perplexity, nan_perplexity, "never used"),
    (check_top_p, short, "carries the sum past p"),
    (check_top_p, unsorted, "order of the codebook"),
    (check_top_p, left_sorted, "in sorted order"),
    (check_top_p, zeroed, "no ban"),
    (check_top_p, turned, "mask is turned"),
    (
        check_top_p,
        lambda x, p: x.masked_fill(x.softmax(1) < 1 - p, -math.inf),
        "compared with 1 - p",
    ),
    (check_top_p, lambda x, p: top_p(x, p)[0], "one for each code of each picture"),
]
