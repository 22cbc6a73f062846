"""What one choice is worth: the same short run with one part exchanged.

`python benchmarks/ablation.py fusion` trains the recipe below once for each fusion and seed, scores
what it draws, and stores a row a run in book/results/ablation_fusion.json. `layers` exchanges which
layers of the language model are read, `transfer` what stands in the language model's place. Rows
that are stored already are not run again, and a run that was stopped goes on where it stood, so
the command can be given as often as it takes; `--minutes 50` ends a piece. About 12 minutes a run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.recipe import (
    INTERRUPTED,
    EncoderConfig,
    Recipe,
    load_recipe,
    train_recipe,
)

STEPS, SEEDS, PROMPTS = 1500, (0, 1), 50
TASKS = ("single_object", "colours", "counting", "position", "colour_attribution", "templates")


def base() -> Recipe:
    """The shipped recipe on fewer pictures, behind the shipped autoencoder, and much shorter."""
    scenes = load_recipe("scenes")
    return replace(
        scenes,
        name="ablation",
        data=replace(scenes.data, size=20_000, validation=256),
        generator=replace(scenes.generator, width=64, heads=4),
        autoencoder_from="bundled",
        training=TrainingConfig(
            steps=STEPS,
            batch_size=32,
            learning_rate=1.6e-3,
            warmup_steps=100,
            schedule="trapezoid",
            decay_steps=500,
            final_lr_fraction=0.02,
            betas=(0.9, 0.98),
            weight_decay=0.1,
            ema_decay=0.99,
            checkpoint_every=500,
            validate_every=500,
            log_every=50,
        ),
    )


def fusions(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe with each fusion."""

    def of(kind: str, **changes) -> Recipe:
        return replace(recipe, fusion=FusionConfig(kind=kind, **changes))

    queries = {"tokens": 16, "depth": 2}
    prefix = replace(recipe.generator, backbone="dit", patch_size=1, depth=6, width=128, heads=4)
    return {
        "pooled": of("pooled"),
        "projector": recipe,
        "resampler": of("resampler", **queries),
        "timestep resampler": of("timestep_resampler", **queries),
        "queries": of("queries", **queries),
        "cross-attention, DiT": replace(recipe, generator=prefix),
        "prefix, DiT": replace(recipe, generator=replace(prefix, conditioning="prefix")),
    }


def layers(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe with each choice of MiniLM's layers: 0 is the word vectors, 3 the middle."""
    return {
        str(chosen): replace(recipe, encoder=EncoderConfig("minilm", chosen))
        for chosen in (0, 3, "last", "mean")
    }


def transfer(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe with a pretrained encoder, and with the same one of random weights."""
    return {
        name: replace(recipe, encoder=EncoderConfig(name, "mean"))
        for name in ("minilm", "scratch:minilm")
    }


GROUPS = {"fusion": fusions, "layers": layers, "transfer": transfer}


def run(recipe: Recipe, folder: Path, minutes: float) -> dict | None:
    """One row: what the recipe's run has learned, at what price; None: stopped before its end."""
    result = train_recipe(recipe, folder, max_minutes=minutes)
    if result.stopped in INTERRUPTED:
        return None
    pipe = VisLMPipeline.from_run(folder)
    pipe.set_progress_bar_config(disable=True)

    def draw(captions: list[str], seed: int):
        noise = [torch.Generator().manual_seed(1000 * seed + i) for i in range(len(captions))]
        return pipe(captions, generator=noise, output_type="pt").images

    judged = evaluate(draw, TASKS, n=PROMPTS)
    right = [r.correct for r in judged.results]
    return {
        "parameters": {
            name: sum(p.numel() for p in part.parameters())
            for name, part in (("fusion", pipe.fusion), ("generator", pipe.generator.network))
        },
        "loss": round(result.best_value, 4),
        "images_per_second": round(result.images_per_second, 1),
        "right": sum(right),
        "prompts": len(right),
        "tasks": {task: round(score.value, 3) for task, score in judged.scores.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; 0: never")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--results", type=Path, default=Path("book/results"))
    options = parser.parse_args()
    path, end = options.results / f"ablation_{options.group}.json", time.monotonic()
    end += 60 * options.minutes or float("inf")
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": []}
    done = {(row["variant"], row["seed"]) for row in stored["rows"]}
    variants = GROUPS[options.group](base())
    for seed in SEEDS:
        for name, recipe in variants.items():
            left = (end - time.monotonic()) / 60
            if (name, seed) in done:
                continue
            if left <= 0:
                return
            recipe = replace(recipe, training=replace(recipe.training, seed=seed))
            folder = options.runs / f"{options.group}-{name}-{seed}".replace(" ", "_")
            row = run(recipe, folder, left if options.minutes else 0.0)
            if row is None:
                return
            row = {"variant": name, "seed": seed, **row}
            print(row, flush=True)
            stored["command"] = shlex.join(["python", "benchmarks/ablation.py", options.group])
            stored["recipe"] = {"steps": STEPS, "pictures": recipe.data.size, "tasks": TASKS}
            stored["rows"].append(row)
            path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
