"""Chapter 4's promise: every numbered equation has a row, every row names what exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from vislm_tutorial import losses

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "book" / "04_mathematics"
TABLE = CHAPTER / "10_every_equation.md"
LABEL = re.compile(r"^\$\$ \(([\w-]+)\)$", re.M)
ROW = re.compile(r"^\| \{eq\}`([\w-]+)` \| (.+?) \|(.*?)\| (.+) \|$", re.M)


def labels(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [name for cell in cells for name in LABEL.findall(cell.source)]


def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall(TABLE.read_text(encoding="utf-8"))


def known_tests() -> set[str]:
    tree = ast.parse((ROOT / "tests" / "test_losses.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_equation_has_one_row_in_the_order_of_the_pages():
    pages = sorted(CHAPTER.glob("*.ipynb"))
    expected = [name for page in pages for name in labels(page)]
    assert len(pages) > 3 and len(expected) > 20
    assert [row[0] for row in rows()] == expected


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_a_row_names_exists(row):
    label, _, function, check = row
    if function.strip():
        assert callable(getattr(losses, function.strip().strip("`")))
    page = re.fullmatch(r"\{doc\}`(\w+)`", check)
    if page:
        assert label in labels(CHAPTER / f"{page[1]}.ipynb")
    else:
        named = re.findall(r"`(\w+)`", check)
        assert named and set(named) <= known_tests()
