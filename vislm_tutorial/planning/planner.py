"""A recipe on a machine: memory by part, seconds a step, and what to do where it does not fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch._subclasses.fake_tensor import FakeTensorMode

from ..training.config import TrainingConfig
from ..training.precision import Precision, choose_precision
from ..training.recipe import Recipe
from .counting import PARTS, Count
from .machines import GB, Machine, find_machine
from .stages import ENCODING_BATCH, count_encoding, stages, trained
from .timing import Seconds, seconds
from .updates import count_step

LARGE = 64  # items, from which on a step's peak grows in a line with the batch
FILLED = 0.9  # of a GPU's memory: the rest is lost between blocks of different sizes


@dataclass(frozen=True)
class StagePlan:
    """One stage on one machine."""

    name: str
    training: TrainingConfig
    machine: Machine
    precision: Precision
    count: Count  # of one step
    seconds: Seconds  # of one step
    count_of: Callable[[int], Count]  # micro-batch -> one step

    @property
    def room(self) -> float:
        """Bytes that tensors may take."""
        machine = self.machine
        return FILLED * machine.memory - machine.reserved - machine.workspace

    @property
    def fits(self) -> bool:
        """Whether the peak stays within the machine's memory."""
        return self.count.peak <= self.room

    @functools.cached_property
    def largest(self) -> int:
        """The largest micro-batch that fits; 0: not even one item does.

        Memory grows in a line with the batch where activations are most of it, so two large
        batches tell, counted when asked. Few items take more than the line says: at the peak of
        the optimiser's step they do not matter.
        """
        if not self.fits and self.count_of(1).peak > self.room:
            return 0
        batch = max(self.training.batch_size, LARGE)
        peak = self.count_of(batch).peak
        each = (self.count_of(2 * batch).peak - peak) / batch
        return max(0, int(batch + (self.room - peak) / each))

    @property
    def minutes(self) -> float:
        """Of all steps; validation, samples and checkpoints come on top."""
        return self.training.steps * self.seconds.total / 60

    @property
    def advice(self) -> str:
        """What to do, in one sentence."""
        batch, pieces = self.training.batch_size, self.training.gradient_accumulation
        if self.fits:
            return f"fits; up to {self.largest:,} items would"
        if self.largest >= 1:
            more = -(-batch // self.largest) * pieces
            fewer = -(-batch * pieces // more)
            return (
                f"set batch_size to {fewer} and gradient_accumulation to {more} "
                f"(at most {self.largest} items fit)"
            )
        if not self.training.checkpointing:
            return "not even one item fits: set checkpointing, or take a smaller model"
        return "not even one item fits: take a smaller model or a larger GPU"


@dataclass(frozen=True)
class Plan:
    """A recipe on one machine.

    `str(plan)` is a table.
    """

    recipe: Recipe
    machine: Machine
    stages: tuple[StagePlan, ...]
    encoding: Count | None  # `ENCODING_BATCH` captions; None: the encoder learns, nothing is kept

    @property
    def encoding_minutes(self) -> float:
        """All captions through the language model, if no two are the same."""
        if self.encoding is None:
            return 0.0
        passes = self.recipe.data.size / ENCODING_BATCH
        return passes * seconds(self.encoding, self.machine).total / 60

    @property
    def minutes(self) -> float:
        """Of all stages."""
        return self.encoding_minutes + sum(stage.minutes for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether every stage does."""
        return all(stage.fits for stage in self.stages)

    def __str__(self) -> str:
        """The table that `vislm plan` prints."""
        machine = self.machine
        lines = [f"{self.recipe.name} on {machine.name}, {machine.memory / GB:.0f} GB"]
        if self.encoding is not None:
            lines.append(
                f"captions: at most {self.recipe.data.size:,} through {self.recipe.encoder.name}, "
                f"{_clock(self.encoding_minutes)}"
            )
        for stage in self.stages:
            lines += _described(stage)
        return "\n".join([*lines, f"in all {_clock(self.minutes)}"])


def plan(recipe: Recipe, machine: Machine | str, batch_size: int | None = None) -> Plan:
    """What a recipe needs on a machine, counted on fake tensors: nothing is trained.

    Args:
        recipe: from `load_recipe`.
        machine: or its name, as in `find_machine`.
        batch_size: of the last stage, in the place of the recipe's.

    Raises:
        ValueError: for an unknown machine, or a precision that it does not have.
        registry.AssetError: if the language model is not here: its tokenizer is asked.
    """
    machine = find_machine(machine) if isinstance(machine, str) else machine
    if batch_size is not None:
        recipe = replace(recipe, training=replace(recipe.training, batch_size=batch_size))
    planned = tuple(_planned(recipe, name, training, machine) for name, training in trained(recipe))
    encoding = None if recipe.tuning is not None else _counted_encoding(_shape_of(recipe))
    return Plan(recipe, machine, planned, encoding)


def _planned(recipe: Recipe, name: str, training: TrainingConfig, machine: Machine) -> StagePlan:
    kind = "cuda" if machine.is_gpu else "cpu"
    precision = choose_precision(training.precision, kind, machine.capability)
    # The reason is no part of what is counted: an A100 and an H100 share their counts.
    shared = replace(precision, reason=""), machine.is_gpu

    def count_of(batch: int) -> Count:
        return _counted(_shape_of(recipe), name, batch, *shared)

    count = count_of(training.batch_size)
    return StagePlan(name, training, machine, precision, count, seconds(count, machine), count_of)


def _shape_of(recipe: Recipe) -> Recipe:
    """`recipe` without what does not change the count of a step, so that counts are found again."""
    same = {"batch_size": 1, "precision": "auto", "validate_every": 0, "patience": 0}
    names = ("autoencoder_training", "codebook_training", "training")
    trainings = {name: replace(getattr(recipe, name), **same) for name in names}
    return replace(recipe, name="", description="", **trainings)


@functools.lru_cache(maxsize=128)
def _counted(recipe: Recipe, name: str, batch: int, precision: Precision, gpu: bool) -> Count:
    """One step of a stage, traced in a few seconds and then kept."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        stage = next(stage for stage in stages(recipe) if stage.name == name)
        return count_step(*stage.build(batch), stage.training, precision, gpu)


@functools.lru_cache(maxsize=16)
def _counted_encoding(recipe: Recipe) -> Count:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return count_encoding(recipe)


def _described(stage: StagePlan) -> list[str]:
    count, took, training = stage.count, stage.seconds, stage.training
    items = f"{training.batch_size} items"
    if training.gradient_accumulation > 1:
        items = f"{training.gradient_accumulation} x {items}"
    memory = "  ".join(f"{part} {_megabytes(count.memory[part])}" for part in PARTS)
    return [
        f"{stage.name}: {count.trainable / 1e6:.2f} M of {count.parameters / 1e6:.2f} M parameters "
        f"learn, {items} a step",
        f"  {stage.precision.reason}",
        f"  memory  {_megabytes(count.peak)}: {memory}",
        f"  {stage.advice}",
        f"  a step  {count.flops / 1e9:,.1f} GFLOP, {count.bytes / GB:,.2f} GB moved, "
        f"{count.calls:,} calls: {1e3 * took.total:.1f} ms, most of it for {took.bound}",
        f"  {training.steps:,} steps  {_clock(stage.minutes)}",
    ]


def _megabytes(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= 10 * GB else f"{size / 1e6:,.0f} MB"


def _clock(minutes: float) -> str:
    if minutes >= 90:
        return f"{minutes / 60:.1f} h"
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
