"""The gate: paired differences with intervals, and who is let through."""

from __future__ import annotations

import math
import random

import pytest

from vislm_tutorial.serving.gate import Rule, compare, decide


def pairs(both: int, lost: int, won: int, neither: int):
    before = [True] * (both + lost) + [False] * (won + neither)
    after = [True] * both + [False] * lost + [True] * won + [False] * neither
    return before, after


def test_the_interval_is_agresti_and_mins():
    found = compare(*pairs(20, 3, 9, 8))
    centre, width = 6 / 42, 1.96 * math.sqrt(13 - 36 / 42) / 42
    assert found.value == 6 / 40 and (found.before, found.after) == (23 / 40, 29 / 40)
    assert found.low == pytest.approx(centre - width) and found.high == pytest.approx(
        centre + width
    )


def test_equal_answers_still_leave_doubt_that_shrinks():
    few, many = compare(*pairs(10, 0, 0, 0)), compare(*pairs(1000, 0, 0, 0))
    assert few.low < -0.1 < many.low < 0 < many.high < 0.1 < few.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = random.Random(0)
    held = 0
    for _ in range(1000):
        before = [rng.random() < 0.6 for _ in range(60)]
        after = [old if rng.random() < 0.7 else rng.random() < 0.9 for old in before]
        found = compare(before, after)
        held += found.low <= 0.3 * (0.9 - 0.6) <= found.high
    assert 930 <= held <= 985


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="2 answers before and 1 after"):
        compare([True, False], [True])
    with pytest.raises(ValueError):
        compare([], [])


@pytest.mark.parametrize(
    ("old", "new", "accepted", "named"),
    [
        ((40, 0, 0, 0), (0, 0, 35, 5), True, "surely better"),
        ((40, 0, 0, 0), (5, 1, 2, 32), False, "not surely better"),
        ((20, 20, 0, 0), (0, 0, 35, 5), False, "may be worse"),
        ((35, 3, 2, 0), (0, 0, 35, 5), False, "may be worse"),
        ((10, 0, 0, 0), (0, 0, 10, 0), False, "only 10 old and 10 new"),
    ],
)
def test_who_is_let_through(old, new, accepted, named):
    verdict = decide(compare(*pairs(*old)), compare(*pairs(*new)))
    assert verdict.accepted is accepted and named in str(verdict)


def test_a_rule_must_make_sense():
    with pytest.raises(ValueError, match="margin=-1"):
        Rule(margin=-1)
    old, new = compare(*pairs(40, 0, 0, 0)), compare(*pairs(0, 0, 12, 28))
    assert decide(old, new).accepted and not decide(old, new, Rule(gain=0.5)).accepted
