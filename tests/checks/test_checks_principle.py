"""The checks of chapter 3 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import torch
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial import TextStates
from vislm_tutorial.checks import (
    check_allowed,
    check_exchange,
    check_learners,
    check_stops_at,
    check_whole_caption,
    check_worth_having,
)


def learners(loss, parts):
    for part in parts.values():
        part.zero_grad(set_to_none=True)
    loss.backward()
    return {
        name for name, part in parts.items() if any(p.grad is not None for p in part.parameters())
    }


def learners_all(loss, parts):
    loss.backward()
    return [n for n, part in parts.items() if all(p.grad is not None for p in part.parameters())]


def learners_allowed(loss, parts):
    return [n for n, part in parts.items() if any(p.requires_grad for p in part.parameters())]


def learners_by_autograd(loss, parts):
    """The other way to ask, without leaving gradients behind."""
    found = []
    for name, part in parts.items():
        wanted = [p for p in part.parameters() if p.requires_grad]
        if wanted:
            gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
            if any(g is not None for g in gradients):
                found.append(name)
    return found


def exchange(states, other, position):
    hidden = states.encoder_hidden_states.clone()
    hidden[:, position] = other.encoder_hidden_states[:, position]
    return TextStates(hidden, states.encoder_attention_mask)


def exchange_in_place(states, other, position):
    states.encoder_hidden_states[:, position] = other.encoder_hidden_states[:, position]
    return states


def exchange_row(states, other, position):
    hidden = states.encoder_hidden_states.clone()
    hidden[position] = other.encoder_hidden_states[position]
    return TextStates(hidden, states.encoder_attention_mask)


def exchange_mask_too(states, other, position):
    changed = exchange(states, other, position)
    return TextStates(changed.encoder_hidden_states, other.encoder_attention_mask)


def whole_caption(logits, ids, end):
    return log_sum(logits, [*ids.tolist(), end])


def log_sum(logits, ids):
    return logits.log_softmax(-1)[torch.arange(len(ids)), ids].sum()


def allowed_token(log_p, allowed):
    return max(allowed, key=lambda token: log_p[token])


def zeroed(log_p, allowed):
    scores = torch.zeros_like(log_p)
    scores[allowed] = log_p[allowed]
    return scores.argmax()


def stops_at(losses, patience, better=lambda loss, best: loss < best):
    best, waited = float("inf"), 0
    for number, loss in enumerate(losses, start=1):
        if better(loss, best):
            best, waited = loss, 0
        else:
            waited += 1
        if patience and waited == patience:
            return number
    return None


def stops_after_any(losses, patience):
    best, bad = float("inf"), 0
    for number, loss in enumerate(losses, start=1):
        bad += loss >= best
        best = min(best, loss)
        if patience and bad == patience:
            return number
    return None


def stops_by_neighbour(losses, patience):
    waited = 0
    for i in range(1, len(losses)):
        waited = waited + 1 if losses[i] >= losses[i - 1] else 0
        if patience and waited == patience:
            return i + 1
    return None


def worth_having(points):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    return [i for i, p in enumerate(points) if not any(beats(q, p) for q in points)]


def strictly(points):
    def beats(a, b):
        return a[0] < b[0] and a[1] > b[1]

    return [i for i, p in enumerate(points) if not any(beats(q, p) for q in points)]


RIGHT = [
    (check_learners, learners),
    (check_learners, learners_by_autograd),
    (check_exchange, exchange),
    (check_whole_caption, whole_caption),
    (check_allowed, allowed_token),
    (check_stops_at, stops_at),
    (check_worth_having, worth_having),
]
WRONG = [
    (check_learners, learners_allowed, "requires_grad"),
    (check_learners, learners_all, "any(...), not all(...)"),
    (check_learners, lambda loss, parts: list(parts), "all of them"),
    (check_learners, lambda loss, parts: [], "after loss.backward()"),
    (check_learners, lambda loss, parts: 2, "returned 2"),
    (check_exchange, exchange_in_place, "clone() first"),
    (check_exchange, exchange_row, "Tokens are on axis 1"),
    (check_exchange, exchange_mask_too, "the mask must stay"),
    (check_exchange, lambda s, o, i: o, "the other caption, whole"),
    (check_exchange, lambda s, o, i: exchange(o, s, i), "wrong way round"),
    (
        check_exchange,
        lambda s, o, i: exchange(s, o, i).encoder_hidden_states,
        "expected TextStates",
    ),
    (check_whole_caption, lambda u, ids, end: log_sum(u[:-1], ids), "ends here"),
    (check_whole_caption, lambda u, ids, end: whole_caption(u, ids, end) / 5, "mean over tokens"),
    (check_whole_caption, lambda u, ids, end: whole_caption(u, ids, end).exp(), "its logarithm"),
    (check_whole_caption, lambda u, ids, end: log_sum(u[1:], ids), "shifted the rows"),
    (
        check_whole_caption,
        lambda u, ids, end: u[torch.arange(5), [*ids.tolist(), end]].sum(),
        "log_softmax makes",
    ),
    (
        check_whole_caption,
        lambda u, ids, end: log_sum(u[:-1], ids) + u[-2].log_softmax(-1)[end],
        "one further",
    ),
    (check_allowed, lambda p, allowed: p.argmax(), "not allowed"),
    (check_allowed, lambda p, allowed: p[allowed].argmax(), "place in the list"),
    (check_allowed, zeroed, "minus infinity"),
    (check_stops_at, stops_by_neighbour, "not with the one before"),
    (check_stops_at, stops_after_any, "sets the count back"),
    (check_stops_at, lambda x, n: stops_at(x, n, lambda a, b: a <= b), "Equal is not better"),
    (check_stops_at, lambda x, n: (stops_at(x, n) or 0) - 1, "the index"),
    (check_worth_having, strictly, "no worse in one"),
    (check_worth_having, lambda p: [max(range(len(p)), key=lambda i: p[i][1])], "best score"),
    (check_worth_having, lambda p: [2, 4, 5], "beaten ones"),
    (check_worth_having, lambda p: [], "the *other* points"),
]
