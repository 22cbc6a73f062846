"""What every notebook of the book owes its reader, checked on the stored files."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from address import SET_UP_METADATA, is_set_up, set_up_cell
from costs import COST_TAG, load, sentence
from pages import ROOT, notebooks, pages

PAGES = notebooks()

# Kept apart so that this file does not itself hold what it looks for.
PACKAGE_HOST = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian)\.(?:org|com|net)\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:root|home|Users|work|tmp)/\w")
OBJECT_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/svg+xml")
PROOF = re.compile(r"\bassert\b|\bassert_\w+\(|\bcheck_\w+\(|NBVAL_CHECK_OUTPUT")


@pytest.fixture(params=PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_book_has_its_pages():
    assert len(PAGES) >= 10, "the chapters on background and practice have ten notebooks"
    assert pages()[0].relative_to(ROOT).as_posix() == "book/index.md"


def test_first_cell_sets_up_colab(notebook):
    first = code_cells(notebook)[0]
    assert is_set_up(first), "the first code cell is tagged set-up"
    assert first.source == set_up_cell(notebook), (
        "the set-up cell is out of date: run `make address`"
    )
    assert first.metadata["mystnb"] == SET_UP_METADATA["mystnb"]
    assert sum(is_set_up(cell) for cell in notebook.cells) == 1


def test_cost_is_the_measured_one(notebook, path):
    lines = [c.source for c in notebook.cells if COST_TAG in c.metadata.get("tags", [])]
    measured = load()[path.relative_to(ROOT).as_posix()]
    assert lines == [sentence(measured)], "run `make run-notebooks ONLY=<this page>`"


def test_stored_file_is_small(path):
    size = path.stat().st_size
    assert size < 1_000_000, f"{size} bytes: show fewer or smaller pictures"


def test_every_cell_was_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1)), "run it whole: `make run-notebooks ONLY=...`"
    for cell in code_cells(notebook):
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        errors = [out.ename for out in cell.outputs if out.output_type == "error"]
        assert allowed or not errors, f"stored error {errors} below:\n{cell.source}"


def test_nothing_of_one_run_is_stored(notebook):
    assert notebook.metadata.language_info.keys() == {"name", "pygments_lexer"}
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    identities = [cell["id"] for cell in notebook.cells]
    assert len(set(identities)) == len(identities)
    for cell in code_cells(notebook):
        shown = json.dumps([out for out in cell.outputs if out.output_type != "display_data"])
        found = OBJECT_ADDRESS.search(shown)
        assert not found, f"{found[0]!r} differs from run to run, below:\n{cell.source}"


def test_names_no_machine_and_no_package_host(path):
    text = path.read_text(encoding="utf-8")
    for pattern in (PACKAGE_HOST, MACHINE_PATH):
        found = pattern.search(text)
        assert not found, f"...{text[max(found.start() - 40, 0) : found.end() + 40]!r}..."


def test_code_fits_the_page(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= 15, f"{len(lines)} lines, 15 fit:\n{cell.source}"
        wide = [line for line in lines if len(line) > 75]
        assert not wide or is_set_up(cell), f"wider than 75 columns: {wide[0]}"


def test_something_is_proved(notebook):
    assert any(PROOF.search(cell.source) for cell in code_cells(notebook)), "no cell asserts"


def test_every_picture_has_words(notebook):
    for cell in code_cells(notebook):
        data = [out.get("data", {}) for out in cell.outputs]
        if any(kind in each for each in data for kind in IMAGE_TYPES):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 4, f"say in mystnb.image.alt what is seen:\n{cell.source}"
        for each in data:
            _images_have_alt("".join(each.get("text/html", "")))
    _images_have_alt(markdown(notebook))


def _images_have_alt(text):
    """HTML and Markdown images in `text` carry words for a reader who cannot see them."""
    for tag in re.findall(r"<img\b[^>]*>", text):
        assert re.search(r"""\balt=["'][^"']+["']""", tag), f"no alt text: {tag[:80]}"
    assert not re.search(r"!\[\s*\]\(", text), "a Markdown image without alt text"


def test_every_exercise_has_a_folded_solution(notebook):
    text = markdown(notebook)
    exercises = set(
        re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::[^\n]*\n)*?:label: (\S+)", text)
    )
    solutions = dict(re.findall(r"\{solution(?:-start)?\} (\S+)\n((?::[^\n]*\n)*)", text))
    assert exercises, "a page ends with an exercise"
    assert exercises == set(solutions)
    for label, options in solutions.items():
        assert ":class: dropdown" in options, f"the solution to {label} lies open"


def test_solutions_that_are_code_are_checked(notebook):
    solution = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "{solution-start}" in cell.source:
            solution = []
        elif cell.cell_type == "markdown" and "{solution-end}" in cell.source:
            code = "\n".join(cell.source for cell in solution)
            assert not code or PROOF.search(code), f"nothing checks this solution:\n{code}"
            solution = None
        elif solution is not None and cell.cell_type == "code":
            assert cell.metadata.get("cellView") == "form", "run `make run-notebooks`: it folds it"
            solution.append(cell)
    assert solution is None, "a solution-start without its solution-end"
