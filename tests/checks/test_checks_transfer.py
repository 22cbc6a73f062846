"""The checks of the page on transfer learning accept right answers and name wrong ones."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from math import comb

import pytest

from vislm_tutorial.checks import CheckFailed, check_luck, check_pairs_needed


def luck(wins, n):
    return sum(comb(n, k) for k in range(wins, n + 1)) / 2**n


def crossing(between, pairs, scores, target):
    """Where the straight line first reaches the target; `between` says what straight means."""
    if scores[0] >= target:
        return pairs[0]
    for (n, low), (m, high) in pairwise(zip(pairs, scores, strict=True)):
        if low < target <= high:
            return between(n, m, (target - low) / (high - low))
    return None


def geometric(n, m, share):
    return n * (m / n) ** share


def pairs_needed(pairs, scores, target):
    return crossing(geometric, pairs, scores, target)


def answer_with(between):
    return lambda *arguments: crossing(between, *arguments)


def test_right_answers_pass_and_say_what_was_verified(capsys):
    check_luck(luck)
    check_luck(lambda wins, n: 1 - sum(comb(n, k) for k in range(wins)) / 2**n)
    check_pairs_needed(pairs_needed)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("Right: ") for line in lines)
    assert f"once in {1 / luck(8, 8):.0f} times" in lines[0]
    assert f"once in {1 / luck(6, 8):.0f}." in lines[0]


WRONG = [
    (check_luck, lambda wins, n: comb(n, wins) / 2**n, "*exactly* 6 of 8"),
    (check_luck, lambda wins, n: luck(wins + 1, n), "the result itself was left out"),
    (check_luck, lambda wins, n: 0.5**wins, "6 wins in 6 tosses"),
    (check_luck, lambda wins, n: 0.5**n, "That is one order"),
    (check_luck, lambda wins, n: luck(n - wins, n), "at *most* 6 of 8"),
    (check_luck, lambda wins, n: 1 - luck(wins, n), "fewer wins"),
    (check_luck, lambda wins, n: min(1.0, 2 * luck(wins, n)), "Asked was one side"),
    (check_luck, lambda wins, n: luck(wins, n) * 2**n, "Those are the ways"),
    (check_luck, lambda wins, n: wins / n, "the share of wins"),
    (check_luck, lambda wins, n: None, "Does it end in `return`"),
    (check_pairs_needed, answer_with(lambda n, m, s: n + s * (m - n)), "their *logarithm*"),
    (
        check_pairs_needed,
        answer_with(lambda n, m, s: math.log(geometric(n, m, s))),
        "natural logarithm of the answer",
    ),
    (
        check_pairs_needed,
        answer_with(lambda n, m, s: math.log10(geometric(n, m, s))),
        "decimal logarithm of the answer",
    ),
    (check_pairs_needed, answer_with(lambda n, m, s: m), "the next size that was measured"),
    (check_pairs_needed, answer_with(lambda n, m, s: n), "still too low"),
    (
        check_pairs_needed,
        lambda p, s, t: pairs_needed(p, s, t) or p[-1],
        "above the whole curve, and you answered 10000",
    ),
    (
        check_pairs_needed,
        lambda p, s, t: (
            geometric(1000, 10_000, 0.5) if s == [0.1, 0.5, 0.4] else pairs_needed(p, s, t)
        ),
        "Where does it *first*",
    ),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    with pytest.raises(CheckFailed, match=re.escape(message)):
        check(answer)
