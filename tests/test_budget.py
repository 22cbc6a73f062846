"""The profile follows VISLM_PROFILE, else the device, and says why."""

import pytest
import torch

from vislm_tutorial.budget import budget, describe, profile


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
