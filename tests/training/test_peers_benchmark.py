"""benchmarks/peers.py: the verdict, the clock, the falling rate of a branch, the FLOPs."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from vislm_tutorial.blocks import Attention
from vislm_tutorial.generators import FlowGenerator
from vislm_tutorial.training import TrainingConfig, checkpoint
from vislm_tutorial.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
STEADY = TrainingConfig(
    steps=10**8,
    batch_size=4,
    learning_rate=0.1,
    warmup_steps=3,
    schedule="constant",
    ema_decay=0.5,
    checkpoint_every=0,
    keep_checkpoints=1,
    log_every=1,
)


@pytest.fixture(scope="module")
def peers():
    path = ROOT / "benchmarks" / "peers.py"
    spec = importlib.util.spec_from_file_location("peers", path)
    module = sys.modules["peers"] = importlib.util.module_from_spec(spec)  # for dataclasses
    spec.loader.exec_module(module)
    return module


class Numbers(Dataset):
    """Batches of the numbers asked for."""

    def __len__(self) -> int:
        return 64

    def __getitems__(self, rows: list[int]) -> list[torch.Tensor]:
        return [torch.tensor(rows, dtype=torch.float32) / 64]


class Slow(nn.Module):
    """A line, with some work in each step; `stop_at` sends SIGTERM in that pass of its life."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__()
        self.line, self.passes, self.stop_at = nn.Linear(1, 1), 0, stop_at

    def forward(self, batch, generator):
        self.passes += 1
        if self.passes == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        end = time.process_time() + 0.02
        while time.process_time() < end:
            torch.mm(*torch.ones(2, 64, 64))
        return (self.line(batch[:, None])[:, 0] - 2 * batch).square().mean()


def row(system: str, minutes: float, score: float, rate: float = 0.001) -> dict:
    return {"system": system, "learning_rate": rate, "cpu_minutes": minutes, "score": score}


def test_the_verdict_compares_with_each_peers_best(peers):
    ours = [row("ours", 5, 0.3), row("ours", 10, 0.5), row("ours", 20, 0.7)]
    unet = [row("unet", 20, 0.4), row("unet", 40, 0.5, 0.01), row("unet", 60, 0.5)]
    other = [row("transformer", 60, 0.71), row("transformer", 10, 0.1)]
    slower, own = [row("old", 25, 0.5)], [row("ours-adamw", 5, 0.9)]
    found = {line["peer"]: line for line in peers.verdict(other + ours + unet + slower + own)}
    assert "ours-adamw" not in found  # it says what is the optimiser's: no rival
    assert found["unet"]["peer_minutes"] == 40 and found["unet"]["learning_rate"] == 0.01
    assert found["unet"]["ours_minutes"] == 10 and found["unet"]["ratio"] == 0.25
    assert found["unet"]["within_bar"]
    assert found["transformer"]["ours_minutes"] is None
    assert found["transformer"]["ratio"] is None and not found["transformer"]["within_bar"]
    assert found["old"]["ratio"] == 0.4 and not found["old"]["within_bar"]
    again = peers.verdict([*ours, row("ours-narrow", 6, 0.5), *unet])[0]
    assert again["ours_minutes"] == 6  # any of ours that races counts


def test_training_is_counted_in_cpu_seconds_and_goes_on(peers, tmp_path):
    model, trunk = Slow(), tmp_path / "trunk"
    step, spent = peers.advance(model, Numbers(), STEADY, trunk, 1.0)
    assert 0.5 <= spent < 2 and 20 < step <= spent / 0.02 + 1
    assert checkpoint.checkpoint_steps(trunk) == [step]
    assert peers.advance(model, Numbers(), STEADY, trunk, 1.0) == (step, spent)  # nothing is left
    longer, more = peers.advance(Slow(), Numbers(), STEADY, trunk, 2.5)
    assert longer > step and more > spent + 0.5


def test_a_branch_goes_on_with_a_rate_that_falls_and_leaves_the_trunk(peers, tmp_path):
    trunk, tip = tmp_path / "trunk", tmp_path / "tip"
    step, spent = peers.advance(Slow(), Numbers(), STEADY, trunk, 1.2)
    config = peers.branch(trunk, tip, STEADY, spent / 2)
    assert config.decay_steps == pytest.approx(step / 2, abs=1)
    assert config.steps == step + config.decay_steps
    end, more = peers.advance(Slow(), Numbers(), config, tip)
    assert end == config.steps and more > 0.02 * config.decay_steps
    rates = [json.loads(line)["lr"] for line in (tip / "log.jsonl").read_text().splitlines()]
    assert len(rates) == config.decay_steps and rates == sorted(rates, reverse=True)
    assert rates[0] <= STEADY.learning_rate
    assert rates[-1] == pytest.approx(0.02 * STEADY.learning_rate)
    again = peers.branch(trunk, tip, STEADY, spent / 2)  # as after a kill
    assert again == config and peers.advance(Slow(), Numbers(), again, tip) == (end, more)
    assert checkpoint.checkpoint_steps(trunk) == [step]
    assert peers.advance(Slow(), Numbers(), STEADY, trunk, 2.0)[0] > step


def test_what_was_told_to_stop_is_taken_up_again(peers, tmp_path):
    with pytest.raises(peers.Interrupted, match="stopped at step 5"):
        peers.advance(Slow(stop_at=5), Numbers(), STEADY, tmp_path, 60.0)
    step, seconds = json.loads((tmp_path / "cpu.json").read_text()).values()
    assert step == 5 and seconds > 0.08
    assert peers.advance(Slow(), Numbers(), STEADY, tmp_path, seconds + 0.8)[0] > 5


def test_attention_and_products_are_counted(peers):
    attention, x = Attention(12, 2), torch.randn(3, 5, 12)
    projections, products = 4 * 2 * 3 * 5 * 12 * 12, 2 * 2 * 3 * 5 * 5 * 12
    assert peers.counted(lambda: attention(x)) == projections + products
    assert peers.matmul_peak(0.05) > 1e8


def test_rows_are_kept_by_system_rate_and_minutes(peers, tmp_path):
    path, lock = tmp_path / "peers.json", tmp_path / "lock"
    table = peers.Table(path, lock, {"n": 4}, order=peers._key)
    one, two = row("unet", 5, 0.1) | {"minutes": 5}, row("ours", 5, 0.2) | {"minutes": 5}
    assert table.add(one) == [one] and table.add(two) == [two, one]
    assert json.loads(path.read_text())["rows"] == [two, one]
    with pytest.raises(ValueError, match="n is 4 there, not 5"):
        peers.Table(path, lock, {"n": 5}, order=peers._key).rows()


def test_systems_are_chosen_with_their_rates(peers):
    recipe = load_recipe("scenes")
    assert peers.chosen(["ours"], recipe) == [("ours", recipe.training.learning_rate)]
    assert peers.chosen(["unet", "transformer:0.002"], recipe) == [
        ("unet", 1e-4),
        ("unet", 1e-3),
        ("transformer", 0.002),
    ]
    with pytest.raises(SystemExit, match="no system 'dit'"):
        peers.chosen(["dit"], recipe)


def test_all_systems_learn_alike_but_for_their_own_optimiser(peers):
    """Same batch, order and end; every backbone fits the recipe's condition and latents."""
    recipe = load_recipe("scenes")
    configs = [peers.steady(system, 1e-3, recipe) for system in peers.systems(recipe).values()]
    own = ("optimizer", "warmup_steps", "betas", "weight_decay", "final_lr_fraction")
    own = {name: getattr(configs[0], name) for name in own}
    assert all(replace(config, **own) == configs[0] for config in configs)
    for name, system in peers.systems(recipe).items():
        if system.backbone:
            flow = FlowGenerator(system.backbone(8, 8, recipe.fusion.width))
            assert flow.backbone.config.in_channels == 8
            parameters = sum(p.numel() for p in flow.parameters())
            smaller = {"unet-narrow": 2_590_000, "ours-narrow": 1_470_000}
            assert abs(parameters / smaller.get(name, 5_543_464) - 1) < 0.05
