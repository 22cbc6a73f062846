"""The checks of pages 2.1 and 2.2 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import (
    check_causal_mask,
    check_condition_shape,
    check_sequence_log_prob,
)
from vislm_tutorial.fusion import FusionConfig, build_fusion
from vislm_tutorial.types import TextStates


def condition_shape(kind, lengths, width, tokens):
    m = {"pooled": 1, "projector": max(lengths), "resampler": tokens}[kind]
    return len(lengths), m, width


def built_shape(kind, lengths, width, tokens):
    """The package's own networks as an answer."""
    fusion = build_fusion(FusionConfig(kind, width=width, tokens=tokens), states_width=24)
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    states = TextStates(torch.randn(*mask.shape, 24), mask)
    return fusion(states).encoder_hidden_states.shape


def longest_whatever_the_kind(kind, lengths, width, tokens):
    return len(lengths), max(lengths), width


def with_m(kind, m):
    """A right answer but for `kind`, whose M is m(lengths, tokens)."""

    def answer(asked, lengths, width, tokens):
        right = condition_shape(asked, lengths, width, tokens)
        return (right[0], m(lengths, tokens), width) if asked == kind else right

    return answer


def causal_mask(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def compared_positions(length):
    place = torch.arange(length)
    return place[None, :] <= place[:, None]


def additive(length):
    return torch.zeros(length, length).masked_fill(~causal_mask(length), float("-inf"))


def sequence_log_prob(logits, ids):
    log_p = logits.log_softmax(dim=-1)
    return log_p[:, :-1].gather(2, ids[:, 1:, None])[..., 0].sum(dim=1)


def by_cross_entropy(logits, ids):
    each = F.cross_entropy(logits[:, :-1].movedim(-1, 1), ids[:, 1:], reduction="none")
    return -each.sum(dim=1)


def unshifted(logits, ids):
    return logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0].sum(dim=1)


def backwards(logits, ids):
    return logits.log_softmax(dim=-1)[:, 1:].gather(2, ids[:, :-1, None])[..., 0].sum(dim=1)


RIGHT = [
    (check_condition_shape, condition_shape),
    (check_condition_shape, built_shape),
    (check_condition_shape, lambda *a: list(condition_shape(*a))),
    (check_causal_mask, causal_mask),
    (check_causal_mask, compared_positions),
    (check_sequence_log_prob, sequence_log_prob),
    (check_sequence_log_prob, by_cross_entropy),
]
WRONG = [
    (check_condition_shape, longest_whatever_the_kind, "keeps one vector a caption"),
    (check_condition_shape, with_m("projector", lambda n, q: sum(n)), "one below the other"),
    (check_condition_shape, with_m("projector", lambda n, q: min(n)), "would lose words"),
    (check_condition_shape, with_m("projector", lambda n, q: n[0]), "first caption's length"),
    (check_condition_shape, with_m("resampler", lambda n, q: max(n)), "its learned queries"),
    (
        check_condition_shape,
        lambda kind, n, d, q: (len(n), d) if kind == "pooled" else condition_shape(kind, n, d, q),
        "a sequence of one",
    ),
    (check_causal_mask, lambda n: causal_mask(n).T, "Rows and columns are exchanged"),
    (check_causal_mask, lambda n: causal_mask(n).tril(-1), "The diagonal is missing"),
    (check_causal_mask, lambda n: ~causal_mask(n), "must be *hidden*"),
    (check_causal_mask, lambda n: torch.ones(n, n, dtype=torch.bool), "an encoder's mask"),
    (check_causal_mask, lambda n: torch.eye(n, dtype=torch.bool), "itself alone"),
    (check_causal_mask, additive, "added to the scores"),
    (check_causal_mask, lambda n: causal_mask(n).float(), "make .bool()"),
    (check_causal_mask, lambda n: causal_mask(n).tolist(), "is a list"),
    (check_sequence_log_prob, unshifted, "No shift"),
    (check_sequence_log_prob, lambda u, i: unshifted(u[:, 1:], i[:, 1:]), "No shift"),
    (check_sequence_log_prob, backwards, "the wrong way"),
    (check_sequence_log_prob, lambda u, i: sequence_log_prob(u, i) / 4, "mean of a token"),
    (check_sequence_log_prob, lambda u, i: -sequence_log_prob(u, i), "sign is turned"),
    (check_sequence_log_prob, lambda u, i: sequence_log_prob(u, i).exp(), "probability itself"),
    (check_sequence_log_prob, lambda u, i: sequence_log_prob(u, i).sum(), "one number for the"),
    (
        check_sequence_log_prob,
        lambda u, i: u[:, :-1].gather(2, i[:, 1:, None])[..., 0].sum(dim=1),
        "not log-probabilities yet",
    ),
    (
        check_sequence_log_prob,
        lambda u, i: sequence_log_prob(u, i) * torch.tensor(2.0).log().reciprocal(),
        "in bits",
    ),
]
