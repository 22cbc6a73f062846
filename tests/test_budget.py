"""The profile follows VISLM_PROFILE, else the device, and says why."""

import pytest
import torch

from vislm_tutorial.budget import budget, describe, examples, profile, rehearsal, steps


@pytest.mark.parametrize("chosen", ["quick", "full", " FULL "])
def test_the_variable_decides(monkeypatch, chosen):
    monkeypatch.setenv("VISLM_PROFILE", chosen)
    assert profile() == chosen.strip().lower()
    assert budget(quick=1, full=2) == {"quick": 1, "full": 2}[profile()]
    assert "VISLM_PROFILE is set" in describe()


@pytest.mark.parametrize(("has_cuda", "expected"), [(True, "full"), (False, "quick")])
@pytest.mark.parametrize("variable", [None, ""])
def test_without_it_the_device_decides(monkeypatch, variable, has_cuda, expected):
    monkeypatch.delenv("VISLM_PROFILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("VISLM_PROFILE", variable)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert profile() == expected
    assert describe().startswith(f"profile '{expected}'") and "CUDA" in describe()


def test_a_wrong_value_is_named_with_what_was_expected(monkeypatch):
    monkeypatch.setenv("VISLM_PROFILE", "fast")
    with pytest.raises(ValueError, match="VISLM_PROFILE is 'fast'; expected one of quick, full"):
        budget(quick=1, full=2)


def test_a_rehearsal_walks_the_full_profile_with_few_steps_and_examples(monkeypatch):
    monkeypatch.setenv("VISLM_PROFILE", "full")
    monkeypatch.delenv("VISLM_STEPS", raising=False)
    assert not rehearsal()
    assert (steps(100, 20_000), examples(500, 60_000)) == (20_000, 60_000)
    monkeypatch.setenv("VISLM_STEPS", "2")
    assert rehearsal()
    assert (steps(100, 20_000), examples(500, 60_000)) == (2, 64)
    assert (steps(100, 1), examples(500, 10)) == (1, 10)  # never more than without it
    assert budget(quick=1, full=2) == 2


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_a_rehearsal_of_no_steps_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("VISLM_STEPS", wrong)
    with pytest.raises(ValueError, match=f"VISLM_STEPS is '{wrong}'; expected a whole number"):
        steps(1, 2)
