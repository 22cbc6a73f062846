"""The checks of the page on searching accept right answers and tell known wrong ones apart."""

from __future__ import annotations

import math
import random
from statistics import mean, median

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_log_uniform, check_prune, check_report


def draw(low, high, n, seed):
    rng = random.Random(seed)
    return [math.exp(rng.uniform(math.log(low), math.log(high))) for _ in range(n)]


def uniform(low, high, n, seed):
    rng = random.Random(seed)
    return [rng.uniform(low, high) for _ in range(n)]


def squared(low, high, n, seed):
    return [value**2 / high for value in draw(low**0.5, high, n, seed)]


def mixed(low, high, n, seed):
    return [10**x for x in uniform(math.log(low), math.log(high), n, seed)]


def prune(value, others, middle=median) -> bool:
    return math.isnan(value) or (bool(others) and value > middle(others))


def report(trials, by="validation", score="test"):
    best = max(trials, key=lambda trial: trial[by])
    return best["name"], best[score]


RIGHT = [(check_log_uniform, draw), (check_prune, prune), (check_report, report)]
WRONG = [
    (check_log_uniform, uniform, "draw the logarithm"),
    (check_log_uniform, mixed, "exp goes with log"),
    (check_log_uniform, lambda low, high, n, s: uniform(-4, 0, n, s), "that is a logarithm"),
    (check_log_uniform, lambda low, high, n, s: draw(low, high, n, s)[1:], "numbers came back"),
    (check_log_uniform, lambda low, high, n, s: draw(low, high, n, 0), "Seeds 0 and 1"),
    (check_log_uniform, lambda low, high, n, s: draw(low, high / 10, n, s), "expected half"),
    (check_prune, lambda value, others: prune(value, others, mean), "Is it the mean"),
    (check_prune, lambda value, others: prune(value, others, min), "keep it"),
    (check_prune, lambda value, others: prune(value, others, max), "worse than"),
    (check_prune, lambda v, others: prune(v, others) or v in others, "not worse"),
    (check_prune, lambda v, others: prune(v, others or [0.0]), "nothing to compare"),
    (check_prune, lambda v, others: bool(others) and v > median(others), "isnan"),
    (check_prune, lambda v, others: prune(v, others[:1] if len(others) == 2 else others), "Of two"),
    (check_report, lambda trials: report(trials, by="test"), "luckiest of three"),
    (check_report, lambda trials: report(trials, score="validation"), "was chosen for"),
    (check_report, lambda trials: (report(trials)[0], 0.75), "another trial's"),
    (check_report, lambda trials: report(trials)[0], "two things"),
]
