"""What one choice is worth: the same short run with one part exchanged.

`python benchmarks/ablation.py fusions` trains the recipe below once for each fusion and seed,
scores what it draws, and stores a row a run in book/results/ablation.json. `layers` exchanges
which layers of the language model are read, `transfer` what stands in the language model's place,
`pairs` how many captioned pictures there are, `steps` how long it learns. Rows that are stored
already are not run again, and a run that was stopped goes on where it stood, so the command can be
given as often as it takes. About 15 minutes a run on two slow cores; on a GPU several fit beside
each other (`--workers 12`).

`python benchmarks/ablation.py speed` times each fusion's training instead, about 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, load_recipe, train_recipe
from vislm_tutorial.tuning import Full

STEPS, PICTURES, SEEDS, PROMPTS = 3000, 20_000, 3, 50
TASKS = (
    *("single_object", "two_objects", "counting", "colours", "position", "colour_attribution"),
    *("held_out_pairs", "templates", "synonyms"),
)
TIMED_STEPS = 60
BASE = "base"  # the variant in which nothing is exchanged


def base() -> Recipe:
    """The shipped recipe on fewer pictures, behind the shipped autoencoder, smaller and shorter."""
    scenes = load_recipe("scenes")
    training = TrainingConfig(
        steps=STEPS,
        batch_size=32,
        learning_rate=1.6e-3,
        warmup_steps=100,
        schedule="trapezoid",
        decay_steps=STEPS // 3,
        final_lr_fraction=0.02,
        betas=(0.9, 0.98),
        weight_decay=0.1,
        ema_decay=0.99,
        precision="fp32",
        checkpoint_every=1000,
        validate_every=500,
        log_every=100,
    )
    return replace(
        scenes,
        name="ablation",
        data=replace(scenes.data, size=PICTURES, validation=256, alike=0.0),
        generator=replace(scenes.generator, width=64, heads=4),
        autoencoder_from="bundled",
        training=training,
    )


def fusions(recipe: Recipe) -> dict[str, Recipe]:
    """Each fusion; a prefix needs a transformer, so that has its cross-attention beside it."""

    def of(kind: str) -> Recipe:
        return replace(recipe, fusion=FusionConfig(kind=kind, tokens=16, depth=2))

    dit = replace(recipe.generator, backbone="dit", patch_size=1, depth=6, width=128, heads=4)
    return {
        "pooled": of("pooled"),
        BASE: recipe,
        "resampler": of("resampler"),
        "timestep resampler": of("timestep_resampler"),
        "queries": of("queries"),
        "cross-attention, DiT": replace(recipe, generator=dit),
        "prefix, DiT": replace(recipe, generator=replace(dit, conditioning="prefix")),
    }


def layers(recipe: Recipe) -> dict[str, Recipe]:
    """Which of MiniLM's layers are read: 0 are the word vectors, 3 the middle."""
    chosen = (0, 3, "last", "plain mean")
    return {BASE: recipe} | {
        f"layers {which}": replace(recipe, encoder=EncoderConfig("minilm", which))
        for which in chosen
    }


def transfer(recipe: Recipe) -> dict[str, Recipe]:
    """The same language model with random weights: frozen, and learning with the generator.

    One that learns is tried at a quarter of the rate, too, because the recipe's own was chosen for
    a small generator.
    """
    random, slow = EncoderConfig("scratch:minilm", "mean"), recipe.training.learning_rate / 4
    learning = replace(recipe, encoder=random, tuning=Full())
    return {
        BASE: recipe,
        "random": replace(recipe, encoder=random),
        "learning": learning,
        "learning slowly": replace(learning, training=replace(recipe.training, learning_rate=slow)),
    }


def pairs(recipe: Recipe) -> dict[str, Recipe]:
    """Fewer captioned pictures, shown more often, with the language model and with a random one."""
    found = {}
    for size in (200, 1000, 5000):
        fewer = replace(recipe, data=replace(recipe.data, size=size + recipe.data.validation))
        found[f"{size} pairs"] = fewer
        found[f"{size} pairs, random"] = replace(fewer, encoder=transfer(recipe)["random"].encoder)
    return found | {name: transfer(recipe)[name] for name in (BASE, "random")}


def steps(recipe: Recipe) -> dict[str, Recipe]:
    """Shorter and longer, each with its own last third of falling rate."""
    return {BASE: recipe} | {
        f"{n} steps": replace(
            recipe, training=replace(recipe.training, steps=n, decay_steps=n // 3)
        )
        for n in (375, 750, 1500, 6000)
    }


GROUPS = {f.__name__: f for f in (fusions, layers, transfer, pairs, steps)}


def run(variant: str, seed: int, recipe: Recipe, runs: Path) -> dict:
    """One row: what the recipe's run has learned."""
    recipe = replace(recipe, training=replace(recipe.training, seed=seed))
    folder = runs / f"{variant}-{seed}".replace(" ", "_")
    result = train_recipe(recipe, folder, say=lambda line: None)
    pipe = VisLMPipeline.from_run(folder).to(PartialState().device)
    pipe.set_progress_bar_config(disable=True)

    def draw(captions: list[str], seed: int):
        noise = [torch.Generator().manual_seed(1000 * seed + i) for i in range(len(captions))]
        return pipe(captions, generator=noise, output_type="pt").images.cpu()

    judged = evaluate(draw, TASKS, n=PROMPTS)
    return {
        "variant": variant,
        "seed": seed,
        "parameters": {
            name: sum(p.numel() for p in part.parameters())
            for name, part in (("fusion", pipe.fusion), ("generator", pipe.generator.network))
        },
        "steps": result.step,
        "pictures": recipe.data.size - recipe.data.validation,
        "loss": round(result.best_value, 4),
        "tasks": {task: round(score.value, 3) for task, score in judged.scores.items()},
    }


def missing_rows(groups: list[str], seeds: int, done: set, runs: Path) -> Iterator[tuple]:
    """The arguments of `run` for what is not stored yet: first all variants' first seeds."""
    for seed in range(seeds):
        seen = set(done)
        for group in groups:
            for variant, recipe in GROUPS[group](base()).items():
                if (variant, seed) not in seen:
                    seen.add((variant, seed))
                    yield variant, seed, recipe, runs


def time_fusions() -> dict[str, float]:
    """Images a second in training, by fusion; alone on this machine."""
    speeds = {}
    for name, recipe in fusions(base()).items():
        short = replace(
            recipe.training, steps=TIMED_STEPS, decay_steps=20, validate_every=0, checkpoint_every=0
        )
        recipe = replace(recipe, data=replace(recipe.data, size=2000), training=short)
        with tempfile.TemporaryDirectory() as folder:
            result = train_recipe(recipe, folder, say=lambda line: None)
        speeds[name] = round(result.images_per_second, 1)
        print(name, speeds[name], flush=True)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="+", choices=[*GROUPS, "speed"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=1, help="runs beside each other")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no run after so long")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--results", type=Path, default=Path("book/results/ablation.json"))
    options = parser.parse_args()
    end = time.monotonic() + (60 * options.minutes or float("inf"))
    stored = {"command": "python benchmarks/ablation.py " + " ".join(GROUPS), "rows": []}
    if options.results.is_file():
        stored = json.loads(options.results.read_text(encoding="utf-8"))

    def store() -> None:
        options.results.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")

    groups = [group for group in options.groups if group in GROUPS]
    if "speed" in options.groups:
        stored["images_per_second"] = time_fusions()
        store()
    done = {(row["variant"], row["seed"]) for row in stored["rows"]}
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
        waiting = {
            pool.submit(run, *job): job
            for job in missing_rows(groups, options.seeds, done, options.runs)
        }
        for finished in as_completed(waiting):
            stored["rows"].append(finished.result())
            print(stored["rows"][-1], flush=True)
            store()
            if time.monotonic() > end:
                pool.shutdown(wait=True, cancel_futures=True)
                break


if __name__ == "__main__":
    main()
