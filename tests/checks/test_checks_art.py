"""The checks of the page on styles accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_interpolation, check_two_scales


def guided(n, x, w):
    return n + w * (x - n)


RIGHT = [
    (check_two_scales, lambda n, t, b, w, s: (1 - w) * n + (w - s) * t + s * b),
    (
        check_interpolation,
        lambda n, f, g, a, w: (1 - a) * guided(n, f, w) + a * guided(n, g, w),
    ),
]
WRONG = [
    (check_two_scales, lambda n, t, b, w, s: n + w * (t - n) + s * (b - n), "counts twice"),
    (check_two_scales, lambda n, t, b, w, s: n + s * (t - n) + w * (b - t), "exchanged"),
    (check_two_scales, lambda n, t, b, w, s: w * (t - n) + s * (b - t), "begin somewhere"),
    (check_two_scales, lambda n, t, b, w, s: t + w * (t - n) + s * (b - t), "begin at nothing"),
    (check_interpolation, lambda n, f, g, a, w: guided(n, a * f + (1 - a) * g, w), "other way"),
    (check_interpolation, lambda n, f, g, a, w: w * ((1 - a) * f + a * g - n), "add it"),
    (check_interpolation, lambda n, f, g, a, w: n + w * ((1 - a) * f + a * g), "difference"),
    (check_interpolation, lambda n, f, g, a, w: (1 - a) * f + a * g, "without guidance"),
]
