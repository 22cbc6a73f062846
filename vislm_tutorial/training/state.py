"""Where a run stands, how a call of it ended, and whether two calls belong to one run."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import TrainingConfig

# What may differ between the pieces of a run; the other fields decide what the weights become.
_FREE_FIELDS = {
    *("validate_every", "patience", "sample_every", "checkpoint_every", "keep_checkpoints"),
    *("log_every", "trackers", "num_workers", "max_minutes", "precision"),
    *("tf32", "compile", "checkpointing", "channels_last", "fused", "pin_memory"),
    "sharding",
}
# Of a stream, num_workers decides who reads what: see `_given`.
# How the batch of a step is cut up. Each cut sees the same items in the same steps; the noise is
# drawn anew for each piece, so it is another draw of the same noise.
_CUTS = ("batch_size", "gradient_accumulation", "world_size")


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended."""

    step: int  # updates done, over all pieces
    stopped: str  # "done", "early" (patience), "time" (max_minutes) or "signal"
    final_loss: float  # mean over the last logged window; NaN before the first
    best_step: int | None  # of the best validation; None without one
    best_value: float | None  # its deciding number
    minutes: float  # of all pieces, validation and samples included
    images_per_second: float  # of all pieces, training alone
    weights: Path  # model.safetensors


@dataclass
class Progress:
    """Where a run stands, besides what its Stepper holds; JSON in the checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    validations_since_best: int = 0
    final_loss: float = math.nan
    seconds: float = 0.0  # as runlog.Clock counts them
    training_seconds: float = 0.0
    extended_at: list[int] = field(default_factory=list)  # where it had ended, and was given more
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # one name in the trackers


def check_same_run(before: dict[str, Any], now: dict[str, Any], run_dir: Path) -> None:
    """Refuses to go on with other settings than the run was begun with.

    Args:
        before, now: records with "config" (a TrainingConfig as JSON), "world_size" and, where the
            data are a stream, "readers": processes times workers.

    Raises:
        ValueError: naming the first setting that decides about the weights and differs. Of the
            batch it is the product that decides: batch_size * gradient_accumulation * processes.
            Of a stream it is how many readers there are, and how much each has read.
    """
    # A setting that the checkpoint is older than was, in effect, at its default.
    old = {**vars(TrainingConfig()), **before["config"], "world_size": before["world_size"]}
    new = {**now["config"], "world_size": now["world_size"]}
    for settings in (old, new):
        cuts = [settings.pop(name) for name in _CUTS]
        settings["global_batch"] = math.prod(cuts)
    # Before the way down from the peak, nothing in a step depends on how many there will be; a run
    # that has ended may be given more, and goes on at the rate that the longer one has there.
    flat = {
        "constant": math.inf,
        "trapezoid": min(old["steps"], new["steps"]) - new["decay_steps"],
    }.get(new["schedule"], 0)
    done = before["progress"]["step"]
    longer = done == old["steps"] < new["steps"]
    free = _FREE_FIELDS | ({"steps"} if 0 < done <= flat or flat == math.inf or longer else set())
    for name, value in new.items():
        if name not in free and old.get(name) != value:
            what = " (batch_size x gradient_accumulation x processes)"
            raise ValueError(
                f"{run_dir} was trained with {name}={old.get(name)!r}, now it is {value!r}"
                f"{what if name == 'global_batch' else ''}: this would be neither run. Give the "
                "old value to go on, or another run_dir to start again."
            )
    if now.get("readers"):
        _check_readers(before, now, run_dir)


def _check_readers(before: dict[str, Any], now: dict[str, Any], run_dir: Path) -> None:
    """A stream goes on where each of its readers stood, not where others would stand."""
    step = before["progress"]["step"]
    given = [_given(record, step) for record in (before, now)]
    if given[0] != given[1]:
        sizes = (record["config"]["batch_size"] for record in (before, now))
        old, new = (
            f"{len(part)} reader(s) (processes x workers) and batches of {size}"
            for part, size in zip(given, sizes, strict=True)
        )
        raise ValueError(
            f"{run_dir} was trained on a stream with {old}, now it is {new}: some pictures would "
            "come twice, and others not at all. Give the old numbers to go on, or another run_dir "
            "to start again."
        )


def _given(record: dict[str, Any], step: int) -> list[int]:
    """How many records each reader of a stream has given in `step` updates."""
    config = record["config"]
    workers, batches = max(1, config["num_workers"]), step * config["gradient_accumulation"]
    turns = (batches // workers + (worker < batches % workers) for worker in range(workers))
    return [config["batch_size"] * turn for turn in turns] * record["world_size"]
