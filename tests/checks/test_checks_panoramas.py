"""The checks of the page on panoramas accept right answers and tell the known wrong ones apart."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_heading, check_visible_seam


def edge(image):
    return image[..., -1] - image[..., 0]


def steps(image):
    return image[..., 1:] - image[..., :-1]


RIGHT = [
    (check_visible_seam, lambda x: edge(x).abs().mean() / steps(x).abs().mean()),
    (check_heading, lambda column, width: (360 * (column + 0.5) / width + 180) % 360),
]
WRONG = [
    (check_visible_seam, lambda x: edge(x).abs().mean(), "Divide by"),
    (check_visible_seam, lambda x: edge(x).mean().abs() / steps(x).abs().mean(), "cancel"),
    (check_visible_seam, lambda x: edge(x).mean() / steps(x).mean(), "cancel"),
    (check_visible_seam, lambda x: edge(x).abs().sum() / steps(x).abs().sum(), "means"),
    (check_visible_seam, lambda x: steps(x).abs().mean() / edge(x).abs().mean(), "upside down"),
    (check_visible_seam, lambda x: edge(x).square().mean() / steps(x).square().mean(), "squares"),
    (check_heading, lambda c, w: (360 * c / w - 180) % 360, "left edge"),
    (check_heading, lambda c, w: 360 * (c + 0.5) / w, "began at its left edge"),
    (check_heading, lambda c, w: 360 * (c + 0.5) / w - 180, "negative"),
    (check_heading, lambda c, w: (180 - 360 * (c + 0.5) / w) % 360, "turned left"),
    (check_heading, lambda c, w: (360 * c / (w - 1) - 180) % 360, "width - 1"),
]
