"""What every module of exercise checks is tested for; it says RIGHT and WRONG and imports these.

RIGHT = [(check, an answer it must accept), ...]
WRONG = [(check, an answer with a known mistake, words by which that mistake is named), ...]
"""

from __future__ import annotations

import re

import pytest

from vislm_tutorial.checks import CheckFailed


def pytest_generate_tests(metafunc):
    """The cases are those of the module that imports these."""
    if "right_answer" in metafunc.fixturenames:
        metafunc.parametrize(("check", "right_answer"), metafunc.module.RIGHT)
    if "wrong_answer" in metafunc.fixturenames:
        metafunc.parametrize(("check", "wrong_answer", "named"), metafunc.module.WRONG)


def test_right_answers_pass(check, right_answer, capsys):
    check(right_answer)
    assert re.fullmatch("Right: .+\n", capsys.readouterr().out)


def test_wrong_answers_are_told_their_mistake(check, wrong_answer, named):
    with pytest.raises(CheckFailed, match=re.escape(named)):
        check(wrong_answer)


def test_every_check_is_tested_both_ways(request):
    module = request.module
    assert {check for check, *_ in module.WRONG} == {check for check, _ in module.RIGHT}
