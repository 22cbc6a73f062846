"""Checks of the exercises of page 5.9: a mirrored caption, decoupled decay, early stopping."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..data.mirror import mirror_caption
from .report import Mistake, call, compare, fail, passed, require


def check_mirrored(mirrored: Callable[[str], str]) -> None:
    """Page 5.9: `mirrored(caption)`: what is said of the mirrored picture.

    Raises:
        CheckFailed: naming the mistake.
    """
    both = "a star left of a cross, and a circle to the right of a square"
    twice = "a star left of a cross, and a circle left of a square"
    chained = both.replace("left", "right").replace("right", "left")
    cases = (
        (
            "a red circle left of a blue star",
            [Mistake("a red circle left of a blue star", "Nothing was exchanged.")],
        ),
        (
            "a red circle to the right of a blue star",
            [
                Mistake(
                    "a red circle to the right of a blue star",
                    "Left became right, but right stayed: both words change.",
                )
            ],
        ),
        (
            both,
            [
                Mistake(
                    chained,
                    "The second replacement undid the first: every side is now left. Exchange both "
                    "words in one pass.",
                ),
                Mistake(
                    both.replace("right", "left").replace("left", "right"),
                    "The second replacement undid the first: every side is now right. Exchange "
                    "both words in one pass.",
                ),
            ],
        ),
        (
            twice,
            [Mistake(twice.replace("left", "right", 1), "Only the first word was exchanged.")],
        ),
        (
            "a leftover star above a bright cross",
            [
                Mistake(
                    "a rightover star above a bleft cross",
                    "Letters inside other words changed: 'bright' holds 'right'. Ask for whole "
                    r"words: \b in a regular expression, or split at blanks.",
                ),
                Mistake(
                    "a rightover star above a bright cross",
                    "'leftover' is not 'left': ask for whole words.",
                ),
                Mistake(
                    "a leftover star below a bright cross",
                    "A mirror exchanges left and right; above stays above.",
                ),
            ],
        ),
        ("a star above a cross", [Mistake("a star below a cross", "Above stays above.")]),
    )
    for caption, mistakes in cases:
        right = mirror_caption(caption)
        compare(call(mirrored, caption), right, mistakes, f"The mirrored {caption!r}")
    passed("left and right change places, whole words only; above, below and the rest stay.")


def check_decoupled(step: Callable) -> None:
    """Page 5.9: `step(weight, direction, rate, decay)`: a step with decoupled weight decay.

    Raises:
        CheckFailed: naming the mistake.
    """
    weight, direction = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    rate, decay = 0.1, 0.5
    right = weight - rate * direction - rate * decay * weight
    moved = weight - rate * direction
    mistakes = [
        Mistake(moved, "The weights do not decay."),
        Mistake(
            moved - decay * weight,
            "The decay is not multiplied by the rate. When the rate falls, the decay must too.",
        ),
        Mistake(moved + rate * decay * weight, "The sign of the decay: weights shrink, not grow."),
        Mistake(
            (1 - rate * decay) * moved,
            "The step was shrunk as well. Only the old weights decay: shrink first, then step.",
        ),
        Mistake(
            weight - rate * (direction + decay * weight).sign(),
            "The penalty went into the direction before it was normalised: that is L2, which "
            "Adam's division undoes.",
        ),
        Mistake(weight + rate * direction - rate * decay * weight, "Steps go against direction."),
    ]
    given = weight.clone()
    answer = call(step, given, direction.clone(), rate, decay)
    require(torch.equal(given, weight), "The weights given were changed; return new ones.")
    compare(answer, right, mistakes, "The new weights")
    plain = call(step, weight.clone(), direction.clone(), rate, 0.0)
    compare(plain, moved, what="Without decay the new weights")
    passed("the old weights shrink by rate x decay, whatever the direction is.")


def check_patience(stopped: Callable[[list[float], int], tuple[int, int]]) -> None:
    """Page 5.9: `stopped(losses, patience)`: (number of validations run, position of the best).

    Raises:
        CheckFailed: naming the mistake.
    """
    losses = [0.9, 0.7, 0.6, 0.65, 0.62, 0.55, 0.56, 0.6, 0.58, 0.4]
    cases = (
        (
            (losses, 3),
            (9, 5),
            {
                (10, 9): "It never stopped. Three in a row were no new best after position 5.",
                (9, 8): "The weights that are kept are those of the best validation, not the last.",
                (5, 2): "Stopped one too early: 3 validations without a new best are allowed.",
                (7, 5): "Position 5 is a new best, which sets the count back to 0.",
            },
        ),
        (
            (losses, 2),
            (5, 2),
            {
                (8, 5): "0.62 is less than 0.65, but no new best: compare with the best, not with "
                "the value before.",
                (10, 9): "It never stopped: 0.65 and 0.62 are two in a row that are no new best.",
                (4, 2): "Stopped one too early: 2 validations without a new best are allowed.",
            },
        ),
        (
            ([0.5, 0.5, 0.5], 2),
            (3, 0),
            {(3, 2): "An equal value is no new best: compare with <.", (3, 1): "Equal is no best."},
        ),
        (([3.0, 2.0, 1.0], 1), (3, 2), {(1, 0): "Each of these was a new best."}),
    )
    for arguments, right, wrong in cases:
        answer = call(stopped, *arguments)
        try:
            pair = tuple(int(number) for number in answer)
        except (TypeError, ValueError):
            fail(f"stopped returned {answer!r}; return two whole numbers: (run, best).")
        mistakes = [Mistake(given, message) for given, message in wrong.items()]
        what = f"(run, best) for {arguments[0]} with patience {arguments[1]}"
        compare(pair, right, mistakes, what)
    passed("it counts validations since the best one, and keeps the best one's weights.")
