"""The checks of page 2.9 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

from math import comb

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)
from scipy.stats import binomtest

from vislm_tutorial.checks import check_sign_test, check_undominated


def counts(a, b):
    pairs = list(zip(a, b, strict=True))
    return sum(x > y for x, y in pairs), sum(x < y for x, y in pairs)


def tail(k, n):
    return sum(comb(n, i) for i in range(k + 1)) / 2**n


def sign_test(a, b):
    first, second = counts(a, b)
    return min(1.0, 2 * tail(min(first, second), first + second))


def by_scipy(a, b):
    first, second = counts(a, b)
    return binomtest(first, first + second).pvalue if first + second else 1.0


def uncapped(a, b):
    first, second = counts(a, b)
    return 2 * tail(min(first, second), first + second)


def larger(a, b):
    return min(1.0, 2 * tail(max(counts(a, b)), sum(counts(a, b))))


def with_ties(a, b):
    return min(1.0, 2 * tail(min(sum(a), sum(b)), len(a)))


def all_prompts(a, b):
    return min(1.0, 2 * tail(min(counts(a, b)), len(a)))


def exactly(a, b):
    first, second = counts(a, b)
    return comb(first + second, first) / 2 ** (first + second)


def zero_for_twins(a, b):
    return sign_test(a, b) if any(counts(a, b)) else 0.0


def undominated(cost, score):
    def beats(p, q):
        as_good = cost[p] <= cost[q] and score[p] >= score[q]
        return as_good and (cost[p] < cost[q] or score[p] > score[q])

    return [q for q in cost if not any(beats(p, q) for p in cost)]


def keeps_ties(cost, score):
    return {q for q in cost if not any(cost[p] < cost[q] and score[p] > score[q] for p in cost)}


def ties_of_cost(cost, score):
    return {q for q in cost if not any(cost[p] < cost[q] and score[p] >= score[q] for p in cost)}


def ties_of_score(cost, score):
    return {q for q in cost if not any(cost[p] <= cost[q] and score[p] > score[q] for p in cost)}


def dear(cost, score):
    return undominated({name: -value for name, value in cost.items()}, score)


def harsh(cost, score):
    def as_good(p, q):
        return p != q and cost[p] <= cost[q] and score[p] >= score[q]

    return {q for q in cost if not any(as_good(p, q) for p in cost)}


RIGHT = [
    (check_sign_test, sign_test),
    (check_sign_test, by_scipy),
    (check_undominated, undominated),
    (check_undominated, lambda c, s: set(undominated(c, s))),
]
WRONG = [
    (check_sign_test, lambda a, b: sign_test(a, b) / 2, "one tail"),
    (check_sign_test, uncapped, "above 1"),
    (check_sign_test, larger, "larger count"),
    (check_sign_test, with_ties, "both agree"),
    (check_sign_test, all_prompts, "n counts all"),
    (check_sign_test, exactly, "exactly this count"),
    (check_sign_test, lambda a, b: 1 - sign_test(a, b), "1 minus"),
    (check_sign_test, zero_for_twins, "so it is 1"),
    (check_undominated, keeps_ties, "c and d are left"),
    (check_undominated, ties_of_cost, "c costs as much"),
    (check_undominated, ties_of_score, "d costs more"),
    (check_undominated, dear, "Dear ones"),
    (check_undominated, lambda c, s: [max(s, key=s.get)], "highest score"),
    (check_undominated, lambda c, s: [min(c, key=c.get)], "Only the cheapest"),
    (check_undominated, lambda c, s: [max(c, key=lambda n: s[n] / c[n])], "Only the cheapest"),
    (check_undominated, lambda c, s: set(c) - set(undominated(c, s)), "dominated ones"),
    (check_undominated, lambda c, s: 3, "expected the names"),
    (check_undominated, harsh, "neither dominates"),
]
