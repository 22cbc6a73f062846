"""A search over trainings of milliseconds. Run as a script it is a search that a test kills."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from optuna.distributions import FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset

from vislm_tutorial.training import TrainingConfig, train
from vislm_tutorial.tuning.search import SearchConfig, final_value, search

SPACE = {
    "learning_rate": FloatDistribution(1e-3, 30.0, log=True),
    "weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
}
STEPS, EVERY = 12, 4


class Line(nn.Module):
    """y = 2 x, to be learned by one weight; above a rate it diverges for good."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.net.weight)

    def forward(self, batch, generator) -> torch.Tensor:
        x, y = (torch.stack(part) for part in zip(*batch, strict=True))
        loss = (self.net(x) - y).square().mean()
        return loss * (torch.inf if self.net.weight.abs().max() > 5 else 1.0)


class Objective:
    """As a training objective is; `die_in` counts validations down to a signal."""

    def __init__(self, die_in: int = 0, by: int = signal.SIGKILL) -> None:
        self.die_in, self.by, self.folders = die_in, by, []

    def __call__(self, settings: dict, run_dir: Path, report) -> float:
        self.folders.append(run_dir.name)
        x = torch.linspace(-1, 1, 8)[:, None]

        def validate(model: Line) -> dict[str, float]:
            self.die_in -= 1
            if self.die_in == 0:
                os.kill(os.getpid(), self.by)
            value = (model.net(x) - 2 * x).square().mean().item()
            report(steps_done(run_dir) + EVERY, value)
            return {"loss": value}

        config = TrainingConfig(
            steps=STEPS,
            batch_size=4,
            warmup_steps=0,
            ema_decay=0.0,
            validate_every=EVERY,
            checkpoint_every=EVERY,
            log_every=EVERY,
            **settings,
        )
        result = train(
            Line(), TensorDataset(x, 2 * x), config, run_dir, collate=list, validate=validate,
            progress=False,
        )  # fmt: skip
        return final_value(result, run_dir, config)


def steps_done(run_dir: Path) -> int:
    """Steps before the validation under way, from the log: a resumed run's too."""
    log = run_dir / "log.jsonl"
    return EVERY * log.read_text().count("validation/") if log.exists() else 0


def main() -> None:
    folder, trials, die_in = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    search(Objective(die_in), SPACE, SearchConfig(trials=trials, startup=3, seed=1), folder)


if __name__ == "__main__":
    main()
