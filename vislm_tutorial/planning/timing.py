"""How long what was counted takes on a machine: a roofline, and a price for every call.

Williams, Waterman and Patterson (2009), "Roofline": a kernel takes as long as its arithmetic or its
traffic with memory, whichever is longer. That holds for a GPU, which reads for some threads while
it computes for others; a core of a CPU hardly does, and pays both. Small kernels take longer than
either: somebody has to call them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .counting import Count
from .machines import Machine


@dataclass(frozen=True)
class Seconds:
    """Of one step (or one forward pass)."""

    calls: float  # Python and PyTorch, which call every kernel
    arithmetic: float  # products; on a GPU, of the kernels that are bound by them
    memory: float  # reading and writing; on a GPU, of the kernels that are bound by it
    overlap: bool  # the device works while the host makes further calls

    @property
    def total(self) -> float:
        """From the first call to the last result."""
        device = self.arithmetic + self.memory
        return max(self.calls, device) if self.overlap else self.calls + device

    @property
    def bound(self) -> str:
        """What takes the most: "calls", "arithmetic" or "memory"."""
        return max(("calls", "arithmetic", "memory"), key=lambda name: getattr(self, name))


def seconds(count: Count, machine: Machine) -> Seconds:
    """The time of `count` on `machine`."""
    arithmetic = memory = 0.0
    for kernel, times in count.kernels.items():
        products = kernel.flops / machine.rate(kernel)
        traffic = max(machine.traffic(kernel), machine.kernel)
        if not machine.is_gpu or products > traffic:
            arithmetic += times * products
        if not machine.is_gpu or products <= traffic:
            memory += times * traffic
    calls = count.calls * machine.call + count.views * machine.view
    return Seconds(calls, arithmetic, memory, overlap=machine.is_gpu)
