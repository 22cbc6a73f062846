"""The training loop: any module whose `forward(batch, generator)` returns a loss.

Everything random in micro-batch m of step k on process r is seeded from (seed, k, m, r), the
learning rate is a function of k, and the order of the data a function of (seed, k). So a
checkpoint needs no random state, and a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from . import checkpoint as checkpoints
from .checkpoint import Checkpoint
from .config import TrainingConfig
from .data import StepSampler, derive_seed, make_loader, seed_everything
from .optim import learning_rate_at
from .processes import agree, caught_signals, losses_named, make_accelerator
from .runlog import Clock, RunLog, describe_machine, without_nan
from .state import Progress, TrainingResult, check_same_run
from .stepper import Stepper
from .streaming import stream_loader
from .trackers import check_trackers, start_trackers, stop_trackers, track, track_image


def train(
    model: nn.Module,
    dataset: Dataset,
    config: TrainingConfig,
    run_dir: str | Path,
    *,
    collate: Callable[[list], Any] | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    sample: Callable[[nn.Module, Path], None] | None = None,
    resume: bool = True,
    meta: dict[str, Any] | None = None,
    progress: bool | None = None,
) -> TrainingResult:
    """Trains `model`, from the newest whole checkpoint in `run_dir` if there is one.

    On return `model`, in eval mode, holds the averaged weights `run_dir/model.safetensors` has:
    those of the best validation with early stopping (patience > 0), else those of the last step.
    SIGINT and SIGTERM end the call after the step under way, with a checkpoint. Under torchrun
    each process calls this, with a `run_dir` all can read; gradients are averaged, the first
    process writes.

    Args:
        model: `forward(batch, generator)` returns a scalar loss, the mean over the batch;
            `generator` (on the model's device) is for noise. Trainable parameters are float32.
        dataset: map-style; what it draws from the global generators is repeatable too. Or a
            `StreamedImages`, which goes on exactly, and only with the readers (processes times
            workers) that it had.
        validate: model -> {name: number}; the first decides early stopping, lower is better.
            It sees the averaged weights, in eval mode, with the same seed each time.
        sample: draws a grid with the averaged weights and saves it as PNG at the given path.
        resume: False refuses a `run_dir` that already holds a checkpoint.
        meta: JSON values stored with checkpoints and weights (a recipe, say).
        progress: see `runlog.RunLog`.

    Raises:
        ValueError: for a checkpoint of another configuration (or, of a stream, another number of
            readers), or a precision the device lacks.
        FloatingPointError: when the loss or its gradient is not finite.
        LostProcessError: when another process of the run ended.
    """
    streamed = isinstance(dataset, IterableDataset)
    run = _Run(model, config, Path(run_dir), meta or {}, streamed)
    run.restore(resume)
    with run.reporting(progress), caught_signals() as caught, run.losses_named():
        stopped = run.fit(dataset, collate, validate, sample, caught)
        return run.finish(stopped)


class _Run:
    """One call of `train`: a Stepper, and what happens between its steps."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        run_dir: Path,
        meta: dict[str, Any],
        streamed: bool,
    ) -> None:
        self.config, self.run_dir, self.meta, self.streamed = config, run_dir, meta, streamed
        check_trackers(config.trackers)
        self.accelerator = make_accelerator(run_dir, config.trackers)
        self.is_main = self.accelerator.is_main_process
        self.stepper = Stepper(model, config, self.accelerator)
        self.model, self.state, self.saved_step = model, Progress(), -1
        processes = self.accelerator.num_processes
        self.global_batch = config.batch_size * config.gradient_accumulation * processes
        if self.is_main:
            run_dir.mkdir(parents=True, exist_ok=True)
            checkpoints.remove_temporaries(run_dir)
        self.accelerator.wait_for_everyone()

    def restore(self, resume: bool) -> None:
        """Takes up the newest whole checkpoint, if there is one."""
        found = checkpoints.latest(self.run_dir)
        if found and not resume:
            raise ValueError(
                f"resume=False, but {self.run_dir} holds {found.name}; "
                "choose another folder, or delete this one to start again."
            )
        if found:
            saved = checkpoints.load(found)
            check_same_run(saved.meta, self._record(), self.run_dir)
            self.state = Progress(**saved.meta["progress"])
            if saved.step == saved.meta["config"]["steps"] < self.config.steps:
                self.state.extended_at.append(saved.step)
            self.stepper.load(saved.step, saved.tensors, saved.meta["stepper"])
            self.saved_step = saved.step
        self.clock = Clock(self.state.seconds, self.state.training_seconds)

    def fit(self, dataset, collate, validate, sample, caught: list[int]) -> str:
        """All steps that are left; returns why it stopped."""
        config, state = self.config, self.state
        batches = self._batches(dataset, collate) if state.step < config.steps else None
        while state.step < config.steps:
            if config.patience and state.validations_since_best >= config.patience:
                return "early"
            self.stepper.update(state.step, batches)
            state.step += 1
            self.log.step()
            self._after_step(validate, sample)
            if stopped := self._interruption(caught):
                return stopped
        if batches is not None:
            self.stepper.check_final_learning_rate()
        return "done"

    def _batches(self, dataset: Dataset, collate: Callable | None) -> Iterator[Any]:
        config, pieces = self.config, self.config.gradient_accumulation
        pin = self.stepper.switches.pin_memory.on
        if isinstance(dataset, IterableDataset):
            loader = stream_loader(
                dataset,
                config.batch_size,
                rank=self.accelerator.process_index,
                world_size=self._world_size,
                start_batch=self.state.step * pieces,
                collate=collate,
                num_workers=config.num_workers,
                pin_memory=pin,
            )
            return iter(loader)
        sampler = StepSampler(
            len(dataset),
            config.batch_size,
            config.seed,
            start_step=self.state.step * pieces,
            steps=config.steps * pieces,
            rank=self.accelerator.process_index,
            world_size=self._world_size,
        )
        loader = make_loader(
            dataset, sampler, collate=collate, num_workers=config.num_workers, pin_memory=pin
        )
        return iter(loader)

    def _after_step(self, validate: Callable | None, sample: Callable | None) -> None:
        config, step = self.config, self.state.step

        def due(every: int) -> bool:
            return bool(every) and (step % every == 0 or step == config.steps)

        if due(config.log_every):
            self._log_window()
        with self.clock.pause():
            if validate and due(config.validate_every):
                self._validate(validate)
            if sample and due(config.sample_every):
                self._sample(sample)
            if due(config.checkpoint_every):
                self.save()

    def _interruption(self, caught: list[int]) -> str | None:
        step = self.state.step
        if step == self.config.steps or (self._world_size > 1 and step % self.config.log_every):
            return None  # asking the other processes costs time, so not at every step
        late = 0 < self.config.max_minutes * 60 <= self.clock.piece
        return agree(self.accelerator, bool(caught), late)

    def _log_window(self) -> None:
        losses, norms = self.stepper.window()
        step, state = self.state.step, self.state
        sound = self.stepper.check_finite(step, losses, norms)
        state.final_loss = losses[sound].double().mean().item()
        (marked_step, marked), self._mark = self._mark, (step, self.clock.training)
        record = {
            "loss": state.final_loss,
            "lr": learning_rate_at(step - 1, self.config),
            "grad_norm": norms[sound].double().mean().item(),
            "images_per_second": (step - marked_step)
            * self.global_batch
            / (self._mark[1] - marked),
            "minutes": self.clock.total / 60,
        }
        if hasattr(self.model, "log_values"):
            record |= self.model.log_values()
        if self.stepper.precision.scaler:
            record["loss_scale"] = self.stepper.scaler.get_scale()
            record["skipped"] = self.stepper.skipped
        self.stepper.clear_window()
        self._report({name: float(f"{value:.6g}") for name, value in record.items()})

    def _validate(self, validate: Callable) -> None:
        """The first process validates; all hear the result, and stop or go on together."""
        result: list[dict[str, float]] = [{}]
        with self.stepper.averaged() as model:
            if self.is_main:
                seed_everything(derive_seed("validate", self.config.seed))
                result = [{name: float(value) for name, value in validate(model).items()}]
        if self._world_size > 1:
            broadcast_object_list(result)
        values, state = result[0], self.state
        if not values:
            raise ValueError("validate returned no number; expected {name: number, ...}.")
        deciding = next(iter(values.values()))
        if state.best_value is None or deciding < state.best_value:
            state.best_value, state.best_step = deciding, state.step
            state.validations_since_best = 0
            if self.config.patience:
                self._write_weights("best.safetensors")
        else:
            state.validations_since_best += 1
        self._report({f"validation/{name}": value for name, value in values.items()})

    def _sample(self, sample: Callable) -> None:
        path = self.run_dir / "samples" / f"step-{self.state.step:08d}.png"
        with self.stepper.averaged() as model:
            if self.is_main:
                path.parent.mkdir(exist_ok=True)
                seed_everything(derive_seed("sample", self.config.seed))
                sample(model, path)
                track_image(self.accelerator, path, self.state.step)
        self.accelerator.wait_for_everyone()

    def _report(self, values: dict[str, float]) -> None:
        if self.is_main:
            self.log.write(self.state.step, values)
            track(self.accelerator, values, self.state.step)

    @contextlib.contextmanager
    def reporting(self, progress: bool | None) -> Iterator[None]:
        """The log, the progress bar and the trackers are open inside."""
        step = self.state.step
        self._mark = (step, self.clock.training)  # where the images/s of the next line count from
        path = self.run_dir / "log.jsonl" if self.is_main else None
        self.log = RunLog(path, step, self.config.steps, progress)
        settings = {**self._plain_config(), "world_size": self._world_size}
        start_trackers(self.accelerator, self.run_dir, settings, step, self.state.run_id)
        precision = self.stepper.precision
        self.log.say(f"{self.accelerator.device}, {precision.reason}; from step {step}")
        self.log.say(str(self.stepper.switches))
        try:
            yield
        finally:
            self.log.close()
            stop_trackers(self.accelerator)

    def losses_named(self) -> contextlib.AbstractContextManager[None]:
        """See `processes.losses_named`."""
        return losses_named(self.accelerator, self.run_dir)

    def save(self) -> None:
        """A checkpoint of this step, unless there is one. All processes call this together."""
        state = self.state
        if self.saved_step == state.step:
            return
        self.stepper.check_finite(state.step, *self.stepper.window())
        state.seconds, state.training_seconds = self.clock.total, self.clock.training
        self.saved_step = state.step
        tensors = self.stepper.tensors()
        if self.is_main:
            record = {**self._record(), "stepper": self.stepper.record()}
            saved = Checkpoint(state.step, tensors, record)
            checkpoints.save(self.run_dir, saved, self.config.keep_checkpoints)

    def finish(self, stopped: str) -> TrainingResult:
        """Checkpoint, weights and record of the run; the model takes the weights."""
        self.save()
        state, weights = self.state, self.run_dir / "model.safetensors"
        result = TrainingResult(
            step=state.step,
            stopped=stopped,
            final_loss=state.final_loss,
            best_step=state.best_step,
            best_value=state.best_value,
            minutes=state.seconds / 60,
            images_per_second=state.step * self.global_batch / max(state.training_seconds, 1e-9),
            weights=weights,
        )
        best = self.run_dir / "best.safetensors"
        self.accelerator.wait_for_everyone()  # the first may be writing it
        if not (self.config.patience and state.best_step is not None and best.exists()):
            self._write_weights(weights.name)
        elif self.is_main:
            checkpoints.write(weights, *checkpoints.read(best))
        if self.is_main:
            record = dataclasses.asdict(result) | {"weights": weights.name} | self._record()
            record |= {"precision": self.stepper.precision.reason}
            record |= describe_machine(self.accelerator.device)
            record |= {"switches": self.stepper.switches.record()}
            text = json.dumps(without_nan(record), indent=2)
            (self.run_dir / "run.json").write_text(text + "\n", encoding="utf-8")
        self.accelerator.wait_for_everyone()
        self.model.load_state_dict(checkpoints.read(weights)[0])
        self.model.eval()
        return result

    def _write_weights(self, name: str) -> None:
        metadata = {
            "weights": "EMA: averaged over training, not those of one step",
            "step": str(self.state.step),
            "meta": json.dumps(self.meta, sort_keys=True),
        }
        with self.stepper.averaged() as model:
            if self.is_main:
                checkpoints.write(self.run_dir / name, model.state_dict(), metadata)

    def _record(self) -> dict[str, Any]:
        readers = self._world_size * max(1, self.config.num_workers)
        return {
            **({"readers": readers} if self.streamed else {}),
            "config": self._plain_config(),
            "seed": self.config.seed,
            "world_size": self._world_size,
            "progress": dataclasses.asdict(self.state),
            "meta": self.meta,
        }

    def _plain_config(self) -> dict[str, Any]:
        """The configuration as JSON gives it back (tuples as lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self.config)))

    @property
    def _world_size(self) -> int:
        return self.accelerator.num_processes
