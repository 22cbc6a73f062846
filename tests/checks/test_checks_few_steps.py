"""The checks of the page on few steps take right answers, and know the wrong ones apart."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_fixed_cost, check_student_target


def slope(first, second):
    return (first[1] - second[1]) / (first[0] - second[0])


RIGHT = [
    (check_student_target, lambda x, then, s, t: (x - then) / (s - t)),
    (check_fixed_cost, lambda a, b: a[1] - a[0] * slope(a, b)),
    (check_fixed_cost, lambda a, b: (a[0] * b[1] - b[0] * a[1]) / (a[0] - b[0])),
]
WRONG = [
    (check_student_target, lambda x, then, s, t: (then - x) / (s - t), "forwards"),
    (check_student_target, lambda x, then, s, t: x - then, "over its stride"),
    (check_student_target, lambda x, then, s, t: (x - then) * (s - t), "multiplies"),
    (check_student_target, lambda x, then, s, t: (x - then) / s, "noise level"),
    (check_fixed_cost, slope, "one call costs"),
    (check_fixed_cost, lambda a, b: a[1] / a[0], "shares the fixed cost"),
    (check_fixed_cost, lambda a, b: 0.0, "mean cost"),
    (check_fixed_cost, lambda a, b: a[1] - slope(a, b), "one call. The first"),
    (check_fixed_cost, lambda a, b: a[1] - b[0] * slope(a, b), "second picture's calls"),
]
