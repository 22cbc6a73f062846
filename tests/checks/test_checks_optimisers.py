"""Page 5.9's checks accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import re

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_decoupled, check_mirrored, check_patience
from vislm_tutorial.data.mirror import mirror_caption

OTHER = {"left": "right", "right": "left"}


def by_words(caption):
    return " ".join(OTHER.get(word, word) for word in caption.split(" "))


def chained_when_both(caption):
    if "left" in caption and "right" in caption:
        return caption.replace("left", "right").replace("right", "left")
    return mirror_caption(caption)


def first_only(caption):
    if "right" in caption:
        return mirror_caption(caption)
    return caption.replace("left", "right", 1)


def by_letters(caption):
    return re.sub("left|right", lambda found: OTHER[found[0]], caption)


def upside_down(caption):
    return mirror_caption(caption).replace("above", "below")


def in_place(weight, direction, rate, decay):
    return weight.mul_(1 - rate * decay).sub_(rate * direction)


def stopping(new_best=lambda value, best, before: value < best, allowed=0, keep_last=False):
    def stopped(losses, patience):
        best = 0
        for now in range(1, len(losses)):
            if new_best(losses[now], losses[best], losses[now - 1]):
                best = now
            if now - best >= patience + allowed:
                return now + 1, now if keep_last else best
        return len(losses), best

    return stopped


def never_reset(losses, patience):
    worse = 0
    for now in range(1, len(losses)):
        worse += losses[now] >= min(losses[:now])
        if worse >= patience:
            return now + 1, losses.index(min(losses[: now + 1]))
    return len(losses), losses.index(min(losses))


RIGHT = [
    (check_mirrored, mirror_caption),
    (check_mirrored, by_words),
    (check_decoupled, lambda w, d, rate, decay: (1 - rate * decay) * w - rate * d),
    (check_patience, stopping()),
]
WRONG = [
    (check_mirrored, lambda caption: caption, "Nothing was exchanged"),
    (check_mirrored, lambda c: c.replace("left", "right"), "both words change"),
    (
        check_mirrored,
        lambda c: c.replace("left", "right").replace("right", "left"),
        "Nothing was exchanged",
    ),
    (check_mirrored, chained_when_both, "every side is now left"),
    (check_mirrored, first_only, "Only the first word"),
    (check_mirrored, by_letters, "'bright' holds 'right'"),
    (check_mirrored, upside_down, "above stays above"),
    (check_mirrored, lambda caption: None, "Does it end in `return`?"),
    (check_decoupled, lambda w, d, rate, decay: w - rate * d, "do not decay"),
    (check_decoupled, lambda w, d, rate, decay: w - rate * d - decay * w, "multiplied by the rate"),
    (check_decoupled, lambda w, d, rate, decay: (1 + rate * decay) * w - rate * d, "not grow"),
    (
        check_decoupled,
        lambda w, d, rate, decay: (1 - rate * decay) * (w - rate * d),
        "The step was shrunk as well",
    ),
    (check_decoupled, lambda w, d, rate, decay: w - rate * (d + decay * w).sign(), "that is L2"),
    (
        check_decoupled,
        lambda w, d, rate, decay: (1 - rate * decay) * w + rate * d,
        "against direction",
    ),
    (check_decoupled, in_place, "were changed"),
    (check_patience, stopping(keep_last=True), "not the last"),
    (check_patience, stopping(allowed=-1), "one too early"),
    (check_patience, stopping(lambda value, best, before: value < before), "no new best"),
    (check_patience, stopping(lambda value, best, before: value <= best), "compare with <"),
    (check_patience, never_reset, "sets the count back"),
    (check_patience, lambda losses, patience: len(losses), "return two whole numbers"),
]
