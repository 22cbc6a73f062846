"""What a machine can do: the data sheets of GPUs that are not here; this CPU is measured."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

import torch

from .counting import Kernel

GB, TERA, MICRO = 1e9, 1e12, 1e-6
# Seconds of the host for a call. It belongs to the processor that feeds the card, not to the card:
# `probes.price_of_a_call` measured it beside an H100, on a virtual machine with 16 cores. No host
# of another card was measured. All of them get this price, which is then an estimate: Colab's
# hosts, with fewer and older cores, may well be slower.
CALL = 24.4 * MICRO
VIEW_SHARE = 0.25  # of a call's price, for a call that computes nothing
CACHE = 16 * 2**20  # bytes that a call may move and still find in a CPU's cache


@dataclass(frozen=True)
class Machine:
    """A device and the processor that gives it orders.

    The half-precision rates are for dense products with float32 sums. `call` and `view` are the
    price of one call in Python and PyTorch, whatever it computes.
    """

    name: str
    memory: float  # bytes
    rates: dict[torch.dtype, float]  # FLOP/s of products at best
    bandwidth: float  # bytes/s between memory and arithmetic at best
    capability: tuple[int, int] | None = None  # of CUDA; None: a CPU
    special: dict[str, float] = field(default_factory=dict)  # FLOP/s of other kinds that differ
    stream: float = 0.0  # bytes/s of a call that moves more than a cache holds; 0: as bandwidth
    efficiency: float = 0.5  # of the best rates that products of ordinary size reach
    call: float = CALL  # seconds of the host for a call that computes
    view: float = VIEW_SHARE * CALL  # seconds of the host for one that only looks
    kernel: float = 3 * MICRO  # seconds of the device for a kernel with nothing to do
    reserved: float = 0.6 * GB  # bytes that CUDA takes before the first tensor
    workspace: float = 8.5 * 2**20  # bytes that cuBLAS keeps for itself

    @property
    def is_gpu(self) -> bool:
        """Whether calls are handed to a device, and Python goes on meanwhile."""
        return self.capability is not None

    def rate(self, kernel: Kernel) -> float:
        """FLOP/s for a kernel of this kind and number format."""
        best = self.special.get(kernel.kind) or self.rates.get(kernel.dtype)
        return self.efficiency * (best or self.rates[torch.float32])

    def traffic(self, kernel: Kernel) -> float:
        """Seconds in which its tensors are read and written."""
        streams = self.stream and kernel.bytes > CACHE
        return kernel.bytes / (self.stream if streams else self.bandwidth)


def _gpu(name: str, gigabytes: float, capability, single: float, half: float, speed: float, **kw):
    formats = [torch.float16] if capability < (8, 0) else [torch.float16, torch.bfloat16]
    rates = {torch.float32: single * TERA} | dict.fromkeys(formats, half * TERA)
    return Machine(name, gigabytes * GB, rates, speed * GB, capability, **kw)


# Data sheets: memory in GB, TFLOP/s in float32 and in half precision (dense), GB/s.
MACHINES = {
    machine.name: machine
    for machine in (
        _gpu("t4", 16, (7, 5), 8.1, 65, 320),
        _gpu("l4", 24, (8, 9), 30.3, 121, 300),
        _gpu("a100", 40, (8, 0), 19.5, 312, 1555),
        _gpu("a100-80gb", 80, (8, 0), 19.5, 312, 2039),
        _gpu("h100", 80, (9, 0), 67, 989, 3350, workspace=32 * 2**20),
    )
}


def find_machine(name: str) -> Machine:
    """A machine by name.

    Args:
        name: of `MACHINES`; "cpu": this one, measured on the spot, which takes two seconds; "here":
            the GPU of this machine, or else its CPU.

    Raises:
        ValueError: for an unknown name, with the nearest; or for an unknown GPU here.
    """
    if name == "here":
        name = _name_of_this()
    if name == "cpu":
        from .probes import measure_cpu

        return measure_cpu()
    if name in MACHINES:
        return MACHINES[name]
    known = [*MACHINES, "cpu", "here"]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no machine is called {name!r}; expected one of {', '.join(known)}.{hint}")


def _name_of_this() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    full = torch.cuda.get_device_name()
    gigabytes = torch.cuda.get_device_properties(0).total_memory / GB
    words = re.findall(r"\w+", full.lower())  # whole ones: an L40S is no L4
    fitting = [name for name in MACHINES if name.split("-")[0] in words]
    if not fitting:
        raise ValueError(
            f"{full} is not among the machines {', '.join(MACHINES)}; name the nearest of them."
        )
    return min(fitting, key=lambda name: abs(MACHINES[name].memory / GB - gigabytes))
