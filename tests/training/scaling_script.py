"""Several runs one after the other, in each of the processes that torchrun starts.

Run as a script by test_scaling_out.py: starting two processes takes longer than all their runs.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset
from training_toy import Points, Toy, die, error

from vislm_tutorial.generators import DiT, UNet
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.loop import train
from vislm_tutorial.training.recipe import load_recipe, train_recipe
from vislm_tutorial.training.streaming import StreamedImages
from vislm_tutorial.types import Condition


class Noise(Dataset):
    """16 pictures (4, 8, 8) of noise, each with 3 condition tokens (3, 16)."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.pictures = torch.randn(16, 4, 8, 8, generator=generator)
        self.tokens = torch.randn(16, 3, 16, generator=generator)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index], self.tokens[index]


class Denoiser(nn.Module):
    """A backbone of the flow generator behind a fusion of one layer, asked for the picture."""

    def __init__(self, backbone: type[nn.Module], **sizes) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fusion = nn.Linear(16, 16)
        self.backbone = backbone(sample_size=8, in_channels=4, condition_width=16, **sizes)
        for parameter in self.parameters():  # some start at 0, and would hide what is behind them
            nn.init.normal_(parameter, std=0.1)

    def forward(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        pictures, tokens = batch
        tokens = self.fusion(tokens)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        condition = Condition(tokens, mask, tokens.mean(dim=1))
        drawn = self.backbone(pictures, torch.full((len(pictures),), 500.0), condition)
        return (drawn - pictures).square().mean()


class Reader(nn.Module):
    """Learns nothing, and notes the captions that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[str] = []

    def forward(self, batch: dict, generator: torch.Generator) -> Tensor:
        self.seen += batch["caption"]
        return self.weight.square()


def read_stream(folder: Path, settings: dict) -> None:
    """A run on the shards in `folder`; each process leaves what it was given in a file."""
    model, data = Reader(), StreamedImages(folder, 4, buffer=4)
    train(model, data, TrainingConfig(**settings), folder / "run", progress=False)
    (folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(model.seen))


def make(kind: str) -> tuple[nn.Module, Dataset]:
    """A model and what it learns from."""
    if kind == "toy":
        return Toy(), Points()
    if kind == "unet":
        return Denoiser(UNet, width=16, multipliers=(1, 2), heads=2, attention_size=4), Noise()
    return Denoiser(DiT, width=16, depth=2, heads=2), Noise()


def run(folder: Path, kind: str, settings: dict, dies: dict | None = None) -> None:
    """One run; `dies` is {"rank": who, "pass": in which of its forward passes}."""
    if kind == "recipe":
        tiny = load_recipe("tiny")
        train_recipe(replace(tiny, training=replace(tiny.training, **settings)), folder)
        return
    if kind == "stream":
        return read_stream(folder, settings)
    model, data = make(kind)
    if dies and dies["rank"] == int(os.environ.get("RANK", "0")):
        model.before_step[dies["pass"]] = die
    validate = error if kind == "toy" else None
    train(model, data, TrainingConfig(**settings), folder, validate=validate, progress=False)
    assert not any(isinstance(p, DTensor) for p in model.parameters()), "a slice was handed back"


if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        run(Path(arguments.pop("folder")), **arguments)
