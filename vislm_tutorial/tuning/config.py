"""The strategies that a recipe's `tuning` can name, each a frozen dataclass with its `kind`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def _require(config: object, name: str, holds: bool, expected: str) -> None:
    if not holds:
        value = getattr(config, name)
        raise ValueError(f"{type(config).__name__}.{name}={value!r}; expected {expected}.")


@dataclass(frozen=True)
class Full:
    """Every weight of the language model learns."""

    kind: Literal["full"] = "full"


@dataclass(frozen=True)
class TopLayers:
    """The last layers that the states go through learn, as they are."""

    layers: int = 1  # how many, counted from the top
    kind: Literal["top_layers"] = "top_layers"

    def __post_init__(self) -> None:
        _require(self, "layers", self.layers >= 1, "at least 1")


@dataclass(frozen=True)
class Adapters:
    """Small new networks inside each layer learn (Houlsby et al. 2019, arXiv 1902.00751)."""

    bottleneck: int = 16  # width between the adapter's two matrices
    kind: Literal["adapters"] = "adapters"

    def __post_init__(self) -> None:
        _require(self, "bottleneck", self.bottleneck >= 1, "at least 1")


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of some matrices learn (Hu et al. 2021, arXiv 2106.09685, eq. 3)."""

    rank: int = 8  # r in W + (alpha / r) B A
    alpha: float = 16.0  # how strongly the update acts
    dropout: float = 0.0  # on what enters the update
    targets: tuple[str, ...] = ()  # names that the matrices end in; (): queries, keys, values
    kind: Literal["lora"] = "lora"

    def __post_init__(self) -> None:
        _require(self, "rank", self.rank >= 1, "at least 1")
        _require(self, "alpha", self.alpha > 0, "above 0")
        _require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")


@dataclass(frozen=True)
class AdaLoRA:
    """Updates whose ranks fall while they learn, most where they matter least.

    An update is B diag(E) A; the entries of E with the least importance are set to 0 until
    `target_rank` a matrix are left on average (Zhang et al. 2023, arXiv 2303.10512).
    """

    initial_rank: int = 12  # of each matrix in the beginning
    target_rank: int = 4  # what is left on average
    alpha: float = 32.0  # how strongly the update acts: alpha / initial_rank
    dropout: float = 0.0  # on what enters the update
    warmup_fraction: float = 0.15  # of all steps, before the first entry falls
    final_fraction: float = 0.3  # of all steps, after the last one has fallen
    every: int = 1  # steps between two choices of what stays
    orthogonality: float = 0.5  # weight of the term that keeps A's rows and B's columns apart
    targets: tuple[str, ...] = ()  # names that the matrices end in; (): queries, keys, values
    kind: Literal["adalora"] = "adalora"

    def __post_init__(self) -> None:
        _require(self, "target_rank", self.target_rank >= 1, "at least 1")
        higher = self.initial_rank > self.target_rank
        _require(self, "initial_rank", higher, f"above target_rank={self.target_rank}")
        _require(self, "alpha", self.alpha > 0, "above 0")
        _require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("warmup_fraction", "final_fraction"):
            _require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        left = self.warmup_fraction + self.final_fraction < 1
        _require(self, "final_fraction", left, "below 1 together with warmup_fraction")
        _require(self, "every", self.every >= 1, "at least 1")
        _require(self, "orthogonality", self.orthogonality >= 0, "0 or more")


Tuning = Full | TopLayers | Adapters | LoRA | AdaLoRA
