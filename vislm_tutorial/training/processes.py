"""The processes of a run: making them known to each other, and stopping all after one step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator


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
