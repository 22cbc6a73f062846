"""The checks of the page on skills accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_needed, check_product_of_parts

RIGHT = [
    (check_product_of_parts, lambda right: right.mean(axis=0).prod()),
    (check_product_of_parts, lambda right: float(right.mean(0)[::-1].prod())),
    (check_needed, lambda level, parts: level ** (1 / parts)),
]
WRONG = [
    (check_product_of_parts, lambda right: right.all(axis=1).mean(), "compared with"),
    (check_product_of_parts, lambda right: right.mean(), "mean of the shares"),
    (check_product_of_parts, lambda right: right.mean(axis=0).min(), "worst part"),
    (check_product_of_parts, lambda right: right.mean(axis=1).prod(), "over drawings"),
    (check_product_of_parts, lambda right: right.mean(axis=0).sum(), "sum of the shares"),
    (check_product_of_parts, lambda right: 1 - (1 - right.mean(0)).prod(), "at least one"),
    (check_product_of_parts, lambda right: None, "return"),
    (check_needed, lambda level, parts: level**parts, "other way"),
    (check_needed, lambda level, parts: 1 - (1 - level) / parts, "shares the failures out"),
    (check_needed, lambda level, parts: level / parts, "root"),
    (check_needed, lambda level, parts: level, "less often"),
]
