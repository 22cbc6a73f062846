"""The processes of a run: making them known to each other, and stopping all after one step."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

_BROKEN = re.compile("gloo|nccl|connection|peer", re.IGNORECASE)  # gloo's errors have no class
_SECONDS_TO_DIE = 3.0  # between a broken connection and the system's word that a process ended


class LostProcessError(RuntimeError):
    """Another process of the run ended, so this one cannot go on."""


def make_accelerator(run_dir: Path, trackers: tuple[str, ...]) -> Accelerator:
    """accelerate's view of the device and of the processes torchrun started.

    Raises:
        RuntimeError: when torchrun's processes cannot work together, rather than let each train
            a model of its own into the same files.
    """
    accelerator = Accelerator(
        # Unless told that the CPU is meant, accelerate leaves CPU processes alone with themselves.
        cpu=not torch.accelerator.is_available(),
        # The Stepper casts and scales itself, the same way on every device: accelerate refuses
        # fp16 on a CPU, where that path is tested.
        mixed_precision="no",
        project_dir=run_dir,
        log_with=list(trackers) or None,
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise RuntimeError(
            f"{started} processes were started, but on {accelerator.device} accelerate sees "
            f"{accelerator.num_processes}. Start one process, or set ACCELERATE_USE_CPU=1."
        )
    return accelerator


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Inside, the first SIGINT or SIGTERM is noted in the list given; a second acts as usual."""
    caught: list[int] = []
    before: dict[int, Any] = {}

    def put_back() -> None:
        for which, handler in before.items():
            signal.signal(which, handler)

    def note(number: int, _frame: object) -> None:
        caught.append(number)
        put_back()

    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for which in (signal.SIGINT, signal.SIGTERM):
            before[which] = signal.signal(which, note)
    try:
        yield caught
    finally:
        put_back()


def agree(accelerator: Accelerator, signalled: bool, late: bool) -> str | None:
    """ "signal", "time" or None: what any process met, the same answer on all of them."""
    if accelerator.num_processes > 1:
        flags = torch.tensor([int(signalled), int(late)], device=accelerator.device)
        signalled, late = accelerator.reduce(flags, "sum").tolist()
    return "signal" if signalled else "time" if late else None


@contextlib.contextmanager
def losses_named(accelerator: Accelerator, run_dir: Path) -> Iterator[None]:
    """Inside, an error that follows from another process's end says which, and how to go on.

    Raises:
        LostProcessError: in the place of what the connection's library said.
    """
    if accelerator.num_processes == 1:
        yield
        return
    here = socket.gethostname()
    # (machine, process id, when it began) by rank: an id alone may be given to another process.
    table = gather_object([(here, os.getpid(), psutil.Process().create_time())])
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.distributed.DistError) or _BROKEN.search(str(error))):
            raise
        mine = accelerator.process_index
        near = {rank: row for rank, row in enumerate(table) if row[0] == here and rank != mine}
        lost = _wait_for_the_dead(near)
        far = sorted({row[0] for row in table} - {here})
        if not lost and not far:
            raise
        who = f"process {', '.join(map(str, lost))}" if lost else f"one on {' or '.join(far)}"
        raise LostProcessError(
            f"process {mine} of {len(table)} stops: {who} of the run ended before its time (its "
            "own error, if it could write one, stands in its output; exit code -9 is a kill, often "
            "for want of memory). Start the same command again: the run goes on from the newest "
            f"checkpoint in {run_dir}. With fewer processes, keep the product batch_size x "
            "gradient_accumulation x processes."
        ) from error


def _wait_for_the_dead(rows: dict[int, tuple[str, int, float]]) -> list[int]:
    """The ranks in `rows` whose process is gone, after a moment in which it may still be going."""
    end = time.monotonic() + _SECONDS_TO_DIE
    while not (gone := [rank for rank, row in rows.items() if not _lives(*row[1:])]):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return gone


def _lives(process_id: int, began: float) -> bool:
    try:
        process = psutil.Process(process_id)
        return process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
