"""The tested edition's exact versions and the package's floors name the same packages."""

from __future__ import annotations

import re
from importlib.metadata import metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


# What Colab's image had in August 2026: installing there must replace none of these.
COLAB = {
    "accelerate": "1.14",
    "diffusers": "0.39",
    "matplotlib": "3.10",
    "numpy": "2.1",
    "torch": "2.11",
    "transformers": "5.15",
}


def pins():
    """Package name -> exact version in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    parsed = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in parsed}


def declared():
    """Package name -> requirement, from the installed package; its extras included."""
    parsed = [Requirement(text) for text in requires("vislm-tutorial")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def test_every_declared_package_is_pinned_and_no_other():
    assert pins().keys() == declared().keys()


def test_pins_satisfy_the_floors():
    for name, requirement in declared().items():
        assert requirement.specifier.contains(pins()[name]), f"{name}=={pins()[name]}"


def test_base_has_floors_without_caps_and_no_notebook_tools():
    for name, requirement in declared().items():
        if not re.search(r"extra ==", str(requirement.marker or "")):
            operators = {part.operator for part in requirement.specifier}
            assert operators == {">="}, f"{name}: a cap breaks somebody's install"
            assert not re.search(r"jupyter|ipy(kernel|widgets)|^nb|sphinx", name), (
                f"{name} belongs in an extra"
            )


def test_colab_keeps_its_own_versions():
    for name, version in COLAB.items():
        assert declared()[name].specifier.contains(version), f"{name}: Colab has {version}"


def test_runs_on_colabs_python_and_older():
    assert metadata("vislm-tutorial")["Requires-Python"] == ">=3.10"
