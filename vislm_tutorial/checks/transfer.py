"""Checks of page 2.10: how much luck a row of wins needs, and a curve read sideways."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, log

from .report import Mistake, call, compare, passed, require


def check_luck(luck: Callable) -> None:
    """Page 2.10: `luck(wins, n)`: the probability of at least so many wins in n tosses of a coin.

    Raises:
        CheckFailed: naming the mistake.
    """
    for wins, n in ((6, 8), (8, 8), (0, 5), (9, 12)):
        ways = [comb(n, k) for k in range(n + 1)]
        right = sum(ways[wins:]) / 2**n
        mistakes = [
            Mistake(
                ways[wins] / 2**n,
                f"That is *exactly* {wins} of {n}. A result that is better still would have "
                "impressed you, too: at least as many.",
            ),
            Mistake(
                sum(ways[wins + 1 :]) / 2**n,
                f"That is *more than* {wins} of {n}: the result itself was left out.",
            ),
            Mistake(0.5**wins, f"That is {wins} wins in {wins} tosses. There were {n}."),
            Mistake(0.5**n, "That is one order of wins and losses. How many orders are there?"),
            Mistake(
                sum(ways[: wins + 1]) / 2**n, f"That is at *most* {wins} of {n}, the other side."
            ),
            Mistake(1 - right, "That is the probability of fewer wins: one minus the answer."),
            Mistake(
                min(1.0, 2 * right),
                "That is twice the answer: it counts as many *losses*, too. Asked was one side.",
            ),
            Mistake(float(sum(ways[wins:])), f"Those are the ways. There are 2 to the {n} in all."),
            Mistake(wins / n, "That is the share of wins that you saw, not how likely it was."),
        ]
        answer = call(luck, wins, n)
        compare(answer, right, mistakes, f"The probability of {wins} or more of {n}")
    passed("8 of 8 happen to a coin once in 256 times, 6 of 8 or more once in 7.")


def check_pairs_needed(pairs_needed: Callable) -> None:
    """Page 2.10: `pairs_needed(pairs, scores, target)`: where a curve first reaches a score.

    Straight between its points over the logarithm of `pairs`; None if it never does.

    Raises:
        CheckFailed: naming the mistake.
    """
    pairs, scores = [100, 1000, 10_000], [0.1, 0.3, 0.4]
    for target, left, right_end in ((0.2, 0, 1), (0.35, 1, 2), (0.15, 0, 1)):
        n, m, low, high = pairs[left], pairs[right_end], scores[left], scores[right_end]
        share = (target - low) / (high - low)
        mistakes = [
            Mistake(
                n + share * (m - n),
                "Straight over the number of pairs. The curve was drawn over their *logarithm*, "
                "and there half-way from 100 to 1,000 is 316.",
            ),
            Mistake(
                log(n) + share * log(m / n),
                "That is the natural logarithm of the answer: take exp(...) of it.",
            ),
            Mistake(
                log(n, 10) + share * log(m / n, 10),
                "That is the decimal logarithm of the answer: 10 to its power was asked.",
            ),
            Mistake(n * (m / n) ** (1 - share), "The share was counted from the wrong end."),
            Mistake(float(m), "That is the next size that was measured, not where the line is."),
            Mistake(float(n), "That is the size before: there the score is still too low."),
        ]
        shown = f"With scores {scores} at {pairs}, the number of pairs for {target}"
        compare(
            float(call(pairs_needed, pairs, scores, target)),
            n * (m / n) ** share,
            mistakes,
            shown,
        )
    never = call(pairs_needed, pairs, scores, 0.5, may_be_none=True)
    require(
        never is None,
        f"0.5 is above the whole curve, and you answered {never!r}. Nobody has measured where it "
        "goes from there: None.",
    )
    start = call(pairs_needed, pairs, scores, 0.1)
    compare(float(start), 100.0, [], "A curve that begins at 0.1 reaches 0.1 at")
    bumpy = call(pairs_needed, pairs, [0.1, 0.5, 0.4], 0.45)
    compare(
        float(bumpy),
        100 * 10 ** (0.35 / 0.4),
        [
            Mistake(
                1000 * 10**0.5,
                "The curve passes 0.45 twice, on its way up and down. Where does it *first* "
                "reach it?",
            )
        ],
        "With scores [0.1, 0.5, 0.4] the first crossing of 0.45",
    )
    passed("half-way up is half-way in the logarithm, and beyond the last point nothing is known.")
