"""Checks of the exercises of the page on unseen words: what is known, and two words at once."""

from __future__ import annotations

from collections.abc import Callable

from .report import Mistake, call, compare, passed


def check_knows(knows: Callable) -> None:
    """`knows(score, choices)`: the share known by one who guesses the rest.

    Raises:
        CheckFailed: naming the mistake.
    """
    for score, choices in ((0.5, 8), (0.26, 6), (1.0, 4), (0.05, 8)):
        known = max(0.0, (score - 1 / choices) / (1 - 1 / choices))
        mistakes = [
            Mistake(
                score - 1 / choices,
                "That is how far the score is above a guess. Who knows all scores 1 and is only "
                "1 - 1 / choices above it: divide by that.",
            ),
            Mistake(
                (score - 1 / choices) / (1 - 1 / choices),
                "Below chance nothing is known: return 0, not a negative share.",
            ),
            Mistake(score * (1 - 1 / choices), "Solve score = known + (1 - known) / choices."),
            Mistake(
                score / (1 + 1 / choices),
                "That guesses on top of every word. Guessed are only those that are not known: "
                "score = known + (1 - known) / choices.",
            ),
            Mistake(float(score), "That is the score itself; some of it is luck."),
        ]
        compare(call(knows, score, choices), known, mistakes, f"knows({score}, {choices})")
    passed("score = known + (1 - known) / choices, solved for what is known.")


def check_both_unseen(both_unseen: Callable) -> None:
    """`both_unseen(plain, colour, shape)`: the share right if both words fail independently.

    Raises:
        CheckFailed: naming the mistake.
    """
    for plain, colour, shape in ((0.8, 0.4, 0.2), (1.0, 0.5, 0.3), (0.64, 0.32, 0.16)):
        mistakes = [
            Mistake(
                colour * shape,
                "That counts what fails with plain words twice: colour and shape each hold the "
                "plain score already. Divide by it once.",
            ),
            Mistake(
                plain * colour * shape,
                "Colour and shape hold the plain score already: take colour / plain and "
                "shape / plain before you multiply by plain.",
            ),
            Mistake(
                colour * shape / plain**2,
                "That is what the words cost, without what fails in any case: multiply by plain.",
            ),
            Mistake(
                min(colour, shape), "The worse word alone does not say how often both come out."
            ),
        ]
        what = f"both_unseen({plain}, {colour}, {shape})"
        compare(call(both_unseen, plain, colour, shape), colour * shape / plain, mistakes, what)
    passed("plain, times each word's own share of it.")
