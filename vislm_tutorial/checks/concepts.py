"""Checks of chapter 2's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..evaluation.control import Look
from .report import Mistake, call, compare, fail, passed, require


def check_condition_shape(condition_shape: Callable) -> None:
    """Page 2.1: `condition_shape(kind, lengths, width, tokens)` -> (B, M, D).

    Raises:
        CheckFailed: naming the mistake.
    """
    lengths, width, tokens = [4, 9, 2, 9], 192, 16
    batch, longest = len(lengths), max(lengths)
    padded = (batch, longest, width)
    cases = {
        "projector": (
            padded,
            [
                Mistake(
                    (batch, sum(lengths), width),
                    "M is the sum of all lengths. Captions lie one below the other, not one after "
                    "the other: each is padded to the longest.",
                ),
                Mistake(
                    (batch, min(lengths), width),
                    "M is the shortest caption's length: the others would lose words.",
                ),
                Mistake(
                    (batch, lengths[0], width),
                    "M is the first caption's length. All are padded to the longest.",
                ),
                Mistake((batch, tokens, width), "A projector has no learned queries: M is L."),
                Mistake((batch, 1, width), "One vector a caption is what `pooled` gives."),
            ],
        ),
        "pooled": (
            (batch, 1, width),
            [
                Mistake(
                    padded,
                    "`pooled` keeps one vector a caption, so M is 1 however long the captions are.",
                ),
                Mistake((batch, width), "One vector is still a sequence of one: (B, 1, D)."),
            ],
        ),
        "resampler": (
            (batch, tokens, width),
            [
                Mistake(
                    padded,
                    "A resampler's M is the number of its learned queries, and does not grow "
                    "with the captions: that is what it is for.",
                )
            ],
        ),
    }
    for kind, (right, mistakes) in cases.items():
        answer = call(condition_shape, kind, lengths, width, tokens)
        if isinstance(answer, list | tuple):
            answer = tuple(answer)  # a list or a torch.Size of the right numbers is right
        compare(answer, right, mistakes, f"For {kind!r}, the shape")
    passed("M is 1, L or the number of queries; B and D do not depend on the kind.")


def check_causal_mask(causal_mask: Callable) -> None:
    """Page 2.2: `causal_mask(length)`: (L, L) bool, True where row i may look at column j.

    Raises:
        CheckFailed: naming the mistake.
    """
    for length in (4, 1):
        answer = call(causal_mask, length)
        require(
            isinstance(answer, Tensor),
            f"The mask is a {type(answer).__name__}; expected a tensor of shape (L, L).",
        )
        if answer.dtype != torch.bool:
            if answer.is_floating_point() and answer.isinf().any():
                fail(
                    "That is the form which is added to the scores, 0 and -inf. Asked was the bool "
                    "form, True where looking is allowed."
                )
            fail(f"The mask is {answer.dtype}; expected torch.bool. Of 0 and 1 make .bool().")
        everything = torch.ones(length, length, dtype=torch.bool)
        mistakes = [
            Mistake(
                everything.tril(-1).int(),
                "The diagonal is missing: a token may look at itself, and the first one has "
                "nothing else.",
            ),
            Mistake(
                everything.triu(1).int(),
                "That marks what must be *hidden*. True is for what may be seen.",
            ),
            Mistake(
                everything.triu().int(),
                "Rows and columns are exchanged: each token looks at itself and at what comes "
                "later. Row i is who looks, column j is what is looked at.",
            ),
            Mistake(
                everything.int(), "Everything may look at everything: that is an encoder's mask."
            ),
            Mistake(torch.eye(length).int(), "Each token sees itself alone, and no earlier one."),
        ]
        compare(answer.int(), everything.tril().int(), mistakes, f"The mask of {length}")
    passed("each token sees itself and what comes before it, and nothing later.")


def check_sequence_log_prob(sequence_log_prob: Callable) -> None:
    """Page 2.2: `sequence_log_prob(logits (B, L, V), ids (B, L))`: log p of each caption, (B,).

    Raises:
        CheckFailed: naming the mistake.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    ids = torch.randint(7, (2, 5), generator=generator)

    def picked(scores: Tensor, tokens: Tensor) -> Tensor:
        """(B, n): the score of each token."""
        return scores.gather(2, tokens[..., None])[..., 0]

    log_p = logits.log_softmax(dim=-1)
    each = picked(log_p[:, :-1], ids[:, 1:])  # (B, L - 1)
    right = each.sum(dim=1)
    unshifted = (
        "No shift: each row of logits was asked for its own token, which the model had already "
        "read. Row t predicts token t + 1."
    )
    mistakes = [
        Mistake(picked(log_p, ids).sum(dim=1), unshifted),
        Mistake(picked(log_p[:, 1:], ids[:, 1:]).sum(dim=1), unshifted),
        Mistake(
            picked(log_p[:, 1:], ids[:, :-1]).sum(dim=1),
            "The shift goes the wrong way: each row was asked for the token *before* it.",
        ),
        Mistake(
            each.mean(dim=1),
            "That is the mean of a token. The logarithm of a product is the *sum*: a longer "
            "caption is less probable.",
        ),
        Mistake(-right, "The sign is turned: that is the loss, and log p is never above 0."),
        Mistake(right.exp(), "That is the probability itself; its logarithm was asked."),
        Mistake(right.sum(), "That is one number for the batch; each caption has its own, (B,)."),
        Mistake(right.mean(), "That is one mean for the batch; each caption has its own, (B,)."),
        Mistake(each, "These are the single tokens, (B, L - 1). Add each row up."),
        Mistake(
            picked(logits[:, :-1], ids[:, 1:]).sum(dim=1),
            "Logits are not log-probabilities yet: log_softmax makes them so.",
        ),
        Mistake(
            picked(logits.softmax(dim=-1)[:, :-1], ids[:, 1:]).sum(dim=1),
            "Probabilities were added. They multiply; it is their logarithms that add up.",
        ),
        Mistake(
            picked(logits.log_softmax(dim=1)[:, :-1], ids[:, 1:]).sum(dim=1),
            "The softmax ran over the positions. The vocabulary is the last axis.",
        ),
        Mistake(right / math.log(2), "That is in bits; nats were asked."),
    ]
    compare(call(sequence_log_prob, logits, ids), right, mistakes, "The log-probability")
    passed("each token after the first, given all before it, summed for each caption.")


def check_isolation(isolation: Callable) -> None:
    """Page 2.11: `isolation(before, after, moved)`: share of pairs in which all else stayed.

    Raises:
        CheckFailed: naming the mistake.
    """
    look = Look("red", "circle", "large", "solid", 1, "in the centre", "white")
    small = {"size": "small"}
    changes = [  # what the second look of each pair has instead; "colour" is what was moved
        *[{"colour": "blue"}] * 5,
        {},
        {"colour": "green", **small},
        {"colour": "blue", **small, "background": "grey"},
        small,
        {"fill": "striped", "place": None},
    ]
    before, after = [look] * len(changes), [replace(look, **change) for change in changes]
    differs = [set(change) for change in changes]
    n, others = len(changes), set(vars(look)) - {"colour"}
    right = sum(names <= {"colour"} for names in differs) / n
    mistakes = [
        Mistake(
            sum(not names for names in differs) / n,
            "That is the share of pairs in which nothing changed at all. The moved attribute is "
            "meant to change: leave it out of the comparison.",
        ),
        Mistake(
            1 - right,
            "That is the share in which something else *did* change: one minus the answer.",
        ),
        Mistake(
            sum(names == {"colour"} for names in differs) / n,
            "You also ask that the moved attribute has changed. Whether the word was obeyed is "
            "the other question: a picture that ignores it has kept everything else.",
        ),
        Mistake(
            sum("colour" in names for names in differs) / n,
            "That compares the moved attribute alone. Isolation is about all the others.",
        ),
        Mistake(
            sum("colour" not in names for names in differs) / n,
            "That is how often the moved attribute stayed. Isolation is about all the others.",
        ),
        Mistake(
            sum(len(others - names) for names in differs) / (n * len(others)),
            "You averaged over the attributes. A pair counts only if *all* its others stayed: "
            "first all(...) over the attributes, then the mean over the pairs.",
        ),
        Mistake(
            sum(bool(others - names) for names in differs) / n,
            "One attribute that stayed was enough for you: all(...), not any(...).",
        ),
        Mistake(float(right * n), "That is a number of pairs. Divide it by how many there are."),
    ]
    answer = call(isolation, before, after, "colour")
    compare(answer, float(right), mistakes, "The isolation")
    by_place = call(isolation, before, after, "place")
    kept = sum(names <= {"place"} for names in differs) / n
    was_fixed = Mistake(float(right), "'colour' is built in: use the attribute named by `moved`.")
    compare(by_place, float(kept), [was_fixed], "The isolation when the place was moved")
    passed("a pair counts when everything but the moved attribute stayed, obeyed or not.")


def check_entropy_of(entropy_of: Callable) -> None:
    """Page 2.11: `entropy_of(labels)`: the entropy in bits of how often each label occurs.

    Raises:
        CheckFailed: naming the mistake.
    """
    labels = ["red", "blue", "red", "pink", "red", "green", "red", "blue"]
    counts = [4, 2, 1, 1]
    p = [number / len(labels) for number in counts]
    bits = -sum(x * math.log2(x) for x in p)
    mistakes = [
        Mistake(bits * math.log(2), "That is in nats: take the logarithm to base 2 for bits."),
        Mistake(bits * math.log10(2), "Base 10: take the logarithm to base 2 for bits."),
        Mistake(-bits, "The sign is turned: log p is negative, and entropy is not."),
        Mistake(
            math.log2(len(counts)),
            "That is log2 of how many different labels there are: the entropy only if all are "
            "equally frequent.",
        ),
        Mistake(
            -sum(n / len(labels) * math.log2(n / len(labels)) * n for n in counts),
            "The sum went over all labels, so a frequent one came in several times. Go over the "
            "*different* labels: set(labels), or a Counter.",
        ),
        Mistake(
            -sum(math.log2(x) for x in p),
            "Each surprise -log2 p must be weighted by p, how often it happens.",
        ),
        Mistake(
            -sum(n * math.log2(n) for n in counts),
            "Counts are no shares yet: divide each by len(labels).",
        ),
        Mistake(
            sum(n * math.log2(n) for n in counts),
            "Counts are no shares yet: divide each by len(labels).",
        ),
        Mistake(
            -sum(math.log2(x) for x in p) / len(p),
            "That is the plain mean of -log2 p over the different labels; weight each by its p.",
        ),
    ]
    compare(call(entropy_of, labels), bits, mistakes, f"The entropy of {labels}")
    with_none = [None, None, "in the centre", "in the centre"]
    skipped = Mistake(0.0, "None is a label too: that a thing stands at no named place is news.")
    compare(call(entropy_of, with_none), 1.0, [skipped], f"The entropy of {with_none}")
    compare(call(entropy_of, ["red"] * 5), 0.0, what="The entropy of five equal labels")
    compare(call(entropy_of, list(range(8))), 3.0, what="The entropy of eight different labels")
    passed("0 bits when all are alike, 3 for eight that all differ, in between otherwise.")
