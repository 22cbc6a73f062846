"""The checks of the page on unseen words take right answers, and know the wrong ones apart."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_both_unseen, check_knows

RIGHT = [
    (check_knows, lambda score, k: max(0.0, (score - 1 / k) / (1 - 1 / k))),
    (check_knows, lambda score, k: max(0.0, (k * score - 1) / (k - 1))),
    (check_both_unseen, lambda plain, colour, shape: colour * shape / plain),
]
WRONG = [
    (check_knows, lambda score, k: score - 1 / k, "above a guess"),
    (check_knows, lambda score, k: (score - 1 / k) / (1 - 1 / k), "negative"),
    (check_knows, lambda score, k: score * (1 - 1 / k), "Solve"),
    (check_knows, lambda score, k: score / (1 + 1 / k), "on top"),
    (check_knows, lambda score, k: score, "luck"),
    (check_both_unseen, lambda plain, colour, shape: colour * shape, "twice"),
    (check_both_unseen, lambda plain, colour, shape: plain * colour * shape, "already"),
    (check_both_unseen, lambda plain, colour, shape: colour * shape / plain**2, "in any case"),
    (check_both_unseen, lambda plain, colour, shape: min(colour, shape), "worse word"),
    (check_both_unseen, lambda plain, colour, shape: None, "return"),
]
