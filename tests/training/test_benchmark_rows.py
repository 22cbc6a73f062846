"""benchmarks/rows.py: a row that fails, or Ctrl-C, costs that row and no other."""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    title: str

    @property
    def key(self) -> tuple:
        return (self.title,)


@pytest.fixture(scope="module")
def rows():
    spec = importlib.util.spec_from_file_location("rows", ROOT / "benchmarks" / "rows.py")
    module = sys.modules["rows"] = importlib.util.module_from_spec(spec)  # for dataclasses
    spec.loader.exec_module(module)
    yield module
    del sys.modules["rows"]


@pytest.fixture
def table(rows, tmp_path):
    def of(**settings):
        path, lock = tmp_path / "results.json", tmp_path / "runs" / "lock"
        return rows.Table(path, lock, settings, order=lambda r: r["name"], header={"by": "me"})

    return of


def run_all(rows, titles, work, keep=None):
    """What failed and what was stored; one row at a time."""
    asked, stored = [Row(title) for title in titles], []

    def store(record: str) -> list[str]:
        stored.append(record)
        return stored

    def missing(stored: list[str]) -> list:
        return [row for row in asked if row.title not in stored]

    with ThreadPoolExecutor(1) as pool:
        keep, end = keep or store, time.monotonic() + 60
        failed = rows.run_all(
            pool, lambda row: pool.submit(work, row.title), missing, stored, keep, end
        )
    return failed, stored


def test_a_row_that_fails_leaves_the_others(rows, capsys):
    def work(title: str) -> str:
        if title == "bad":
            raise RuntimeError("out of memory")
        return title

    failed, stored = run_all(rows, ["a", "bad", "c"], work)
    assert stored == ["a", "c"] and failed == ["bad"]
    assert "bad failed: RuntimeError('out of memory')" in capsys.readouterr().out


def test_what_waits_does_not_begin_after_ctrl_c(rows):
    begun = []

    def work(title: str) -> str:
        begun.append(title)
        time.sleep(0.05)
        return title

    def interrupted(record: str) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(rows, [str(i) for i in range(40)], work, interrupted)
    assert len(begun) < 20


def test_rows_are_kept_in_order_a_line_each_with_what_others_stored(table):
    first, second = {"name": "b", "loss": 0.5}, {"name": "a", "loss": None}
    assert table(steps=2).rows() == []
    assert table(steps=2).add(first) == [first]
    assert table(steps=2).add(second) == [second, first] == table(steps=2).rows()
    text = table(steps=2).path.read_text()
    assert '  {"name": "a", "loss": null},\n' in text and '"by": "me"' in text


def test_a_row_is_not_stored_under_other_settings(table):
    table(steps=800).add({"name": "none"})
    for call in (table(steps=2).rows, lambda: table(steps=2).add({"name": "none"})):
        with pytest.raises(ValueError, match="steps is 800 there, not 2"):
            call()
    assert table(steps=800).rows() == [{"name": "none"}]
