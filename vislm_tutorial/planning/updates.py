"""What one update of the weights costs, counted without making it: `Stepper.update` on paper."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..training.config import TrainingConfig
from ..training.ema import AveragedWeights
from ..training.optim import build_optimizer
from ..training.precision import Precision
from ..training.switches import apply_switches, choose_switches
from .counting import PARTS, Count, Tracer, size_of


def count_step(
    model: nn.Module, batch: Any, config: TrainingConfig, precision: Precision, gpu: bool = False
) -> Count:
    """One update as `Stepper.update` makes it, in its steady state; inside a `FakeTensorMode`.

    The tensors are fake CPU tensors in either case: a PyTorch without CUDA refuses to index those
    of a GPU. What a GPU does otherwise is done here: see `_CudaPolicy`, and `_update`.

    Args:
        model: `forward(batch, generator)` returns a scalar loss.
        batch: one micro-batch.
        config: its optimiser, accumulation, clipping and checkpointing are counted.
        precision: of the products.
        gpu: count what CUDA would be asked to do.
    """
    model.train()
    if config.checkpointing:
        apply_switches(model, choose_switches(config, model, "cpu", precision), "cpu")
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer, average, kept = _prepared(model, learned, config)
    with Tracer() as tracer:
        handles = [p.register_post_accumulate_grad_hook(_noting(tracer)) for p in learned]
        for _ in range(min(config.gradient_accumulation, 2)):
            before = tracer.kernels.copy(), tracer.views
            _micro_batch(model, batch, precision, config, gpu)
        kernels, views = tracer.kernels.copy(), tracer.views
        _update(learned, optimizer, average, config, precision.scaler, gpu)
    for handle in handles:
        handle.remove()
    more = max(0, config.gradient_accumulation - 2)  # micro-batches that are like the last one
    for kernel, times in (kernels - before[0]).items():
        tracer.kernels[kernel] += more * times
    gradients = tracer.at_peak["gradients"]
    activations = tracer.peak - gradients + sum(map(size_of, _tensors(batch)))
    return Count(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in learned),
        memory=dict(zip(PARTS, (_weights(model), *kept, gradients, activations), strict=True)),
        kernels=dict(tracer.kernels),
        views=tracer.views + more * (views - before[1]),
    )


def _prepared(
    model: nn.Module, learned: list[nn.Parameter], config: TrainingConfig
) -> tuple[torch.optim.Optimizer, AveragedWeights, tuple[int, int]]:
    """Optimiser and average as a first update leaves them; bytes of the average and the state."""
    with Tracer() as tracer:
        optimizer = build_optimizer(model, config)
        before = tracer.live
        average = AveragedWeights(model, config.ema_decay)
        kept_average = tracer.live - before
        for parameter in learned:
            parameter.grad = torch.zeros_like(parameter)
        before = tracer.live
        optimizer.step()
        kept_state = tracer.live - before
        optimizer.zero_grad(set_to_none=True)
    return optimizer, average, (kept_average, kept_state)


def count_forward(model: nn.Module, call: Callable[[], Any]) -> Count:
    """A pass without gradients: `call()`, inside a `FakeTensorMode`, with `model`'s weights."""
    with torch.no_grad(), Tracer() as tracer:
        call()
    return Count(
        parameters=sum(p.numel() for p in model.parameters()),
        memory={"weights": _weights(model), "activations": tracer.peak},
        kernels=dict(tracer.kernels),
        views=tracer.views,
    )


def _weights(model: nn.Module) -> int:
    return sum(size_of(tensor) for tensor in (*model.parameters(), *model.buffers()))


def _micro_batch(model, batch, precision: Precision, config: TrainingConfig, gpu: bool) -> None:
    # The way back, on which checkpointed blocks are computed again, does not see the policy: they
    # would come out in another type. They are counted with the CPU's.
    exact = gpu and precision.autocast and not config.checkpointing
    with (
        torch.autocast("cpu", precision.dtype, enabled=precision.autocast),
        _CudaPolicy() if exact else contextlib.nullcontext(),
    ):
        loss = model(batch, torch.Generator())
    loss = loss / config.gradient_accumulation
    (loss * 1.0 if precision.scaler else loss).backward()


def _update(
    parameters, optimizer, average, config: TrainingConfig, scaler: bool, gpu: bool
) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    if scaler:
        torch._foreach_mul_(gradients, 0.5)
    if gpu:  # where one call does for all tensors what takes a call each on a CPU
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if config.max_grad_norm:
            torch._foreach_mul_(gradients, norm)
    else:
        norm = torch.nn.utils.get_total_norm(gradients)
        if config.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, config.max_grad_norm, norm)
    optimizer.step()
    average.step(parameters)
    optimizer.zero_grad(set_to_none=True)


class _CudaPolicy(TorchFunctionMode):
    """CUDA's autocast runs these in float32; the CPU's leaves them in half precision."""

    FLOAT32 = frozenset(
        (functional.layer_norm, functional.group_norm, functional.softmax, torch.softmax)
        + (torch.exp, torch.pow, torch.rsqrt, torch.sum, torch.cumsum, torch.Tensor.pow)
        + (torch.Tensor.exp, torch.Tensor.rsqrt, torch.Tensor.sum, torch.Tensor.softmax)
        + (torch.Tensor.square, torch.square, torch.Tensor.__pow__, functional.mse_loss)
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, on float32 copies if CUDA would."""
        if func in self.FLOAT32:
            args = tuple(_single(argument) for argument in args)
        return func(*args, **(kwargs or {}))


def _single(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def _noting(tracer: Tracer) -> Callable[[Tensor], None]:
    """A hook that adds a parameter's gradient to `tracer` when its first one arrives."""
    seen = set()

    def note(parameter: Tensor) -> None:
        if id(parameter) not in seen:
            seen.add(id(parameter))
            tracer.gradients += size_of(parameter.grad)

    return note


def _tensors(batch: Any) -> list[Tensor]:
    """The tensors of a batch: of a mapping, and of the dataclasses in it."""
    if isinstance(batch, Tensor):
        return [batch]
    values = batch.values() if isinstance(batch, dict) else vars(batch).values()
    return [leaf for value in values if value is not None for leaf in _tensors(value)]
