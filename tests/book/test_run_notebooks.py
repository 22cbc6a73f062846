"""Running a notebook stores its outputs, its cost, and nothing that changes from run to run."""

from __future__ import annotations

import nbformat
import pytest
from costs import COST_TAG, load, sentence, spoken_time
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run_notebooks import run


def write(folder, *cells):
    path = folder / "page.ipynb"
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def test_outputs_and_cost_are_stored_and_a_second_run_changes_nothing_else(tmp_path):
    path = write(
        tmp_path,
        new_markdown_cell("*(not measured)*", metadata={"tags": [COST_TAG]}),
        new_code_cell("data = bytearray(200_000_000)\nprint(6 * 7)"),
        new_markdown_cell("```{solution-start} ex-a\n```"),
        new_code_cell("answer = 42"),
        new_markdown_cell("```{solution-end}\n```"),
        new_code_cell("assert answer == 42"),
    )
    cost = run(path, "quick", root=tmp_path)

    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "42\n"
    assert [stored.cells[i].execution_count for i in (1, 3, 5)] == [1, 2, 3]
    assert stored.cells[3].metadata.cellView == "form"
    assert "cellView" not in stored.cells[5].metadata
    assert len(stored.cells) == 6, "the probe for peak memory must not be stored"
    assert all("execution" not in cell.metadata for cell in stored.cells)

    assert load(tmp_path) == {"page.ipynb": {"quick": cost}}
    assert stored.cells[0].source == sentence({"quick": cost})
    assert 0.2 < cost["peak_gb"] < 2, "the page held 0.2 GB"
    assert 0 < cost["seconds"] < 60

    run(path, "quick", root=tmp_path)
    again = nbformat.read(path, as_version=4)
    assert again.cells[1:] == stored.cells[1:]  # the cost in cell 0 is measured anew
    assert again.metadata == stored.metadata


def test_check_writes_nothing_and_a_failing_page_is_not_stored(tmp_path):
    path = write(tmp_path, new_code_cell("print('fine')"))
    before = path.read_bytes()
    run(path, "quick", check=True, root=tmp_path)
    assert path.read_bytes() == before and load(tmp_path) == {}

    path = write(tmp_path, new_code_cell("print(1)"), new_code_cell("assert 1 == 2, 'not so'"))
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="not so"):
        run(path, "quick", root=tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (6.4, "7 s"),
        (10, "10 s"),
        (10.1, "15 s"),
        (58, "1 min"),
        (61, "1 min 10 s"),
        (119, "2 min"),
        (3601, "60 min 10 s"),
    ],
)
def test_times_are_rounded_up(seconds, words):
    assert spoken_time(seconds) == words


def test_sentence_puts_quick_first_and_names_the_devices():
    cost = {"seconds": 41, "peak_gb": 1.21, "device": "2 CPU cores"}
    full = {"seconds": 95, "peak_gb": 6.0, "device": "NVIDIA T4"}
    assert sentence({"full": full, "quick": cost}) == (
        "*This page ran in 45 s and 1.3 GB on 2 CPU cores (quick); "
        "in 1 min 40 s and 6.0 GB on NVIDIA T4 (full).*"
    )
