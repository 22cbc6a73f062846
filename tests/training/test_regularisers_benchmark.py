"""benchmarks/regularisers.py: a row that fails, or Ctrl-C, costs that row and no other."""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "regularisers.py"
    spec = importlib.util.spec_from_file_location("regularisers", path)
    module = sys.modules["regularisers"] = importlib.util.module_from_spec(spec)  # for dataclasses
    spec.loader.exec_module(module)
    return module


def run_all(benchmark, names, work, keep=None):
    """What failed and what was stored; one row at a time."""
    rows = [benchmark.Row("group", name, 0, recipe=None) for name in names]
    stored = []

    def store(record: str) -> list[str]:
        stored.append(record)
        return stored

    def missing(stored: list[str]) -> list:
        return [row for row in rows if row.name not in stored]

    with ThreadPoolExecutor(1) as pool:
        keep, end = keep or store, time.monotonic() + 60
        failed = benchmark.run_all(
            pool, lambda row: pool.submit(work, row.name), missing, stored, keep, end
        )
    return failed, stored


def test_a_row_that_fails_leaves_the_others(benchmark, capsys):
    def work(name: str) -> str:
        if name == "bad":
            raise RuntimeError("out of memory")
        return name

    failed, stored = run_all(benchmark, ["a", "bad", "c"], work)
    assert stored == ["a", "c"] and failed == ["bad (seed 0)"]
    assert "bad (seed 0) failed: RuntimeError('out of memory')" in capsys.readouterr().out


def test_what_waits_does_not_begin_after_ctrl_c(benchmark):
    begun = []

    def work(name: str) -> str:
        begun.append(name)
        time.sleep(0.05)
        return name

    def interrupted(record: str) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(benchmark, [str(i) for i in range(40)], work, interrupted)
    assert len(begun) < 20


def test_a_row_is_not_stored_under_other_settings(benchmark, tmp_path):
    path, lock = tmp_path / "results.json", tmp_path / "lock"
    record = {"group": "flips", "name": "none", "seed": 0}
    header = {"settings": {"steps": 800}}
    assert benchmark.merge(path, record, header, lock) == [record]
    with pytest.raises(ValueError, match="steps is 800 there, not 2"):
        benchmark.merge(path, record, {"settings": {"steps": 2}}, lock)
