"""The checks of the page on two sketches accept right answers and name the known mistakes."""

from __future__ import annotations

from functools import cache

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_one_word_apart, check_word_error_rate


def changes(a, b):
    @cache
    def least(i, j):
        if not i or not j:
            return i + j
        exchanged = least(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(exchanged, least(i - 1, j) + 1, least(i, j - 1) + 1)

    return least(len(a), len(b))


def words(said, heard):
    return said.split(), heard.split()


def pairs(a, b):
    return sum(x != y for x, y in zip(*words(a, b), strict=False))


def lengths(a, b):
    return tuple(map(len, words(a, b)))


RIGHT = [
    (check_word_error_rate, lambda a, b: changes(*words(a, b)) / lengths(a, b)[0]),
    (
        check_one_word_apart,
        lambda a, b: (
            [x == y for x, y in zip(*words(a, b), strict=False)].count(False) == 1
            and lengths(a, b)[0] == lengths(a, b)[1]
        ),
    ),
]
WRONG = [
    (check_word_error_rate, lambda a, b: changes(a, b) / len(a), "letters"),
    (check_word_error_rate, lambda a, b: changes(*words(a, b)), "how many changes"),
    (check_word_error_rate, lambda a, b: changes(*words(a, b)) / max(lengths(a, b)), "longer one"),
    (
        check_word_error_rate,
        lambda a, b: changes(*words(a, b)) / max(1, lengths(a, b)[1]),
        "that were heard",
    ),
    (check_word_error_rate, lambda a, b: pairs(a, b) / lengths(a, b)[0], "ends left out"),
    (
        check_word_error_rate,
        lambda a, b: (pairs(a, b) + abs(lengths(a, b)[0] - lengths(a, b)[1])) / lengths(a, b)[0],
        "place by place:",
    ),
    (check_word_error_rate, lambda a, b: 1 - changes(*words(a, b)) / lengths(a, b)[0], "share of"),
    (check_one_word_apart, lambda a, b: pairs(a, b) == 1, "shorter"),
    (
        check_one_word_apart,
        lambda a, b: lengths(a, b)[0] == lengths(a, b)[1] and pairs(a, b) <= 1,
        "no word",
    ),
    (
        check_one_word_apart,
        lambda a, b: a != b and len(set(a.split()) ^ set(b.split())) <= 2,
        "Sets forget",
    ),
    (
        check_one_word_apart,
        lambda a, b: lengths(a, b)[0] == lengths(a, b)[1] and pairs(a, b) >= 1,
        "one only",
    ),
]
