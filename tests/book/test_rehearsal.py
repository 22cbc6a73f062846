"""A machine without a GPU walks the code of the full profile: two steps in the place of thousands.

What a page asserts of its results cannot hold after two steps, so its kernel leaves assertions out
(PYTHONOPTIMIZE); everything else runs as it would on a GPU's larger budget.
"""

from __future__ import annotations

import re

import nbformat
import pytest
from pages import ROOT
from run_notebooks import execute

PRACTICE = ROOT / "book" / "05_practice"
# Left out for what two steps do not shorten: what 08_what_learns and 13_bigger draw, the trials and
# searches of 10_search, and the processes that 14_scaling starts by twos.
PAGES = ("11_plan.ipynb", "17_keep_learning.ipynb", "18_listing.ipynb")
# Asked last of the page's own kernel.
QUESTION = """
import json
from vislm_tutorial import budget
print(json.dumps([budget.profile(), budget.steps(1, 10**6), budget.rehearsal(), __debug__]))
"""


@pytest.fixture
def rehearsal(monkeypatch):
    monkeypatch.setenv("VISLM_PROFILE", "full")
    monkeypatch.setenv("VISLM_STEPS", "2")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", PAGES)
def test_the_full_profile_starts_on_a_cpu(rehearsal, name):
    page = PRACTICE / name
    notebook = nbformat.read(page, as_version=4)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert re.search(r"\bsteps\(", source) and "budget" in source, "nothing to rehearse"
    notebook.cells.append(nbformat.v4.new_code_cell(QUESTION))
    execute(notebook, page.parent, timeout=300)  # raises at the first cell that fails
    answer = notebook.cells[-1].outputs[0].text
    assert answer.strip() == '["full", 2, true, false]'
