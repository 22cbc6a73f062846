"""Which number format a run computes in, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

BF16_CAPABILITY = 8  # the first CUDA generation (Ampere) that multiplies bf16 in hardware


@dataclass(frozen=True)
class Precision:
    """The format of the matrix products; weights and optimiser stay float32 in every case."""

    dtype: torch.dtype  # of the products inside autocast
    autocast: bool  # whether autocast is on
    scaler: bool  # whether the loss is scaled, to keep small fp16 gradients from becoming 0
    reason: str  # one sentence for the log


def choose_precision(
    requested: str, device: torch.device | str, capability: tuple[int, int] | None = None
) -> Precision:
    """The precision to train in on `device`.

    Capability decides about bf16, not `torch.cuda.is_bf16_supported()`: that says True on older
    cards too (a T4, say), where bf16 is emulated and slow.

    Args:
        requested: "auto", "fp32", "fp16" or "bf16".
        capability: of a CUDA device that is not here; None: ask the device.

    Raises:
        ValueError: for bf16 where hardware lacks it, fp16 on a device with no loss scaling,
            or an unknown name.
    """
    device = torch.device(device)
    if requested not in ("auto", "fp32", "fp16", "bf16"):
        raise ValueError(f"precision is {requested!r}; expected auto, fp32, fp16 or bf16.")
    if requested == "fp32":
        return Precision(torch.float32, False, False, "fp32: as asked")
    if device.type == "cuda":
        return _on_cuda(requested, capability or torch.cuda.get_device_capability(device))
    if requested == "auto":
        return Precision(
            torch.float32, False, False, f"fp32: half precision does not pay off on {device.type}"
        )
    if requested == "bf16":
        raise ValueError(
            f"precision 'bf16' on {device.type}: without bf16 hardware it is emulated, up to 200 "
            "times slower than fp32. Use 'fp32' or 'auto' here, and bf16 on a GPU of compute "
            f"capability {BF16_CAPABILITY}.0 or newer."
        )
    if device.type == "cpu":
        return Precision(
            torch.float16, True, True, "fp16 with loss scaling: as asked; slow on a CPU, for tests"
        )
    raise ValueError(f"precision 'fp16' on {device.type} is not supported; use 'fp32' or 'auto'.")


def _on_cuda(requested: str, capability: tuple[int, int]) -> Precision:
    has_bf16 = capability[0] >= BF16_CAPABILITY
    version = ".".join(map(str, capability))
    if requested == "bf16" and not has_bf16:
        raise ValueError(
            f"precision 'bf16' on a GPU of compute capability {version}: it would be emulated. "
            "Use 'auto' or 'fp16' here."
        )
    if requested == "bf16" or (requested == "auto" and has_bf16):
        return Precision(
            torch.bfloat16, True, False, f"bf16: compute capability {version} has it in hardware"
        )
    why = "as asked" if requested == "fp16" else f"compute capability {version} has no bf16"
    return Precision(torch.float16, True, True, f"fp16 with loss scaling: {why}")


def check_trainable_float32(model: nn.Module) -> None:
    """Refuses a model whose trainable parameters are not float32.

    Half-precision weights lose small updates, and GradScaler cannot unscale their gradients.

    Raises:
        TypeError: naming the first such parameter.
        ValueError: when nothing is trainable.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("the model has no trainable parameter; set requires_grad on some.")
    for name, parameter in trainable:
        if parameter.dtype != torch.float32:
            raise TypeError(
                f"trainable parameter {name!r} is {parameter.dtype}; expected torch.float32. "
                "Call .float() on it: autocast makes the products half precision, not the weights."
            )
