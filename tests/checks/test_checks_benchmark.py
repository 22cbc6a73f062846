"""The checks of page 8.5 accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

import math

import numpy as np
from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_concept_marks, check_paired_error
from vislm_tutorial.evaluation.scores import PromptResult, measured


def marks(pictures):
    n = len(pictures)
    fractions = [sum(checks) / len(checks) for checks in pictures]
    return sum(map(all, pictures)) / n, sum(fractions) / n


def of_the_package(pictures):
    results = [
        PromptResult("concepts_1", "", tuple(("objects", holds) for holds in checks))
        for checks in pictures
    ]
    return tuple(values.mean() for values in measured("concepts_1", results).values())


def pooled(pictures):
    checks = [holds for picture in pictures for holds in picture]
    return marks(pictures)[0], sum(checks) / len(checks)


def paired(first, second, power=0.5, ddof=0):
    steps = np.array(first, dtype=float) - np.array(second, dtype=float)
    return steps.mean(), (steps.var(ddof=ddof) / len(steps)) ** power


def unpaired(first, second):
    variances = [share * (1 - share) / len(first) for share in (np.mean(first), np.mean(second))]
    return np.mean(first) - np.mean(second), math.sqrt(sum(variances))


def disagreement(first, second):
    return np.mean(np.array(first) != np.array(second)), 0.0


def uncentred(first, second):
    steps = np.array(first, dtype=float) - np.array(second, dtype=float)
    return steps.mean(), math.sqrt((steps**2).mean() / len(steps))


def of(difference, error):
    """An answer that makes something of the right difference, the right error and n."""

    def answer(first, second):
        right, own = paired(first, second)
        return difference(right, len(first)), error(own, len(first))

    return answer


RIGHT = [
    (check_concept_marks, marks),
    (check_concept_marks, of_the_package),
    (check_paired_error, paired),
    (check_paired_error, lambda a, b: paired(a, b, ddof=1)),
]
WRONG = [
    (check_concept_marks, lambda p: (sum(map(any, p)) / len(p), marks(p)[1]), "not `any`"),
    (
        check_concept_marks,
        lambda p: (sum(2 * sum(c) > len(c) for c in p) / len(p), marks(p)[1]),
        "ask `all`",
    ),
    (check_concept_marks, lambda p: (sum(map(all, p)), marks(p)[1]), "how many pictures have"),
    (check_concept_marks, lambda p: marks(p)[::-1], "It comes first"),
    (check_concept_marks, pooled, "all checks together"),
    (check_concept_marks, lambda p: (marks(p)[0], len(p) * marks(p)[1]), "Take their mean"),
    (check_concept_marks, lambda p: (marks(p)[0],) * 2, "fraction is the full mark"),
    (check_concept_marks, lambda p: marks(p)[0], "return two numbers"),
    (check_paired_error, unpaired, "two independent shares"),
    (check_paired_error, lambda a, b: paired(b, a), "sign is turned"),
    (check_paired_error, disagreement, "how often the two disagree"),
    (check_paired_error, of(lambda d, n: d * n, lambda e, n: e), "a number of prompts"),
    (check_paired_error, of(lambda d, n: d, lambda e, n: e * n**0.5), "spread of single prompts"),
    (check_paired_error, lambda a, b: paired(a, b, power=1), "squared error"),
    (check_paired_error, of(lambda d, n: d, lambda e, n: e / n**0.5), "not by its root"),
    (check_paired_error, of(lambda d, n: d, lambda e, n: 2 * e), "twice the error"),
    (check_paired_error, uncentred, "mean difference was not taken out"),
    (check_paired_error, lambda a, b: 0.1, "return two numbers"),
]
