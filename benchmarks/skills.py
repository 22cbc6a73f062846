"""When does a model that learns to draw get the parts right, and when all of them at once?

    python benchmarks/skills.py

trains one small model of `evidence.py` at a constant rate and stops at marks that are evenly spaced
in log steps. At each, the averaged weights draw captions of one object with shape, colour, size and
place: of pairs of colour and shape that training shows, and of those it never shows. How many
drawings had which parts right is stored in book/results/skills.json.

A run that was stopped goes on at its last checkpoint, and marks that are stored are not drawn
again. All marks took 50 minutes on one core that was shared with other work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from evidence import Row as Study
from evidence import recipe_of as recipe_of_study
from rows import Table, device_name

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import read
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import held_out_pairs, training_pairs
from vislm_tutorial.evaluation.parts import (
    PARTS,
    Wish,
    parts_right,
    patterns,
    scene_of,
    table_of,
    wishes,
)
from vislm_tutorial.training.recipe import Recipe, train_recipe

MARKS = (100, 150, 220, 330, 470, 680, 1000, 1500, 2200, 3200)
PROMPTS, SAMPLING_STEPS = 150, 12
RESULTS = Path(__file__).parents[1] / "book" / "results" / "skills.json"


@dataclass(frozen=True)
class Settings:
    """Equal for all marks of a run."""

    pictures: int = 10_000
    batch_size: int = 32
    ema_decay: float = 0.995  # before step 1,800 the average spans the last ninth of the run
    prompts: int = PROMPTS
    seed: int = 0


def recipe_of(settings: Settings, steps: int) -> Recipe:
    """The run up to a mark. The rate stays constant, so that a longer run begins with a shorter."""
    held = 64
    study = Study("MiniLM", settings.pictures, settings.seed)
    recipe = recipe_of_study(study, max(MARKS), settings.pictures)
    return replace(
        recipe,
        name="skills",
        data=replace(recipe.data, size=settings.pictures + held, validation=held),
        training=replace(
            recipe.training,
            steps=steps,
            batch_size=settings.batch_size,
            schedule="constant",
            warmup_steps=100,
            ema_decay=settings.ema_decay,
            checkpoint_every=500,
            log_every=50,
        ),
    )


def asked(settings: Settings) -> dict[str, list[Wish]]:
    """By test, what is asked for: combinations as in training, and of pairs it never shows."""
    return {
        "seen": wishes(settings.prompts, training_pairs(), settings.seed),
        "held_out": wishes(settings.prompts, sorted(held_out_pairs()), settings.seed),
    }


def drawn(pipe: VisLMPipeline, settings: Settings) -> dict[str, dict[str, int]]:
    """By test, how many drawings had which parts right."""
    pipe.set_progress_bar_config(disable=True)
    counts = {}
    for name, wanted in asked(settings).items():
        images = pipe(
            [wish.text for wish in wanted],
            generator=[torch.Generator().manual_seed(i) for i in range(len(wanted))],
            num_inference_steps=SAMPLING_STEPS,
            output_type="pt",
        ).images.cpu()
        counts[name] = patterns(
            [parts_right(*pair) for pair in zip(wanted, read(images), strict=True)]
        )
    return counts


def ceiling(settings: Settings) -> dict[str, dict[str, int]]:
    """The same for perfect drawings: what the parser gets wrong by itself."""
    rng, counts = random.Random(settings.seed), {}
    for name, wanted in asked(settings).items():
        readings = read(render([scene_of(wish, rng) for wish in wanted]))
        counts[name] = patterns([parts_right(*p) for p in zip(wanted, readings, strict=True)])
    return counts


def run(mark: int, settings: Settings, folder: Path) -> dict:
    """Goes on to a mark and draws; the record that is stored."""
    start = time.monotonic()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the log
        result = train_recipe(recipe_of(settings, mark), folder, say=lambda line: None)
    if result.stopped == "signal":
        raise SystemExit(f"stopped at step {result.step}; the same command goes on.")
    if result.step != mark:
        raise SystemExit(
            f"{folder} has trained {result.step} steps, and mark {mark} is not stored; delete the "
            "folder to train again."
        )
    trained = time.monotonic()
    counts = drawn(VisLMPipeline.from_run(folder).to(PartialState().device), settings)
    return {
        "step": mark,
        "patterns": counts,
        "loss": round(result.final_loss, 4),
        "train_seconds": round(trained - start, 1),
        "draw_seconds": round(time.monotonic() - trained, 1),
        "device": device_name(),
    }


def line(row: dict) -> str:
    """A row of the printed table."""
    shares = []
    for name, counts in row["patterns"].items():
        right = table_of(counts)
        each = " ".join(f"{p} {s:.2f}" for p, s in zip(PARTS, right.mean(axis=0), strict=False))
        whole = right[:, : len(PARTS)].all(axis=1).mean()
        shares.append(f"{name}: {each}, all {whole:.2f}")
    seconds = f"{row['train_seconds']:.0f} + {row['draw_seconds']:.0f} s"
    return f"{row['step']:>5}  {'  '.join(shares)}  {seconds}"


def main() -> None:
    plain = Settings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--marks", nargs="+", type=int, default=list(MARKS), help="steps")
    parser.add_argument("--pictures", type=int, default=plain.pictures)
    parser.add_argument("--batch-size", type=int, default=plain.batch_size)
    parser.add_argument("--prompts", type=int, default=plain.prompts, help="of each test")
    parser.add_argument("--seed", type=int, default=plain.seed)
    parser.add_argument("--runs", type=Path, default=Path("runs/skills"))
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    settings = replace(
        plain, **{name: getattr(options, name) for name in vars(plain) if hasattr(options, name)}
    )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    table = Table(
        options.results,
        options.runs / "lock",
        vars(settings),
        order=lambda row: row["step"],
        header={
            "command": "python benchmarks/skills.py",
            "sampling_steps": SAMPLING_STEPS,
            "parts": [*PARTS, "clear"],
            "ceiling": ceiling(settings),
        },
    )
    stored = {row["step"] for row in table.rows()}
    for mark in sorted(set(options.marks) - stored):
        record = run(mark, settings, options.runs / "run")
        print(line(record), flush=True)
        table.add(record)


if __name__ == "__main__":
    main()
