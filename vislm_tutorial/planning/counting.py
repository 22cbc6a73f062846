"""A counter through which every operation passes that PyTorch hands to a device.

It notes the arithmetic, the bytes that are read and written, and what stays allocated. Under a
`FakeTensorMode` tensors have a shape and a type but no numbers, and nothing is computed.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

PARTS = ("weights", "average", "optimiser", "gradients", "activations")
# How an operation spends its time: copies and sums wait for memory, products for arithmetic.
PRODUCT, CONVOLUTION, ATTENTION, OTHER = "product", "convolution", "attention", "other"


@dataclass(frozen=True)
class Kernel:
    """One kind of call: what it costs, and which numbers it multiplies."""

    kind: str  # PRODUCT, CONVOLUTION, ATTENTION or OTHER
    dtype: torch.dtype  # of the largest input
    flops: int  # a multiplication and an addition are two
    bytes: int  # read and written, each tensor once


@dataclass(frozen=True)
class Count:
    """One step (or one forward pass) on paper."""

    parameters: int = 0  # of the model, frozen ones included
    trainable: int = 0
    memory: dict[str, int] = field(default_factory=dict)  # bytes at the peak, by PARTS
    kernels: dict[Kernel, int] = field(default_factory=dict)  # how often each is called
    views: int = 0  # calls that only look at memory in another way, or reserve some

    @property
    def peak(self) -> int:
        """The most bytes allocated at one time."""
        return sum(self.memory.values())

    @property
    def flops(self) -> int:
        """Of products and convolutions; all else is paid in bytes."""
        return sum(kernel.flops * times for kernel, times in self.kernels.items())

    @property
    def bytes(self) -> int:
        """Read and written by all calls."""
        return sum(kernel.bytes * times for kernel, times in self.kernels.items())

    @property
    def calls(self) -> int:
        """Calls that compute something."""
        return sum(self.kernels.values())


class Tracer(TorchDispatchMode):
    """Inside, every operation is noted as it passes.

    Attributes:
        live: bytes allocated by operations inside and not yet freed.
        kernels, views: as in `Count`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[Kernel] = Counter()
        self.views = 0
        self.live = self.peak = self.gradients = 0
        self.at_peak: dict[str, int] = {}
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run `func` on its fake tensors, and note it."""
        out = func(*args, **(kwargs or {}))
        if func.namespace != "aten":  # a question to the tensor, no call
            return out
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        known = {leaf.untyped_storage()._cdata for leaf in inputs}
        fresh = [leaf for leaf in outputs if leaf.untyped_storage()._cdata not in known]
        for leaf in fresh:
            self._allocate(leaf.untyped_storage())
        if "empty" in func.__name__ or not (fresh or func._schema.is_mutable):
            self.views += 1
        else:
            self.kernels[_kernel(func, args, kwargs or {}, out, inputs, outputs)] += 1
        return out

    def _allocate(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = size
        self.live += size
        weakref.finalize(storage, self._free, key)
        if self.live > self.peak:
            self.peak = self.live
            self.at_peak = {"live": self.live, "gradients": self.gradients}

    def _free(self, key: int) -> None:
        self.live -= self._known.pop(key)


def _kernel(func, args, kwargs, out, inputs: list[Tensor], outputs: list[Tensor]) -> Kernel:
    name = func._overloadpacket.__name__
    formula = flop_registry.get(func._overloadpacket)
    if "scaled_dot_product" in name:
        kind, flops = ATTENTION, _attention_flops(name, args)
    elif formula is None:
        kind, flops = OTHER, 0
    else:
        kind = CONVOLUTION if "convolution" in name else PRODUCT
        flops = int(formula(*args, **kwargs, out_val=out))
    largest = max(inputs or outputs, key=Tensor.numel)
    written = outputs or _written(func, args, kwargs)
    return Kernel(
        kind, largest.dtype, flops, sum(map(size_of, inputs)) + sum(map(size_of, written))
    )


def _written(func, args: tuple, kwargs: dict) -> list[Tensor]:
    """What an operation on lists of tensors, which returns nothing, changes in place."""
    arguments = func._schema.arguments
    changed = [place for place, a in enumerate(arguments) if a.alias_info and a.alias_info.is_write]
    leaves = tree_leaves(
        [args[place] if place < len(args) else kwargs[arguments[place].name] for place in changed]
    )
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _attention_flops(name: str, args: tuple) -> int:
    """Two products forward; backward four, and the first once more because it was not kept."""
    first = 1 if "backward" in name else 0
    query, key, value = (tuple(tensor.shape) for tensor in args[first : first + 3])
    forward = sdpa_flop_count(query, key, value)
    return forward * 5 // 2 if first else forward


def size_of(tensor: Tensor) -> int:
    """Bytes that reading it moves: an expanded tensor is no larger than its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
