"""This CPU's prices, from small networks that are trained for a moment.

Not from bare calls: modules, autograd's record of each call and the way back cost twice as much.
Each probe spends most of its time on one thing; what it spends on things already priced is taken
off first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from .counting import ATTENTION, CONVOLUTION, Count, Tracer
from .machines import VIEW_SHARE, Machine
from .timing import seconds

DEPTH = 8  # blocks of a probe
WIDTH, HEADS, SIDE, BATCH = 96, 6, 8, 16


class Residual(nn.Module):
    """x + f(x), as blocks of networks are."""

    def __init__(self, function: Callable[[Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return x + self.function(self.parts, x)


def _small() -> Residual:
    def forward(parts, x: Tensor) -> Tensor:
        a, b = functional.silu(parts[1](parts[0](x))).chunk(2, dim=-1)
        return torch.cat([a * b, b.transpose(0, 1).transpose(0, 1) + 1], dim=-1)

    return Residual(forward, nn.LayerNorm(8), nn.Linear(8, 8))


def _pointwise() -> Residual:
    def forward(parts, x: Tensor) -> Tensor:
        x = functional.silu(parts[0](x)) * 0.5
        return functional.gelu(x + parts[1](x.movedim(1, -1)).movedim(-1, 1))

    return Residual(forward, nn.GroupNorm(8, WIDTH), nn.LayerNorm(WIDTH))


def _convolution() -> Residual:
    return Residual(lambda parts, x: parts[0](x), nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1))


def _attention() -> Residual:
    return Residual(lambda _, x: functional.scaled_dot_product_attention(x, x, x))


PICTURES = (2 * BATCH, WIDTH, SIDE, SIDE)
SMALLER = (2 * BATCH, 2 * WIDTH, SIDE // 2, SIDE // 2)
HEADED = (BATCH, HEADS, SIDE * SIDE // 2, WIDTH // HEADS)


def measure_cpu() -> Machine:
    """This CPU, with as many threads as PyTorch uses here; two seconds."""
    free = Machine("cpu", _memory(), {torch.float32: 1e18}, 1e18, special={ATTENTION: 1e18})
    free = replace(
        free, call=0.0, view=0.0, kernel=0.0, reserved=0.0, workspace=0.0, efficiency=1.0
    )
    call = price_of_a_call()
    cpu = replace(free, call=call, view=VIEW_SHARE * call)
    count, left = _left(cpu, _pointwise, PICTURES)
    cpu = replace(cpu, bandwidth=count.bytes / left)
    cpu = replace(cpu, rates={torch.float32: _product_rate(cpu.bandwidth)})
    special = {CONVOLUTION: 1e18, ATTENTION: 1e18}
    for kind, block, shape in (
        (CONVOLUTION, _convolution, SMALLER),
        (ATTENTION, _attention, HEADED),
    ):
        count, left = _left(replace(cpu, special=special), block, shape)
        special[kind] = count.flops / left
    return replace(cpu, special=special, stream=_stream())


def price_of_a_call(device: str = "cpu") -> float:
    """Seconds of one call that computes, in a network too small for the computing to count."""
    count, took = _probe(_small, (2, 3, 8), device)
    return took / (count.calls + VIEW_SHARE * count.views)


def _left(machine: Machine, block: Callable[[], nn.Module], shape: tuple) -> tuple[Count, float]:
    """A probe, and its seconds beyond those that `machine` knows a price for."""
    count, took = _probe(block, shape)
    return count, max(took - seconds(count, machine).total, 0.5 * took)


def _probe(
    block: Callable[[], nn.Module], shape: tuple, device: str = "cpu"
) -> tuple[Count, float]:
    """One forward and backward pass through `DEPTH` blocks: counted, and timed."""
    with FakeTensorMode():
        network, x = _network(block), torch.empty(shape, requires_grad=True)
        with Tracer() as tracer:
            _pass(network, x)
    count = Count(kernels=dict(tracer.kernels), views=tracer.views)
    network, x = _network(block).to(device), torch.randn(shape, device=device, requires_grad=True)

    def timed() -> None:
        _pass(network, x)
        if device == "cuda":
            torch.cuda.synchronize()

    return count, typical_seconds(timed, now=clock if device == "cpu" else time.perf_counter)


def _network(block: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*(block() for _ in range(DEPTH)))


def _pass(network: nn.Module, x: Tensor) -> None:
    network(x).square().mean().backward()
    x.grad = None
    network.zero_grad(set_to_none=True)


def _product_rate(bandwidth: float) -> float:
    """FLOP/s of a linear layer's three products: its output, and both gradients."""
    x, weights = torch.randn(BATCH * SIDE * SIDE, WIDTH), torch.randn(WIDTH, 4 * WIDTH)
    y = x @ weights

    def products() -> None:
        torch.mm(x, weights), torch.mm(y, weights.T), torch.mm(x.T, y)

    moved = 3 * 4 * (x.numel() + weights.numel() + y.numel())
    took = typical_seconds(products)
    return 3 * 2 * x.numel() * weights.shape[1] / max(took - moved / bandwidth, 0.5 * took)


def _stream() -> float:
    """Bytes/s of an optimiser's step over more weights than a cache holds."""
    weights = nn.Parameter(torch.zeros(2**22))
    weights.grad = torch.zeros_like(weights)
    optimizer = torch.optim.AdamW([weights], fused=True)
    moved = 4 * 7 * weights.numel()  # reads weights, gradient, two moments; writes all but one
    return moved / typical_seconds(optimizer.step)


def clock() -> float:
    """Seconds; where there is one thread, those of its own work: neighbours do not count."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def typical_seconds(
    call: Callable[[], object], repeats: int = 9, now: Callable[[], float] = clock
) -> float:
    """The median of some repeats, each with cold caches.

    In a step of training each block finds its weights, and the processor each piece of code, where
    the whole step before has left them: hardly ever in a cache.
    """
    elsewhere, times = torch.zeros(2**23), []  # 32 MiB
    for _ in range(repeats + 1):
        elsewhere.add_(1)
        start = now()
        call()
        times.append(now() - start)
    return statistics.median(times[1:])  # the first made what is made only once


def _memory() -> float:
    import psutil

    return float(psutil.virtual_memory().total)
