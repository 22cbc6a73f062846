"""One update of the weights, and everything an update changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from .config import TrainingConfig
from .data import derive_seed
from .ema import AveragedWeights
from .optim import build_optimizer, learning_rate_at, load_optimizer_tensors, optimizer_tensors
from .precision import check_trainable_float32, choose_precision
from .sharding import (
    all_whole,
    averaged_whole,
    local_model,
    parallel_model,
    sliced_like,
    synchronised,
    whole,
)
from .switches import apply_switches, choose_switches

_SMALLEST_SCALE = 2.0**-20  # no overflow needs a smaller loss scale: below it the loss is NaN


class Stepper:
    """A model with its optimiser, loss scaler and averaged weights.

    `losses` and `norms` keep loss and gradient norm of each step since the last log line as
    tensors, to be read all at once: reading one number makes the program wait for a GPU.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, accelerator: Accelerator) -> None:
        check_trainable_float32(model)
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        self.precision = choose_precision(config.precision, self.device)
        self.whole = model
        self.model = model = local_model(model, accelerator, config.sharding)
        self.switches = choose_switches(config, self.model, self.device, self.precision)
        apply_switches(self.model, self.switches, self.device)
        self.parallel = parallel_model(model, accelerator)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision.scaler)
        self.ema = AveragedWeights(model, config.ema_decay)
        self.generator = torch.Generator(self.device)
        self.skipped = 0  # updates left out because half-precision gradients overflowed
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    def update(self, step: int, batches: Iterator[Any]) -> None:
        """Update `step` (from 0): forward and backward of each micro-batch, then the weights."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        losses = [self._micro_batch(step, m, batches) for m in range(config.gradient_accumulation)]
        self.losses.append(losses[0] if len(losses) == 1 else torch.stack(losses).sum())
        if self.precision.scaler:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        if config.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, config.max_grad_norm, norm)
        self.norms.append(norm)
        if self._optimizer_step():
            if hasattr(self.model, "after_update"):
                self.model.after_update(step + 1)
            self.ema.step(self.parameters)
        else:
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)

    def _micro_batch(self, step: int, micro: int, batches: Iterator[Any]) -> Tensor:
        """Adds one micro-batch's gradients; returns its share of the step's loss."""
        pieces = self.config.gradient_accumulation
        batch = send_to_device(next(batches), self.device, non_blocking=True)
        seed = derive_seed("step", self.config.seed, step, micro, self.accelerator.process_index)
        torch.manual_seed(seed)  # for dropout, which takes no generator
        self.generator.manual_seed(seed)
        last = micro == pieces - 1
        with synchronised(self.parallel, self.accelerator, last):
            with torch.autocast(
                self.device.type, self.precision.dtype, enabled=self.precision.autocast
            ):
                loss = self.parallel(batch, self.generator)
            if loss.ndim:
                raise ValueError(
                    f"forward returned a loss of shape {tuple(loss.shape)}; expected a scalar, "
                    "the mean over the batch."
                )
            loss = loss / pieces
            self.scaler.scale(loss).backward()
        return loss.detach()

    def _optimizer_step(self) -> bool:
        """Whether the update was made; the scaler leaves it out when gradients overflowed."""
        if not self.precision.scaler:
            self.optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before

    def window(self) -> tuple[Tensor, Tensor]:
        """Losses (meant over processes) and gradient norms since the last line, each (steps,).

        All processes call this together.
        """
        if not self.losses:
            return torch.zeros(0), torch.zeros(0)
        losses = torch.stack(self.losses).float()
        if self.accelerator.num_processes > 1:
            losses = self.accelerator.reduce(losses, "mean")
            self.losses = list(losses)
        return losses.cpu(), torch.stack(self.norms).float().cpu()

    def clear_window(self) -> None:
        """A new line of the log begins."""
        self.losses, self.norms = [], []

    def check_finite(self, done: int, losses: Tensor, norms: Tensor) -> Tensor:
        """Which steps of a window that ends after `done` updates were sound, as bool (steps,).

        Raises:
            FloatingPointError: when one that was not has reached the weights.
        """
        sound = losses.isfinite() & norms.isfinite()
        # The scaler leaves an update with infinite gradients out and tries a smaller scale.
        left_out = self.precision.scaler and self.scaler.get_scale() >= _SMALLEST_SCALE
        if left_out or sound.all():
            return sound
        first = int((~sound).nonzero()[0])
        raise FloatingPointError(
            f"step {done - len(losses) + first + 1}: loss {losses[first]:.4g}, gradient norm "
            f"{norms[first]:.4g}; both must be finite. The last checkpoint is sound: look at the "
            "batch of that step, or start anew with a lower learning_rate or max_grad_norm."
        )

    def check_final_learning_rate(self) -> None:
        """After the last update: a schedule that ran too fast or too slowly is caught here.

        Raises:
            RuntimeError: when the last rate is not the schedule's end.
        """
        config = self.config
        if config.schedule == "constant" or config.steps <= max(config.warmup_steps, 1):
            return  # these end at the peak, or on the way up
        expected = config.learning_rate * config.final_lr_fraction
        for group in self.optimizer.param_groups:
            if abs(group["lr"] - expected) > 1e-6 * config.learning_rate:
                raise RuntimeError(
                    f"the last update had learning rate {group['lr']:.6g}, but the schedule ends "
                    f"at {expected:.6g}: something else changes the optimiser's groups."
                )

    def tensors(self) -> dict[str, Tensor]:
        """All that must come back for the next update to be the same, whole and by name.

        All processes call this together.
        """
        groups = {
            "model": all_whole(self.model.state_dict()),
            "ema": all_whole(self.ema.tensors()),
            "optimizer": all_whole(optimizer_tensors(self.optimizer, self.model)),
        }
        if self.losses:
            groups["window"] = dict(zip(("losses", "norms"), self.window(), strict=True))
        return {f"{group}/{k}": v for group, tensors in groups.items() for k, v in tensors.items()}

    def averaged(self) -> contextlib.AbstractContextManager[nn.Module]:
        """Inside, the whole model with the averaged weights. All processes enter together."""
        return averaged_whole(self.whole, self.model, self.ema, self.device)

    def record(self) -> dict[str, Any]:
        """The same, for what is not a tensor."""
        return {"skipped": self.skipped, "scaler": self.scaler.state_dict()}

    def load(self, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Puts back what `tensors` and `record` gave after `step` updates."""
        groups: dict[str, dict[str, Tensor]] = {"optimizer": {}, "window": {}}
        for key, value in tensors.items():
            group, name = key.split("/", 1)
            groups.setdefault(group, {})[name] = value
        like = self.model.state_dict()
        self.model.load_state_dict({k: sliced_like(v, like[k]) for k, v in groups["model"].items()})
        states = {
            k: sliced_like(v, like[k.rsplit("/", 1)[0]]) for k, v in groups["optimizer"].items()
        }
        load_optimizer_tensors(self.optimizer, self.model, states)
        self.skipped = record["skipped"]
        averages = {k: sliced_like(v, like[k]) for k, v in groups["ema"].items()}
        self.ema.load_tensors(averages, updates=step - self.skipped)
        if self.precision.scaler and record["scaler"]:
            self.scaler.load_state_dict(record["scaler"])
        if groups["window"]:
            self.losses = list(groups["window"]["losses"].to(self.device))
            self.norms = list(groups["window"]["norms"].to(self.device))
