"""Checks of the exercises on fusion networks, page 2.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from .report import Mistake, call, compare, fail, passed


def check_attention_weights(attention_weights: Callable) -> None:
    """`attention_weights(query (B, N, d), key (B, M, d), mask (B, M))` -> (B, N, M).

    Raises:
        CheckFailed: naming the mistake.
    """
    rng = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, tokens, 16, generator=rng) for tokens in (5, 4))
    mask = torch.tensor([[True, True, True, True], [True, False, True, False]])
    scores = query @ key.transpose(1, 2)
    seen = mask[:, None, :]

    def hidden(scores: Tensor, where: Tensor = ~seen) -> Tensor:
        return scores.masked_fill(where, float("-inf"))

    scaled = scores / 4
    mistakes = [
        Mistake(
            scaled.softmax(dim=-1),
            "The mask has no effect: what is False is read like everything else.",
        ),
        Mistake(
            scaled.softmax(dim=-1) * seen,
            "What is hidden gets nothing, but the other weights of its row no longer sum to 1. "
            "Hide it before the softmax, with -inf.",
        ),
        Mistake(
            (scaled * seen).softmax(dim=-1),
            "A score of 0 is not hidden: exp(0) is 1. Put -inf there.",
        ),
        Mistake(
            hidden(scores).softmax(dim=-1),
            "The scores are not divided by the root of d. With wide vectors the softmax would "
            "begin with nearly all its weight on one token.",
        ),
        Mistake(hidden(scores / 16).softmax(dim=-1), "Divided by d; the root of d was asked."),
        Mistake(
            scaled.softmax(dim=1),
            "The softmax runs over the queries, and the mask has no effect. Each query shares out "
            "its own look, among the M that are real.",
        ),
    ]
    answer = call(attention_weights, query, key, mask)
    if isinstance(answer, Tensor) and answer.isnan().any():
        fail(_about_nans(answer, hidden(scaled), hidden(scaled, seen)))
    compare(answer, hidden(scaled).softmax(dim=-1), mistakes, "The weights")
    passed("each query's weights sum to 1, and what is masked gets none of them.")


def _about_nans(answer: Tensor, right_scores: Tensor, turned_scores: Tensor) -> str:
    """Which softmax had nothing left to share out."""
    if torch.equal(answer.isnan(), turned_scores.softmax(dim=-1).isnan()):
        return "The mask is turned round: True is what may be read."
    if torch.equal(answer.isnan(), right_scores.softmax(dim=1).isnan()):
        return (
            "The softmax runs over the queries. Each query shares out its own look, among the M "
            "tokens that are real."
        )
    return "There are NaNs in it: where everything is hidden, a softmax has nothing to share out."


def check_share_of_deals(share_of_deals: Callable) -> None:
    """`share_of_deals(ours, theirs)`: of all deals, the share that leads by as much or more.

    Raises:
        CheckFailed: naming the mistake.
    """
    # Quarters, in groups whose means are exact, so that no comparison hangs on rounding.
    cases = (
        ([0.75, 0.5], [0.25, 0.5, 0.0, 0.25]),
        ([1.0, 0.75], [0.5, 0.25]),
        ([0.25, 0.5], [0.75, 0.0]),
    )
    for ours, theirs in cases:
        answer = call(share_of_deals, list(ours), list(theirs))
        deals = _leads(ours, theirs)
        lead = deals[0]  # the first deal is the one that took place
        share = len(deals)
        mistakes = [
            Mistake(
                sum(d > lead for d in deals) / share,
                "A deal that leads by exactly as much counts, too: the one that took place is "
                "among the deals, so that luck is never 0.",
            ),
            Mistake(
                sum(d < lead for d in deals) / share,
                "That is the share of deals that lead by less.",
            ),
            Mistake(
                sum(d <= lead for d in deals) / share,
                "That is the share of deals that lead by as much or less: turn the sign round.",
            ),
            Mistake(
                sum(abs(d) >= abs(lead) for d in deals) / share,
                "That counts the deals in which the others lead by as much as well: a question "
                "with two sides. Asked is ours alone.",
            ),
            Mistake(
                float(sum(d >= lead for d in deals)),
                "That is the number of deals. Divide by how many there are.",
            ),
            Mistake(
                _without_twins(ours, theirs),
                "Equal scores of two runs are two scores: deal positions, not a set of values.",
            ),
        ]
        compare(answer, sum(d >= lead for d in deals) / share, mistakes, f"For {ours} and {theirs}")
    passed("of all ways to deal the scores, those that lead by as much as ours did.")


def _leads(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How far the first group's mean leads in each deal; the first deal is the one given."""
    both = [*ours, *theirs]
    found = []
    for chosen in combinations(range(len(both)), len(ours)):
        rest = [value for i, value in enumerate(both) if i not in chosen]
        found.append(sum(both[i] for i in chosen) / len(ours) - sum(rest) / len(rest))
    return found


def _without_twins(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The share among groups that differ in their values."""
    groups = {tuple(sorted(group)) for group in combinations([*ours, *theirs], len(ours))}
    return sum(sum(group) >= sum(ours) for group in groups) / len(groups)
