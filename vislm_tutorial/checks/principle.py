"""Checks of chapter 3's exercises: what learns, instructions, and the five steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..types import TextStates
from .report import Mistake, call, compare, fail, passed, require


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class _HalfUsed(nn.Module):
    """A layer that works, and another that nothing asks."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def _four_parts() -> tuple[Callable[[], Tensor], dict[str, nn.Module]]:
    """A loss and four networks, as on the page: read without a gradient, two trained, one frozen.

    A fifth is not in the loss at all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {
            "reader": nn.Linear(3, 3),  # wants gradients, but is run under no_grad
            "bridge": _HalfUsed(),
            "drawer": nn.Linear(3, 3),
            "frozen": nn.Linear(3, 3).requires_grad_(False),  # gradients only pass through
            "aside": nn.Linear(3, 3),
        }
    x = torch.randn(4, 3, generator=_seeded(0))

    def loss() -> Tensor:
        with torch.no_grad():
            states = parts["reader"](x)
        return parts["frozen"](parts["drawer"](parts["bridge"](states))).square().mean()

    return loss, parts


def check_learners(learners: Callable) -> None:
    """Page 3.1: `learners(loss, parts)`: the names of the networks that the loss can change.

    Raises:
        CheckFailed: naming the mistake.
    """
    make_loss, parts = _four_parts()
    right = ["bridge", "drawer"]
    answer = call(learners, make_loss(), parts)
    try:
        names = sorted(answer)
    except TypeError:
        fail(f"learners returned {answer!r}; expected a list or set of names.")
    mistakes = [
        Mistake(
            ["aside", "bridge", "drawer", "reader"],
            "You asked which parameters *may* have a gradient (requires_grad). The reader's may, "
            "and nobody computed one; nor for the network that is not in the loss.",
        ),
        Mistake(
            ["drawer"],
            "The bridge was missed. One of its layers is idle and gets no gradient, but the other "
            "learns: any(...), not all(...).",
        ),
        Mistake(sorted(parts), "Those are all of them. Which have a gradient after backward()?"),
        Mistake(
            ["bridge", "drawer", "frozen"],
            "A gradient passes *through* the frozen network, and its weights keep none.",
        ),
        Mistake(["frozen"], "Those are frozen by requires_grad. Two of the others learn."),
        Mistake([], "Nobody learns? Gradients are there only after loss.backward()."),
    ]
    compare(names, right, mistakes, "The list")
    require(
        names == sorted(call(learners, make_loss(), parts)),
        "Asked a second time, the answer is another one.",
    )
    passed("whoever gets a gradient learns; to be allowed one is not enough.")


def check_exchange(exchange: Callable) -> None:
    """Page 3.1: `exchange(states, other, position)`: TextStates with one token of another.

    Raises:
        CheckFailed: naming the mistake.
    """
    hidden, other = torch.randn(2, 2, 4, 3, generator=_seeded(0))
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    kept = hidden.clone()
    states, theirs = TextStates(hidden, mask), TextStates(other, torch.ones_like(mask))
    answer = call(exchange, states, theirs, 1)
    require(
        torch.equal(hidden, kept),
        "The states that were handed in have changed. Everybody who holds them now has the wrong "
        "caption: clone() first.",
    )
    require(
        isinstance(answer, TextStates),
        f"exchange returned a {type(answer).__name__}; expected TextStates, states and mask.",
    )
    right = kept.clone()
    right[:, 1] = other[:, 1]
    row = kept.clone()
    row[1] = other[1]
    feature = kept.clone()
    feature[:, :, 1] = other[:, :, 1]
    first = kept.clone()
    first[0, 1] = other[0, 1]
    turned = other.clone()
    turned[:, 1] = kept[:, 1]
    mistakes = [
        Mistake(kept, "Nothing was exchanged."),
        Mistake(other, "That is the other caption, whole. Only one token was asked for."),
        Mistake(row, "states[position] is a caption, (L, D_lm). Tokens are on axis 1."),
        Mistake(feature, "You exchanged number 1 of every state. Tokens are on axis 1, not 2."),
        Mistake(first, "Only the first caption of the batch was changed."),
        Mistake(turned, "The wrong way round: the other's states, with one token of ours."),
    ]
    compare(answer.encoder_hidden_states, right, mistakes, "The states")
    require(
        torch.equal(answer.encoder_attention_mask, mask),
        "The states are right; the mask must stay as it was, for the caption is as long as before.",
    )
    passed("one token of each caption is another's, all else and the mask are as before.")


def check_whole_caption(whole_caption: Callable) -> None:
    """Page 3.2: `whole_caption(logits (n + 1, V), ids (n,), end)`: log p of saying it and no more.

    Row i predicts id i, the last row what follows the caption.

    Raises:
        CheckFailed: naming the mistake.
    """
    logits = 2 * torch.randn(5, 6, generator=_seeded(0))
    ids, end = torch.tensor([3, 0, 0, 2]), 4
    log_p = logits.log_softmax(dim=-1)
    each = log_p[:-1].gather(1, ids[:, None])[:, 0]
    right = (each.sum() + log_p[-1, end]).item()
    raw = logits[:-1].gather(1, ids[:, None]).sum() + logits[-1, end]
    mistakes = [
        Mistake(
            each.sum().item(),
            "That is how likely it is to *begin* so. 'a red circle' then never loses to 'a red "
            "circle in the centre', which begins the same. Add that the caption ends here.",
        ),
        Mistake(
            right / 5,
            "That is the mean over tokens. A long caption then pays no more than a short one, "
            "and these are no logarithms of probabilities that add up to 1. Sum.",
        ),
        Mistake(math.exp(right), "That is the probability; its logarithm was asked."),
        Mistake(-right, "The sign is turned: log-probabilities are never above 0."),
        Mistake(raw.item(), "Logits are not log-probabilities yet: log_softmax makes them so."),
        Mistake(
            (each.sum() + log_p[0, end]).item(),
            "The end was read from the first row. It comes after the caption: the last row.",
        ),
        Mistake(
            (each.sum() + log_p[-2, end]).item(),
            "The end was read from the row that predicts the last word. It stands one further.",
        ),
        Mistake(
            log_p[1:].gather(1, ids[:, None]).sum().item(),
            "You shifted the rows. Here row i predicts id i already.",
        ),
        Mistake(
            (log_p[1:].gather(1, ids[:, None]).sum() + log_p[0, end]).item(),
            "You shifted the rows. Here row i predicts id i already.",
        ),
    ]
    compare(call(whole_caption, logits, ids, end), right, mistakes, "The log-probability")
    passed("each token given those before it, and then the end.")


def check_allowed(next_token: Callable) -> None:
    """Page 3.2: `next_token(log_p (V,), allowed)`: the likeliest id among the allowed ones.

    Raises:
        CheckFailed: naming the mistake.
    """
    log_p = torch.tensor([2.0, 0.5, 1.0, -1.0, 0.2, 3.0]).log_softmax(dim=0)
    for allowed, right in (([1, 4, 2], 2), ([4, 3], 4), ([3], 3)):
        zeroed = torch.zeros_like(log_p)
        zeroed[allowed] = log_p[allowed]
        mistakes = [
            Mistake(5, "5 is the likeliest of all, and it is not allowed."),
            Mistake(
                int(log_p[allowed].argmax()),
                "That is the place in the list of allowed ids, not the id that stands there.",
            ),
            Mistake(
                int(zeroed.argmax()),
                "What is forbidden was given 0. Log-probabilities are below 0, so it wins: "
                "forbid with minus infinity.",
            ),
            Mistake(
                allowed[int(log_p[allowed].argmin())], "That is the least likely of the allowed."
            ),
            Mistake(allowed[0], "That is the first of the allowed, not the likeliest."),
        ]
        answer = call(next_token, log_p, allowed)
        answer = int(answer) if isinstance(answer, Tensor) and answer.numel() == 1 else answer
        compare(answer, right, mistakes, f"With {allowed} allowed the token")
    passed("the likeliest of what is allowed, however likely the rest.")


def check_stops_at(stops_at: Callable) -> None:
    """Page 3.3: `stops_at(losses, patience)`: after how many validations, or None if never.

    Raises:
        CheckFailed: naming the mistake.
    """
    cases = (
        (
            [3.0, 2.0, 2.5, 2.2, 2.1, 1.8],
            3,
            5,
            {
                None: "2.2 is better than 2.5, but no better than 2.0: three validations without "
                "a new *best*. Compare with the best, not with the one before.",
                3: "It stopped at the first validation without a new best; patience was 3.",
            },
        ),
        (
            [3.0, 3.1, 2.5, 2.6, 2.0, 2.1, 1.5, 1.6],
            2,
            None,
            {
                4: "A new best sets the count back to 0. You counted all bad ones, over the run.",
            },
        ),
        (
            [2.0, 2.0, 2.0, 1.0],
            2,
            3,
            {
                None: "Equal is not better: [2.0, 2.0, 2.0] holds two validations without a new "
                "best.",
            },
        ),
        ([2.0, 1.0, 1.5], 0, None, {}),
        ([5.0, 4.0, 4.5, 4.4, 4.3], 2, 4, {}),
    )
    for losses, patience, right, said in cases:
        answer = call(stops_at, list(losses), patience, may_be_none=True)
        mistakes = [Mistake(wrong, message) for wrong, message in said.items()]
        if right is not None:
            mistakes.append(
                Mistake(right - 1, "That is the index. How many validations were there by then?")
            )
        elif patience == 0:
            require(
                answer is None, "Patience 0 means: never stop early, as everywhere in this package."
            )
        shown = f"Patience {patience} with {losses}: the stop"
        compare(answer, right, mistakes, shown)
    passed("so many validations in a row without a new best, and a new best starts the count anew.")


def check_worth_having(worth_having: Callable) -> None:
    """Page 3.3: `worth_having(points)`: indices of (seconds, score) that no other point beats.

    Raises:
        CheckFailed: naming the mistake.
    """
    points = [(1.0, 0.6), (2.0, 0.8), (2.5, 0.7), (4.0, 0.9), (4.0, 0.85), (5.0, 0.9)]
    answer = call(worth_having, list(points))
    try:
        found = sorted(int(i) for i in answer)
    except (TypeError, ValueError):
        fail(f"worth_having returned {answer!r}; expected indices, such as [0, 3].")
    mistakes = [
        Mistake(
            [0, 1, 3, 4, 5],
            "(4.0, 0.85) costs as much as (4.0, 0.9) and scores less. To beat, no worse in one "
            "and better in the other is enough.",
        ),
        Mistake(
            [0, 1, 3, 5],
            "(5.0, 0.9) scores as much as (4.0, 0.9) and takes longer: nobody needs it.",
        ),
        Mistake([3], "That is the best score. Who has only one second is not served by it."),
        Mistake([3, 5], "Those have the best score. Who has only one second is not served."),
        Mistake([0], "That is the fastest. Who has more time wants more."),
        Mistake([0, 3], "The two ends are right; (2.0, 0.8) lies between and nobody beats it."),
        Mistake([2, 4, 5], "Those are the beaten ones. The others were asked for."),
        Mistake([], "Every point is as good as itself: compare it with the *other* points only."),
    ]
    compare(found, [0, 1, 3], mistakes, "The list")
    passed("what remains is a choice between time and score; the rest was no choice.")
