"""What a GPU can be told besides the number format: seven switches, each with its reason.

A switch in `TrainingConfig` is True, False, or None: choose by device. `choose_switches` answers
all of them at once and says why, so that a log tells not only what ran but why it ran so.
(`fused` is read in optim.py, `pin_memory` in loop.py; the others are thrown by `apply_switches`.)
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .config import TrainingConfig
from .precision import Precision

COMPILE_STEPS = 5000  # a run shorter than this ends before compiling has paid for itself
TF32_CAPABILITY = 8  # Ampere brought TF32 together with bf16


@dataclass(frozen=True)
class Switch:
    """One switch as it was set."""

    on: bool
    reason: str  # half a sentence for the log


@dataclass(frozen=True)
class Switches:
    """All but the first, half precision, which has a record of its own: `precision.Precision`."""

    tf32: Switch  # float32 products with 10 bits of mantissa in place of 23
    compile: Switch  # networks traced once, their small operations joined into larger kernels
    checkpointing: Switch  # blocks computed a second time in the backward pass, not remembered
    channels_last: Switch  # kernels of convolutions stored with the channel as fastest index
    fused: Switch  # the optimiser in one kernel
    pin_memory: Switch  # batches in memory that the GPU can copy by itself

    def __str__(self) -> str:
        """One line a switch."""
        return "\n".join(
            f"{name:>13} {'on ' if switch.on else 'off'} {switch.reason}"
            for name, switch in self._named()
        )

    def record(self) -> dict[str, dict[str, bool | str]]:
        """The same as JSON, for run.json."""
        return {name: {"on": s.on, "reason": s.reason} for name, s in self._named()}

    def _named(self) -> Iterator[tuple[str, Switch]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def choose_switches(
    config: TrainingConfig, model: nn.Module, device: torch.device | str, precision: Precision
) -> Switches:
    """Every switch for this model on this device.

    Args:
        device: where the model will train; a CUDA device is asked for its compute capability.
        precision: from `choose_precision`.

    Raises:
        ValueError: for a switch that is asked for where it can do nothing.
    """
    device = torch.device(device)
    return Switches(
        tf32=_tf32(config, device, precision),
        compile=_compile(config, device),
        checkpointing=_checkpointing(config, model),
        channels_last=_channels_last(config, model),
        fused=fused_switch(config, device),
        pin_memory=pin_memory_switch(config, device),
    )


def apply_switches(model: nn.Module, switches: Switches, device: torch.device | str) -> None:
    """Throws those switches that change the model or the process, in the order that they need.

    The model keeps its parameters' names, shapes and values. TF32 is a setting of the process.
    """
    if torch.device(device).type == "cuda":
        _set_tf32(switches.tf32.on)
    if switches.channels_last.on:
        model.to(memory_format=torch.channels_last)
    for network in _checkpointed(model) if switches.checkpointing.on else ():
        network.enable_gradient_checkpointing()
    for network in (list(_networks(model)) or [model]) if switches.compile.on else ():
        network.compile()  # in place: the names of the parameters stay as they are


def fused_switch(config: TrainingConfig, device: torch.device | str) -> Switch:
    """Whether the optimiser runs as one kernel.

    Raises:
        ValueError: when that is asked for on a device for which torch has none.
    """
    kind = torch.device(device).type
    able = kind in ("cpu", "cuda", "mps")
    if config.fused and not able:
        raise ValueError(f"fused=True, but torch has no fused optimiser for {kind}; set None.")
    if config.fused is not None:
        return _as_asked(config.fused)
    if able:
        return Switch(True, "one pass over memory in place of one an operation")
    return Switch(False, f"torch has none for {kind}")


def pin_memory_switch(config: TrainingConfig, device: torch.device | str) -> Switch:
    """Whether the loader puts batches into page-locked memory.

    Raises:
        ValueError: when that is asked for without a GPU.
    """
    kind = torch.device(device).type
    if config.pin_memory and kind != "cuda":
        raise ValueError(
            f"pin_memory=True, but the model is on {kind}: there is no GPU to copy to; set None."
        )
    if config.pin_memory is not None:
        return _as_asked(config.pin_memory)
    if kind == "cuda":
        return Switch(True, "the GPU copies a batch while it computes on the last")
    return Switch(False, f"on {kind} a batch is where it is needed")


def _tf32(config: TrainingConfig, device: torch.device, precision: Precision) -> Switch:
    able = device.type == "cuda" and _capability(device) >= TF32_CAPABILITY
    if config.tf32 and not able:
        raise ValueError(
            f"tf32=True, but {_name(device)} has no TF32 (compute capability {TF32_CAPABILITY}.0 "
            "is the first that has); set None."
        )
    if config.tf32 is not None:
        return _as_asked(config.tf32)
    if not able:
        return Switch(False, f"{_name(device)} has none")
    if config.precision == "fp32":
        return Switch(False, "fp32 was asked for, and TF32 rounds each factor to 10 bits")
    return Switch(True, "for the few products that autocast leaves in float32")


def _compile(config: TrainingConfig, device: torch.device) -> Switch:
    if config.compile is not None:
        return _as_asked(config.compile)
    if device.type != "cuda":
        return Switch(False, f"on {device.type} small operations wait for nothing")
    if config.steps < COMPILE_STEPS:
        return Switch(False, f"{config.steps} steps end before it has paid; {COMPILE_STEPS} may")
    if importlib.util.find_spec("triton") is None:
        return Switch(False, "the package triton, which writes the kernels, is missing")
    return Switch(True, f"a minute at first, repaid over {config.steps} steps")


def _checkpointing(config: TrainingConfig, model: nn.Module) -> Switch:
    if config.checkpointing and not list(_checkpointed(model)):
        raise ValueError(
            "checkpointing=True, but no network of the model can: a UNet or a DiT can; set None."
        )
    if config.checkpointing is not None:
        return _as_asked(config.checkpointing)
    return Switch(False, "it buys memory with time: ask for it when memory runs out")


def _channels_last(config: TrainingConfig, model: nn.Module) -> Switch:
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if config.channels_last and not convolutional:
        raise ValueError("channels_last=True, but the model has no Conv2d; set None.")
    if config.channels_last is not None:
        return _as_asked(config.channels_last)
    if not convolutional:
        return Switch(False, "the model has no convolution")
    # benchmarks/switches.py on an H100: no gain that could be told from the noise.
    return Switch(False, "wide convolutions may gain by it; these U-Nets did not")


def _as_asked(on: bool) -> Switch:
    return Switch(on, "as asked")


def _capability(device: torch.device) -> int:
    return torch.cuda.get_device_capability(device)[0]


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return "compute capability " + ".".join(map(str, torch.cuda.get_device_capability(device)))


def _set_tf32(on: bool) -> None:
    torch.set_float32_matmul_precision("high" if on else "highest")
    with warnings.catch_warnings():
        # Some versions of torch announce a newer way, which breaks whoever still reads the old one.
        warnings.simplefilter("ignore", UserWarning)
        # cuDNN's own default is True: float32 convolutions would be TF32 where nobody asked.
        torch.backends.cudnn.allow_tf32 = on


def _networks(model: nn.Module) -> Iterator[ModelMixin]:
    """The networks that learn. A loss around them is no part of it: it draws random numbers."""
    for module in model.modules():
        if isinstance(module, ModelMixin) and any(p.requires_grad for p in module.parameters()):
            yield module


def _checkpointed(model: nn.Module) -> Iterator[ModelMixin]:
    return (n for n in _networks(model) if n._supports_gradient_checkpointing)
