"""The checks of the page on fusions accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math
import re
from itertools import combinations, permutations

import pytest
import torch

from vislm_tutorial.checks import CheckFailed, check_attention_weights, check_share_of_deals


def scores(query, key):
    return query @ key.transpose(1, 2) / query.shape[-1] ** 0.5


def weights(query, key, mask):
    return scores(query, key).masked_fill(~mask[:, None, :], float("-inf")).softmax(dim=-1)


def weights_by_hand(query, key, mask):
    grown = torch.exp(torch.einsum("bnd,bmd->bnm", query, key) / math.sqrt(query.shape[2]))
    grown = grown * mask[:, None, :]
    return grown / grown.sum(dim=-1, keepdim=True)


def lead(first, second):
    return sum(first) / len(first) - sum(second) / len(second)


def deals(ours, theirs):
    both, n = [*ours, *theirs], len(ours)
    for chosen in combinations(range(len(both)), n):
        yield (
            [both[i] for i in chosen],
            [both[i] for i in range(len(both)) if i not in chosen],
        )


def share(ours, theirs, counts):
    found = [counts(lead(*deal), lead(ours, theirs)) for deal in deals(ours, theirs)]
    return sum(found) / len(found)


def luck(ours, theirs):
    return share(ours, theirs, lambda d, x: d >= x)


def luck_by_order(ours, theirs):
    orders = list(permutations([*ours, *theirs]))
    return sum(sum(order[: len(ours)]) >= sum(ours) for order in orders) / len(orders)


def luck_of_values(ours, theirs):
    groups = set(combinations(sorted([*ours, *theirs]), len(ours)))
    return sum(sum(group) >= sum(ours) for group in groups) / len(groups)


@pytest.mark.parametrize(
    ("check", "answer", "verified"),
    [
        (check_attention_weights, weights, "what is masked gets none"),
        (check_attention_weights, weights_by_hand, "weights sum to 1"),
        (check_share_of_deals, luck, "lead by as much as ours did"),
        (check_share_of_deals, luck_by_order, "of all ways to deal the scores"),
    ],
)
def test_right_answers_pass_and_say_what_was_verified(check, answer, verified, capsys):
    check(answer)
    assert re.fullmatch(f"Right: .*{re.escape(verified)}.*\n", capsys.readouterr().out)


WRONG = [
    (check_attention_weights, lambda q, k, m: scores(q, k).softmax(-1), "mask has no effect"),
    (
        check_attention_weights,
        lambda q, k, m: scores(q, k).softmax(-1) * m[:, None],
        "no longer sum to 1",
    ),
    (
        check_attention_weights,
        lambda q, k, m: (scores(q, k) * m[:, None]).softmax(-1),
        "A score of 0 is not hidden",
    ),
    (check_attention_weights, lambda q, k, m: weights(4 * q, k, m), "by the root of d"),
    (check_attention_weights, lambda q, k, m: weights(q / 4, k, m), "Divided by d"),
    (
        check_attention_weights,
        lambda q, k, m: scores(q, k).masked_fill(~m[:, None], -math.inf).softmax(1),
        "The softmax runs over the queries",
    ),
    (check_attention_weights, lambda q, k, m: scores(q, k).softmax(1), "and the mask has no"),
    (check_attention_weights, lambda q, k, m: weights(q, k, ~m), "turned round"),
    (check_attention_weights, lambda q, k, m: weights(q, k, m) * math.nan, "There are NaNs in it"),
    (
        check_attention_weights,
        lambda q, k, m: weights(q, k, m).mean(dim=1),
        "expected a tensor of shape (2, 5, 4)",
    ),
    (check_share_of_deals, lambda a, b: share(a, b, lambda d, x: d > x), "counts, too"),
    (check_share_of_deals, lambda a, b: share(a, b, lambda d, x: d < x), "lead by less"),
    (check_share_of_deals, lambda a, b: share(a, b, lambda d, x: d <= x), "as much or less"),
    (
        check_share_of_deals,
        lambda a, b: share(a, b, lambda d, x: abs(d) >= abs(x)),
        "with two sides",
    ),
    (
        check_share_of_deals,
        lambda a, b: sum(lead(*d) >= lead(a, b) for d in deals(a, b)),
        "the number of deals",
    ),
    (check_share_of_deals, luck_of_values, "not a set of values"),
    (check_share_of_deals, lambda a, b: 0.5, "For [0.75, 0.5]"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    with pytest.raises(CheckFailed, match=re.escape(message)) as caught:
        check(answer)
    assert "raised" not in str(caught.value)
