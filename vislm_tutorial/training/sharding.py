"""More than one process: the whole model in each (DDP), or a slice of it in each (FSDP).

Everything above this seam sees whole tensors under the model's own parameter names, so that a
checkpoint can be read by one process, by four, or with the other way of sharing.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from .ema import AveragedWeights, averaged


def local_model(model: nn.Module, accelerator: Accelerator, sharding: str) -> nn.Module:
    """The model whose parameters this process updates: `model` on its device, or slices of it.

    With FSDP it is a copy, and `model` itself stays whole where it is: the one that is validated,
    drawn with and handed back. Sharing among one process leaves nothing to slice.

    Args:
        sharding: "ddp" or "fsdp", as TrainingConfig has it.

    Raises:
        ValueError: when accelerate was launched for FSDP but the configuration says otherwise.
    """
    if sharding == "ddp" and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            "accelerate was launched with a configuration for FSDP, but the training "
            "configuration has sharding='ddp'; set sharding: fsdp in it, or launch with ddp.yaml."
        )
    if sharding == "ddp" or accelerator.num_processes == 1:
        return model.to(accelerator.device).train()
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    sliced = copy.deepcopy(model).train()
    for block in _blocks(sliced):
        fully_shard(block, mesh=mesh)
    fully_shard(sliced, mesh=mesh)
    return sliced.to(accelerator.device)


def parallel_model(local: nn.Module, accelerator: Accelerator) -> nn.Module:
    """What is called in the place of `local`, so that gradients become means over processes."""
    return local if isinstance(local, FSDPModule) else accelerator.prepare_model(local)


def synchronised(
    parallel: nn.Module, accelerator: Accelerator, last: bool
) -> AbstractContextManager[None]:
    """Around a micro-batch: processes exchange gradients once a step, with the last one."""
    if isinstance(parallel, FSDPModule):
        parallel.set_requires_gradient_sync(last)
        return contextlib.nullcontext()
    return contextlib.nullcontext() if last else accelerator.no_sync(parallel)


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process has a slice, gathered; any other is left alone.

    All processes call this together, and in the same order.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def all_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`whole` of each; what was sliced comes back on the CPU.

    In the order of the names: a dictionary filled from a file may have another order in each
    process, and one's slice would be joined to the slice of another tensor.
    """
    ordered = sorted(tensors.items())
    return {k: whole(v).cpu() if isinstance(v, DTensor) else v for k, v in ordered}


def sliced_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's slice of a whole tensor, where `like` is sliced and of the same shape."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    # Each process has the whole one: none needs to send anything (src_data_rank=None).
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


@contextlib.contextmanager
def averaged_whole(
    model: nn.Module, local: nn.Module, ema: AveragedWeights, device: torch.device
) -> Iterator[nn.Module]:
    """Inside, `model` is whole, holds the averaged weights, and is in eval mode.

    All processes enter this together: slices are gathered.
    """
    if local is model:
        with averaged(model, ema):
            yield model
        return
    model.load_state_dict(all_whole(local.state_dict()))
    averages = all_whole(ema.tensors())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in averages:
                parameter.copy_(averages[name])
        yield model.to(device).eval()
    model.to("cpu")  # the device's memory is for the slices


def _blocks(model: nn.Module) -> list[nn.Module]:
    """What is gathered, used and let go as one: the entries of the outermost ModuleLists.

    Entries that share a parameter with the rest stay with the root, as do lists' entries that
    are no more than a list again.
    """
    owners: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    found: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        for child in module.children():
            if not isinstance(child, nn.ModuleList):
                visit(child)
                continue
            for entry in child:
                parameters = list(entry.parameters())
                callable_ = not isinstance(entry, (nn.ModuleList, nn.ModuleDict))
                if callable_ and parameters and all(owners[p] == 1 for p in parameters):
                    found.append(entry)

    visit(model)
    return found
