"""The checks of the page on a service accept right answers and name wrong ones."""

from __future__ import annotations

import math

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_inside, check_places, check_retry_after


def fit(timeout, seconds):
    return math.floor(timeout / seconds + 1e-9)


RIGHT = [
    (check_inside, lambda rate, seconds: rate * seconds),
    (check_places, lambda timeout, seconds: max(0, fit(timeout, seconds) - 1)),
    (check_retry_after, lambda waiting, seconds: max(1, math.ceil((waiting + 1) * seconds))),
]
WRONG = [
    (check_inside, lambda rate, seconds: rate / seconds, "holds more requests, not fewer"),
    (check_inside, lambda rate, seconds: seconds / rate, "fill the service"),
    (check_inside, lambda r, s: [3.0, 4.0][r < 1] if r != 3 else 1, "no rounding"),
    (check_inside, lambda r, s: r * s / (1 - r * s), "one special service"),
    (check_places, fit, "drawn eleventh"),
    (check_places, lambda t, s: fit(t, s) - 2, "One too few"),
    (check_places, lambda t, s: fit(t, s) + 1, "subtracted, not added"),
    (check_places, lambda t, s: max(0, math.ceil(t / s) - 1), "Round down first"),
    (check_places, lambda t, s: 9 if t == 10 and s == 1 else t / s - 1, "A place is whole"),
    (check_places, lambda t, s: fit(t, s) - 1, "less than 0 places"),
    (check_places, lambda t, s: max(0, int(t // s) - 1), "almost whole"),
    (check_retry_after, lambda waiting, seconds: (waiting + 1) * seconds, "no whole number"),
    (check_retry_after, lambda w, s: max(1, int((w + 1) * s)), "round up"),
    (check_retry_after, lambda w, s: max(1, math.ceil(w * s)), "takes its time too"),
    (check_retry_after, lambda w, s: math.ceil((w + 1) * s) if w else 0, "storm"),
]
