"""Bottleneck adapters: small networks inside each layer (Houlsby et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Adapter(nn.Module):
    """h + W_up gelu(W_down h): a narrow network with a way around it.

    W_up begins at 0, so a new adapter changes nothing. (arXiv 1902.00751, section 2.1.)

    Args:
        width: D of the states.
        bottleneck: between the two matrices; about 2 D bottleneck weights.
    """

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return states + self.up(functional.gelu(self.down(states)))


class Adapted(nn.Module):
    """A linear layer with an adapter behind it, in the place where the layer stood."""

    def __init__(self, base: nn.Linear, bottleneck: int):
        super().__init__()
        self.base = base
        self.adapter = Adapter(base.out_features, bottleneck).to(base.weight.device)

    def forward(self, states: Tensor) -> Tensor:
        """(..., D_in) -> (..., D_out)."""
        return self.adapter(self.base(states))


def insert_adapters(model: nn.Module, names: list[str], bottleneck: int, seed: int = 0) -> None:
    """Put an adapter behind each of the named linear layers, in place.

    Args:
        model: the language model.
        names: full names of its linear layers.
        seed: of the new weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in names:
            parent, _, last = name.rpartition(".")
            holder = model.get_submodule(parent)
            setattr(holder, last, Adapted(getattr(holder, last), bottleneck))
