"""A check's messages: what is accepted as equal, and how a wrong answer is described."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import vislm_tutorial.checks as checks
from vislm_tutorial.checks.report import CheckFailed, Mistake, call, compare, passed


def test_every_name_has_a_home_and_the_package_starts_without_torch():
    for name in checks.__all__:
        assert callable(getattr(checks, name))
    assert set(checks.__all__) <= set(dir(checks))
    with pytest.raises(AttributeError, match="check_nothing"):
        _ = checks.check_nothing
    code = "import sys, vislm_tutorial.checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (3, 3),
        (torch.tensor(3), 3),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (3, 3.0),
        (torch.tensor(0.1), 0.1),
        (np.inf, float("inf")),
        (1e6 + 1, 1e6),
        ("red", "red"),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        (torch.ones(2, dtype=torch.float64), torch.ones(2)),
    ],
)
def test_accepted_as_equal(answer, right):
    compare(answer, right)


@pytest.mark.parametrize(
    ("answer", "right", "message"),
    [
        (4, 3, r"^The answer is 4; expected 3\.$"),
        (True, 1, "is True; expected 1"),
        (1, True, "is 1; expected True"),
        ("red", 1.0, "is 'red'; expected 1.0"),
        (1.0, float("inf"), "is 1.0; expected inf"),
        (None, float("inf"), "is None; expected inf"),
        (torch.ones(3), 1, "expected 1"),
        (torch.ones(3), torch.ones(2, 3), r"expected a tensor of shape \(2, 3\)"),
        (torch.ones(2, 4), torch.ones(2, 4) + 1e-3, r"a tensor of shape \(2, 4\)"),
        ([1.0], torch.ones(1), r"is \[1\.0\]; expected a tensor"),
    ],
)
def test_not_accepted(answer, right, message):
    with pytest.raises(CheckFailed, match=message):
        compare(answer, right)


def test_a_known_mistake_is_named_and_an_unknown_one_described():
    mistakes = [Mistake(5, "You counted the fence, not the posts.")]
    with pytest.raises(CheckFailed, match="^You counted the fence, not the posts.$"):
        compare(5, 6, mistakes)
    with pytest.raises(CheckFailed, match="^The number is 7; expected 6.$"):
        compare(7, 6, mistakes, "The number")


def test_calls_explain_what_went_wrong():
    def halve(x):
        return x / 2

    def forgets(x):
        x / 2

    assert call(halve, 4) == 2
    assert call(forgets, 4, may_be_none=True) is None
    with pytest.raises(CheckFailed, match=r"^forgets\(4\) returned None. Does it end in `return`"):
        call(forgets, 4)
    with pytest.raises(CheckFailed, match=r"^halve\('a'\) raised TypeError: "):
        call(halve, "a")
    with pytest.raises(CheckFailed, match=r"^Pass the function itself, not 2\.0"):
        call(halve(4), 4)


def test_a_notebook_shows_the_message_without_a_traceback(capsys):
    assert CheckFailed("Divide by n.")._render_traceback_() == ["Not yet. Divide by n."]
    passed("it holds.")
    assert capsys.readouterr().out == "Right: it holds.\n"
