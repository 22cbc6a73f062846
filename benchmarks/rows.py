"""What the benchmarks share whose result is a table of runs: each row is run once and kept.

Rows are stored one by one as they end, so a benchmark that was stopped goes on where it stood, and
two calls of it may run beside each other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from filelock import FileLock

from vislm_tutorial._files import replaced_when_complete, results_to_go_on_with


class Row(Protocol):
    """A run that can be told from all others, before it was run."""

    @property
    def key(self) -> tuple: ...

    @property
    def title(self) -> str: ...


@dataclass(frozen=True)
class Table:
    """The stored rows of a benchmark: a JSON file with a line for each.

    Args:
        path: of the file.
        lock: a file beside the runs, held while a row is stored.
        settings: equal for all rows; a file with others is not gone on with.
        order: the key by which rows are sorted.
        header: what else is stored of all rows.
    """

    path: Path
    lock: Path
    settings: dict
    order: Callable[[dict], tuple]
    header: dict = field(default_factory=dict)

    def rows(self) -> list[dict]:
        """Those that are stored by now. Raises ValueError where the settings differ."""
        return results_to_go_on_with(self.path, self.settings, {"rows": []})["rows"]

    def add(self, row: dict) -> list[dict]:
        """Stores a row; returns all, with those that other processes stored meanwhile."""
        for file in (self.path, self.lock):
            file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.lock):
            stored = results_to_go_on_with(self.path, self.settings, {"rows": []}) | self.header
            stored["rows"] = sorted([*stored["rows"], row], key=self.order)
            with replaced_when_complete(self.path) as temporary:
                temporary.write_text(_as_text(stored), encoding="utf-8")
        return stored["rows"]


def _as_text(stored: dict) -> str:
    """JSON with a line for each row."""
    head = json.dumps({key: value for key, value in stored.items() if key != "rows"}, indent=1)
    rows = ",\n  ".join(json.dumps(row) for row in stored["rows"])
    return f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'


def workers(count: int) -> ProcessPoolExecutor:
    """Processes that compute on one thread each, and may use a GPU, as forked ones could not."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, spawn, _use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def run_all(
    pool: Executor,
    start: Callable[[Row], Future],
    missing: Callable[[list[dict]], Sequence[Row]],
    stored: list[dict],
    keep: Callable[[dict], list[dict]],
    end: float,
) -> list[str]:
    """Runs each missing row once and keeps its record; returns the titles of those that failed.

    Args:
        pool: where `start` submits a row.
        missing: the rows that are not among the stored ones.
        keep: stores a record; returns all that are stored, from which new rows may follow.
        end: of time.monotonic(); no row begins after it.
    """
    rows, begun, running, failed = missing(stored), set(), {}, []
    try:
        while rows or running:
            for row in rows if time.monotonic() < end else ():
                begun.add(row.key)
                running[start(row)] = row
            if not running:
                break
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                row = running.pop(job)
                if error := job.exception():  # the others go on
                    failed.append(row.title)
                    print(f"{row.title} failed: {error!r}", flush=True)
                else:
                    stored = keep(job.result())
            if time.monotonic() > end:
                running = {job: row for job, row in running.items() if not job.cancel()}
            rows = [row for row in missing(stored) if row.key not in begun]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C: what waits does not begin
    return failed


def complete(
    table: Table,
    missing: Callable[[list[dict]], Sequence[Row]],
    run: Callable[..., dict],
    line: Callable[[dict], str],
    options: argparse.Namespace,
    end: float,
) -> None:
    """`run_all` for rows that need nothing of each other: `run(row, options)` gives a record.

    Each is printed by `line` and kept. Raises SystemExit if some failed; the same command, given
    again, runs them again.
    """

    def keep(record: dict) -> list[dict]:
        print(line(record), flush=True)
        return table.add(record)

    pool = workers(options.workers)

    def start(row: Row) -> Future:
        return pool.submit(run, row, options)

    if failed := run_all(pool, start, missing, table.rows(), keep, end):
        raise SystemExit(f"failed: {'; '.join(failed)}. The same command runs them again.")


def device_name() -> str:
    """Of the GPU that runs use, or "CPU"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
