"""A model small enough to train in a test, with every kind of randomness a real one has.

Run as a script it is one process of a run that a test kills, resumes or runs in parallel.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.loop import train

WIDTH = 4


class Points(Dataset):
    """Rows x (4,) with target sum(x); `jitter` adds noise from the global generator."""

    def __init__(self, n: int = 24, jitter: float = 0.0) -> None:
        self.x = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1))
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        return x + self.jitter * torch.randn(WIDTH), x.sum()


class Toy(nn.Module):
    """A two-layer regressor. `before_step[k]` is called in the k-th forward pass of its life."""

    def __init__(self, dropout: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(WIDTH, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 1)
        )
        self.noise = noise
        self.passes = 0
        self.before_step: dict = {}

    def forward(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        x, target = batch
        self.passes += 1
        scale = self.before_step.get(self.passes, lambda: 1.0)()
        x = x + self.noise * torch.randn(x.shape, generator=generator)
        return (self.net(x)[:, 0].float() - target).square().mean() * scale


def error(model: Toy) -> dict[str, float]:
    """The validation: mean squared error on the clean points."""
    x = Points().x
    return {"mse": (model.net(x)[:, 0] - x.sum(dim=1)).square().mean().item()}


def die() -> float:
    """Ends the process as the system would, with no chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def random_toy() -> Toy:
    """With dropout and noise: equal only if all randomness is."""
    return Toy(dropout=0.3, noise=0.2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("config", help="TrainingConfig fields as JSON")
    parser.add_argument("--die-in-pass", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="no randomness but the data's order")
    arguments = parser.parse_args()
    model = Toy() if arguments.plain else random_toy()
    model.before_step[arguments.die_in_pass] = die
    data = Points(jitter=0.0 if arguments.plain else 0.1)
    config = TrainingConfig(**json.loads(arguments.config))
    result = train(model, data, config, arguments.run_dir, validate=error, progress=False)
    print(json.dumps([result.step, result.stopped]))


if __name__ == "__main__":
    main()
