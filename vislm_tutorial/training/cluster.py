"""A run on many GPUs, on paper: bytes for each GPU, time on the links, hours and cost.

First-order arithmetic: it leaves out latencies, stragglers and the loading of data, and it is not
a measurement. Rates and prices are the reader's to fill in. Letters: N parameters, n GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Sharding = Literal["ddp", "fsdp"]
FLOAT32 = 4  # bytes
# What the loop in this package keeps for one parameter: all in float32, in every precision.
STATE = {
    "weights": FLOAT32,
    "gradients": FLOAT32,
    "optimiser": 2 * FLOAT32,  # AdamW's two means
    "averages": FLOAT32,  # EMA
}
FLOPS_A_TOKEN = 6  # for one parameter: 2 forward, 4 backward (Kaplan et al. 2020, section 2.1)
OVERLAP = 2 / 3  # share of the computation that can hide links: the backward pass


def _positive(record: object, *never_zero: str) -> None:
    for field in fields(record):
        value, divides = getattr(record, field.name), field.name in never_zero
        if isinstance(value, (int, float)) and (value < 0 or (divides and not value)):
            raise ValueError(
                f"{type(record).__name__}.{field.name} is {value!r}; "
                f"expected {'above 0' if divides else '0 or more'}."
            )


@dataclass(frozen=True)
class Cluster:
    """Machines of equal GPUs.

    Raises:
        ValueError: for a negative figure, a rate of 0, or a number of GPUs that fills no whole
            machine.
    """

    gpus: int  # n, in all machines together
    flops: float  # FLOP/s of one GPU at best, in the precision of the run
    memory: float  # bytes of one GPU
    gpus_per_node: int = 8  # in one machine
    inside: float = 450e9  # bytes/s from one GPU to the next in a machine (NVLink 4: 450 GB/s)
    between: float = 50e9  # bytes/s a GPU between machines (InfiniBand NDR: 400 Gbit/s)
    utilisation: float = 0.4  # of `flops` that a GPU reaches while it computes (MFU)
    price: float = 0.0  # of one GPU for one hour, in any currency
    watts: float = 0.0  # of one GPU with its part of the machine and of the cooling

    def __post_init__(self) -> None:
        _positive(self, "flops", "utilisation", "inside", "between")
        if self.gpus < 1 or (
            self.gpus > self.gpus_per_node and self.gpus % max(1, self.gpus_per_node)
        ):
            raise ValueError(
                f"gpus is {self.gpus}; expected 1 to {self.gpus_per_node} (one machine), or a "
                f"multiple of {self.gpus_per_node}."
            )

    @property
    def link(self) -> float:
        """Bytes/s of a ring through all GPUs: that of its slowest link."""
        return self.inside if self.gpus <= self.gpus_per_node else self.between


@dataclass(frozen=True)
class Workload:
    """What is to be trained.

    Raises:
        ValueError: for a negative figure, no parameters or tokens, or an empty batch.
    """

    parameters: float  # N, of what learns
    items: float  # pictures (or texts) that the run goes through, repetitions counted
    tokens: float  # positions that every parameter meets, for one item
    batch: int  # items of one step, on all GPUs together
    activations: float = 0.0  # bytes kept for the backward pass, for one item
    micro_batch: int = 0  # items that a GPU takes at a time; 0: its whole part of the batch
    blocks: int = 1  # equal parts that FSDP gathers one after the other
    wire: int = FLOAT32  # bytes of a weight or gradient on a link; the package's loop sends float32

    def __post_init__(self) -> None:
        _positive(self, "parameters", "tokens")
        if self.batch < 1 or self.blocks < 1:
            raise ValueError(
                f"batch is {self.batch} and blocks is {self.blocks}; expected 1 or more of each."
            )


@dataclass(frozen=True)
class Plan:
    """What `plan` finds."""

    memory: dict[str, float]  # bytes on each GPU, by part
    fits: bool
    compute: float  # seconds of a step in which a GPU computes
    links: float  # seconds of a step in which data travel
    step: float  # seconds of a step, with links hidden behind computation where they can be
    steps: float
    hours: float  # of the whole run
    gpu_hours: float
    cost: float  # in the currency of the price
    kilowatt_hours: float

    @property
    def waiting(self) -> float:
        """Share of a step in which GPUs wait for links."""
        return 1 - self.compute / self.step


def ring_gather(size: float, gpus: int, link: float) -> float:
    """Seconds until each of n GPUs holds all of `size` bytes, of which each had one n-th.

    Each sends a part to the next n - 1 times: size (n - 1) / n bytes over each link. Scattering
    sums (reduce-scatter) takes the same.
    """
    return size * (gpus - 1) / gpus / link if gpus > 1 else 0.0


def ring_all_reduce(size: float, gpus: int, link: float) -> float:
    """Seconds until each of n GPUs holds the sum of their `size` bytes: 2 (n - 1) / n size / link.

    A reduce-scatter and then a gather (Patarasuk and Yuan 2009).
    """
    return 2 * ring_gather(size, gpus, link)


def memory(workload: Workload, cluster: Cluster, sharding: Sharding) -> dict[str, float]:
    """Bytes on each GPU by part: those of `STATE`, then "gathered" and "activations".

    DDP keeps all of the state on each GPU, FSDP (ZeRO stage 3, Rajbhandari et al. 2020) one n-th
    of it and, while it computes, the weights of two blocks and the gradients of one. Where a GPU
    takes its part in several micro-batches, FSDP, too, keeps all of the gradients on each GPU: they
    add up unsliced, and are scattered with the last one (`link_seconds`).
    """
    sharding, n = _checked(sharding), cluster.gpus
    share = n if sharding == "fsdp" else 1
    parts = {name: size * workload.parameters / share for name, size in STATE.items()}
    sliced = sharding == "fsdp" and n > 1
    if sliced and _passes(workload, cluster) > 1:
        parts["gradients"] += FLOAT32 * workload.parameters
    block = FLOAT32 * workload.parameters / workload.blocks
    parts["gathered"] = block * (min(2, workload.blocks) + 1) if sliced else 0.0
    parts["activations"] = workload.activations * _micro_batch(workload, cluster)
    return parts


def link_seconds(workload: Workload, cluster: Cluster, sharding: Sharding) -> float:
    """Seconds of one step in which data travel.

    DDP: the gradients are summed once. FSDP: the weights are gathered before each forward and each
    backward pass of each micro-batch, the sums of the gradients scattered once.
    """
    size, n = workload.wire * workload.parameters, cluster.gpus
    if _checked(sharding) == "ddp":
        return ring_all_reduce(size, n, cluster.link)
    return (2 * _passes(workload, cluster) + 1) * ring_gather(size, n, cluster.link)


def plan(workload: Workload, cluster: Cluster, sharding: Sharding = "ddp") -> Plan:
    """Memory, time, cost and energy of a run.

    Raises:
        ValueError: for an unknown way of sharing.
    """
    flops = FLOPS_A_TOKEN * workload.parameters * workload.tokens * workload.batch
    compute = flops / cluster.gpus / (cluster.flops * cluster.utilisation)
    links = link_seconds(workload, cluster, sharding)
    step = compute + max(0.0, links - OVERLAP * compute)
    steps = workload.items / workload.batch
    hours = steps * step / 3600
    parts = memory(workload, cluster, sharding)
    return Plan(
        memory=parts,
        fits=sum(parts.values()) <= cluster.memory,
        compute=compute,
        links=links,
        step=step,
        steps=steps,
        hours=hours,
        gpu_hours=hours * cluster.gpus,
        cost=hours * cluster.gpus * cluster.price,
        kilowatt_hours=hours * cluster.gpus * cluster.watts / 1000,
    )


def _micro_batch(workload: Workload, cluster: Cluster) -> float:
    part = workload.batch / cluster.gpus
    return min(workload.micro_batch, part) if workload.micro_batch else part


def _passes(workload: Workload, cluster: Cluster) -> float:
    """Micro-batches of one step on each GPU."""
    return workload.batch / cluster.gpus / _micro_batch(workload, cluster)


def _checked(sharding: str) -> str:
    if sharding not in ("ddp", "fsdp"):
        raise ValueError(f"sharding is {sharding!r}; expected 'ddp' or 'fsdp'.")
    return sharding
