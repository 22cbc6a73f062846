"""What optimisers, schedules, regularisers and mirrored pictures are worth: one short run each.

    python benchmarks/regularisers.py [optimisers|seeds|schedules|regularisers|flips ...]

trains a small U-Net behind the shipped autoencoder once for each row, scores what it draws, and
stores the row in book/results/regularisers.json. Stored rows are not run again, so the command can
be given as often as it takes, and two of it may run beside each other. `optimisers` tries each of
four at five learning rates; `seeds` repeats the best rate of each with two other seeds; these and
`schedules` learn from all pictures, `regularisers` and `flips` from few, where a model can learn
them by heart. `--list` says which rows are missing, `--rows` takes some of them by name.

About 70 rows of 800 steps; on a GPU run several side by side (`--workers 14`). On two CPU cores
`--steps 500 --batch-size 48 --workers 2` makes a row in about three minutes of each core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from rows import Table, device_name, run_all, workers
from safetensors.torch import save_file

from vislm_tutorial import VisLMPipeline
from vislm_tutorial._files import replaced_when_complete
from vislm_tutorial.data.parsing import read
from vislm_tutorial.encoders import CachedEncoder, load_encoder
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.evaluation.exact_eval import result_of
from vislm_tutorial.evaluation.prompts import Prompt, prompts_for
from vislm_tutorial.registry import find
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.adversarial import Adversarial
from vislm_tutorial.training.datasets import DataConfig, load_images, prepare_pictures
from vislm_tutorial.training.recipe import Recipe, load_recipe, train_recipe
from vislm_tutorial.training.text_to_image import build_model

PROMPTS, HELD, FEW = 100, 512, 500
RATES = {  # factors of about 3
    "adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "adamw": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "sgd": (0.03, 0.1, 0.3, 1.0, 3.0),
    "muon": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
DECAY = {"adam": 0.0, "adamw": 0.1, "sgd": 0.0, "muon": 0.1}  # where it is a shrinking, not L2
RESULTS = Path(__file__).parents[1] / "book" / "results" / "regularisers.json"


@dataclass(frozen=True)
class Budget:
    """How long a run is, and of how many pictures."""

    steps: int = 800
    pictures: int = 10_240
    batch: int = 128

    def data(self, few: int = 0) -> DataConfig:
        """All pictures; or few, with the same ones kept apart."""
        size = self.pictures // 2 if few else self.pictures
        return DataConfig(size=size, validation=HELD, limit=few)


@dataclass(frozen=True)
class Row:
    """One run."""

    group: str
    name: str
    seed: int
    recipe: Recipe

    @property
    def key(self) -> tuple[str, int]:
        """What it is stored by."""
        return self.name, self.seed

    @property
    def title(self) -> str:
        """How it is spoken of."""
        return f"{self.name} (seed {self.seed})"


def base(budget: Budget) -> Recipe:
    """The shipped recipe, smaller and shorter, behind the shipped autoencoder."""
    scenes, steps = load_recipe("scenes"), budget.steps
    training = TrainingConfig(
        steps=steps,
        batch_size=budget.batch,
        learning_rate=1.6e-3,
        warmup_steps=min(50, steps // 4),
        final_lr_fraction=0.02,
        betas=(0.9, 0.98),
        weight_decay=0.1,
        momentum=0.9,
        ema_decay=0.98,
        precision="fp32",
        compile=False,
        checkpoint_every=0,
        validate_every=max(1, steps // 20),
        log_every=max(1, steps // 20),
    )
    return replace(
        scenes,
        name="regularisers",
        data=budget.data(),
        generator=replace(scenes.generator, width=64, heads=4),
        autoencoder_from="bundled",
        training=training,
    )


def optimisers(budget: Budget) -> Iterator[Row]:
    """Each optimiser at five rates."""
    for name, rates in RATES.items():
        for rate in rates:
            yield _with_training(
                "optimisers", f"{name} {rate:g}", 0, base(budget), **_optimiser(name, rate)
            )


def seeds(budget: Budget, stored: list[dict]) -> Iterator[Row]:
    """The best rate of each optimiser again; none before all its rates are stored."""
    losses = {(r["name"], r["seed"]): r["loss"] for r in stored}
    for name, rates in RATES.items():
        tried = {rate: losses.get((f"{name} {rate:g}", 0)) for rate in rates}
        if all((f"{name} {rate:g}", 0) in losses for rate in rates):
            best = min(tried, key=lambda rate: _or_infinite(tried[rate]))
            for seed in (1, 2):
                yield _with_training(
                    "seeds", f"{name} {best:g}", seed, base(budget), **_optimiser(name, best)
                )


def schedules(budget: Budget) -> Iterator[Row]:
    """The four ways down from the peak, with AdamW."""
    for seed in (0, 1):
        for name in ("cosine", "linear", "trapezoid", "constant"):
            changes = {
                "schedule": name,
                "decay_steps": budget.steps // 3 if name == "trapezoid" else 0,
            }
            yield _with_training("schedules", f"schedule {name}", seed, base(budget), **changes)


def regularisers(budget: Budget) -> Iterator[Row]:
    """What keeps a model from learning a few pictures by heart."""
    plain = replace(base(budget), data=budget.data(FEW))
    plain = replace(plain, training=replace(plain.training, weight_decay=0.0))
    every = plain.training.validate_every

    def trained(**changes) -> Recipe:
        return replace(plain, training=replace(plain.training, **changes))

    def dropped(share: float) -> Recipe:
        return replace(plain, generator=replace(plain.generator, dropout=share))

    variants = {
        "adversarial 0.05": replace(plain, adversarial=Adversarial(0.05)),
        "adversarial 0.3": replace(plain, adversarial=Adversarial(0.3)),
        "none": plain,
        "weight decay 0.1": trained(weight_decay=0.1),
        "weight decay 1": trained(weight_decay=1.0),
        "L2 0.0001": trained(optimizer="adam", weight_decay=1e-4),
        "L2 0.01": trained(optimizer="adam", weight_decay=1e-2),
        "dropout 0.1": dropped(0.1),
        "dropout 0.3": dropped(0.3),
        "early stopping": trained(patience=3, validate_every=every),
    }
    for seed in (0, 1):
        for name, recipe in variants.items():
            yield _with_training("regularisers", name, seed, recipe)


def flips(budget: Budget) -> Iterator[Row]:
    """Mirrored pictures besides, from scratch and going on from the shipped weights."""
    few = regularisers(budget)
    plain = next(row.recipe for row in few if row.name == "none")
    shipped = load_recipe("scenes")
    training = replace(plain.training, steps=max(1, budget.steps // 2), learning_rate=3e-4)
    going_on = replace(
        plain,
        fusion=shipped.fusion,
        generator=shipped.generator,
        weights_from="bundled",
        training=training,
        data=budget.data(4 * FEW),
    )
    for seed in (0, 1):
        for kind in ("none", "blind", "words"):
            for prefix, recipe in (("flips", plain), ("shipped, flips", going_on)):
                if (prefix, kind) != ("flips", "none"):  # that is the row "none"
                    recipe = replace(recipe, data=replace(recipe.data, flips=kind))
                    yield _with_training("flips", f"{prefix} {kind}", seed, recipe)


def _optimiser(name: str, rate: float) -> dict:
    return {"optimizer": name, "learning_rate": rate, "weight_decay": DECAY[name]}


def _with_training(group: str, name: str, seed: int, recipe: Recipe, **changes) -> Row:
    training = replace(recipe.training, seed=seed, **changes)
    return Row(group, name, seed, replace(recipe, training=training))


def _or_infinite(loss: float | None) -> float:
    return float("inf") if loss is None else loss


GROUPS = ("regularisers", "optimisers", "flips", "schedules", "seeds")


def rows_of(groups: list[str], budget: Budget, stored: list[dict]) -> list[Row]:
    """All rows of the groups, stored or not; of `seeds` those that can be known by now."""
    makers = {"optimisers": optimisers, "schedules": schedules}
    makers |= {"regularisers": regularisers, "flips": flips}
    found = []
    for group in GROUPS:
        if group in groups:
            found += seeds(budget, stored) if group == "seeds" else makers[group](budget)
    return found


# One row


def run(row: Row, runs: Path, prompts: int) -> dict:
    """Trains and judges; the record that is stored."""
    start = time.monotonic()
    recipe, folder = row.recipe, Path(tempfile.mkdtemp(dir=runs))
    shutil.copy(_pictures_of(recipe.data, runs), folder / "pictures.safetensors")
    record = {"group": row.group, "name": row.name, "seed": row.seed}
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the log
            result = train_recipe(recipe, folder, say=lambda line: None)
        record |= _losses(folder / "generator" / "log.jsonl")
        record |= {"steps": result.step, "train_seconds": round(time.monotonic() - start, 1)}
        record |= _scores(folder, prompts)
    except FloatingPointError:  # a learning rate so high that the loss is no number: a result too
        record |= {"loss": None, "diverged": True}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    record["seconds"] = round(time.monotonic() - start, 1)
    return record | {"device": device_name(), "torch": torch.__version__}


def _losses(path: Path) -> dict:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [(r["step"], r["validation/loss"]) for r in lines if "validation/loss" in r]
    seen = [(r["step"], r["loss"]) for r in lines if "loss" in r]
    best_step, best = min(kept, key=lambda pair: pair[1])
    return {
        "loss": round(kept[-1][1], 4),
        "best_loss": round(best, 4),
        "best_step": best_step,
        "training_loss": round(seen[-1][1], 4),
        "curve": [[step, round(loss, 4)] for step, loss in kept],
        "training_curve": [[step, round(loss, 4)] for step, loss in seen],
    }


def _scores(folder: Path, prompts: int) -> dict:
    """How many pictures of single objects, and of one left or right of another, are right.

    `order` counts, among pictures that show both shapes, those with each on its side.
    """
    pipe = VisLMPipeline.from_run(folder).to(PartialState().device)
    pipe.set_progress_bar_config(disable=True)

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        noise = [torch.Generator().manual_seed(1000 * seed + i) for i in range(len(captions))]
        return pipe(captions, generator=noise, output_type="pt").images.cpu()

    single = evaluate(draw, "single_object", n=prompts, batch_size=100).scores["single_object"]
    asked = [p for p in prompts_for("position", 20 * prompts) if _is_side(p)][:prompts]
    readings = read(draw([prompt.text for prompt in asked], 1))
    right = [
        result_of(prompt, reading).correct for prompt, reading in zip(asked, readings, strict=True)
    ]
    pairs = zip(asked, readings, strict=True)
    orders = [order for order in (_order(*pair) for pair in pairs) if order is not None]
    return {
        "single": {"right": round(single.value * single.n), "n": single.n},
        "side": {"right": sum(right), "n": len(right)},
        "order": {"right": sum(orders), "n": len(orders)},
    }


def _is_side(prompt: Prompt) -> bool:
    return prompt.include[1].position[0] in ("left of", "right of")


def _order(prompt: Prompt, reading) -> bool | None:
    """Whether the two shapes are on the sides that were asked for; None: not one of each there."""
    second, first = prompt.include  # "a FIRST left of a SECOND"
    at = {
        clause.shape: [o.x for o in reading.objects if o.shape == clause.shape]
        for clause in (first, second)
    }
    if any(len(found) != 1 for found in at.values()):
        return None
    difference = at[first.shape][0] - at[second.shape][0]
    if abs(difference) < 0.05:  # one above the other
        return None
    return (difference < 0) == (first.position[0] == "left of")


# What the rows share


def _pictures_of(data: DataConfig, runs: Path) -> Path:
    mirrored = "" if data.flips == "none" else "-mirrored"
    return runs / f"pictures-{data.size}{mirrored}.safetensors"


def prepare(rows: list[Row], runs: Path) -> None:
    """Latents and the captions' states of all rows' pictures, each computed once."""
    runs.mkdir(parents=True, exist_ok=True)
    device, shared = PartialState().device, {}
    for row in rows:
        shared.setdefault((_pictures_of(row.recipe.data, runs), row.recipe.data.flips), row.recipe)
    captions = [""]
    for (path, _), recipe in shared.items():
        dataset = load_images(recipe.data)
        captions += dataset.captions
        if path.is_file():
            continue
        autoencoder = VisLMPipeline.from_pretrained(find("scenes-weights")).autoencoder.to(device)
        encoder = load_encoder(recipe.encoder.name, layers=recipe.encoder.layers)
        generator = build_model(recipe, encoder, autoencoder).generator.behind(autoencoder)
        with replaced_when_complete(path) as temporary:
            save_file({"pictures": prepare_pictures(dataset, generator, device)}, temporary)
    for reads in {(row.recipe.encoder.name, row.recipe.encoder.layers) for row in rows}:
        encoder = load_encoder(reads[0], layers=reads[1], device=device)
        CachedEncoder(encoder).encode_many(captions, batch_size=512, progress=False)


def line(row: dict) -> str:
    """A row of the table."""
    if row["loss"] is None:
        return f"{row['name']:<22} {row['seed']}  diverged"
    shares = "  ".join(
        f"{k} {row[k]['right']:>3}/{row[k]['n']}" for k in ("single", "side", "order")
    )
    return (
        f"{row['name']:<22} {row['seed']}  loss {row['loss']:.4f}  best {row['best_loss']:.4f} "
        f"at {row['best_step']:>4}  training {row['training_loss']:.4f}  {shares}  "
        f"{row['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(GROUPS)}; none: all")
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    parser.add_argument("--rows", nargs="+", help="only rows of these names")
    parser.add_argument("--list", action="store_true", help="name the missing rows, run none")
    parser.add_argument("--workers", type=int, default=1, help="runs beside each other")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no row after so long")
    parser.add_argument("--steps", type=int, default=Budget.steps)
    parser.add_argument("--batch-size", type=int, default=Budget.batch)
    parser.add_argument("--pictures", type=int, default=Budget.pictures)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--runs", type=Path, default=Path("runs/regularisers"))
    options = parser.parse_args()
    groups = options.groups or list(GROUPS)
    budget = Budget(options.steps, options.pictures, options.batch_size)
    if unknown := set(groups) - set(GROUPS):
        parser.error(f"no group {', '.join(unknown)}; choose some of {', '.join(GROUPS)}")
    end = time.monotonic() + (60 * options.minutes or float("inf"))

    def missing(stored: list[dict]) -> list[Row]:
        done = {(row["name"], row["seed"]) for row in stored}
        found = {row.key: row for row in rows_of(groups, budget, stored)}
        chosen = [row for row in found.values() if row.key not in done]
        return [row for row in chosen if not options.rows or row.name in options.rows]

    command = (
        f"python benchmarks/regularisers.py {' '.join(groups)} --steps {budget.steps} "
        f"--batch-size {budget.batch} --workers {options.workers}"
    )
    table = Table(
        options.results,
        options.runs / "lock",
        {**asdict(budget), "prompts": options.prompts},
        order=lambda r: (r["group"], r["name"], r["seed"]),
        header={
            "command": command,
            "steps": budget.steps,
            "machine": f"{device_name()}, {options.workers} runs beside each other; fp32",
            "batch": budget.batch,
            "pictures": {"all": budget.pictures - HELD, "few": FEW, "kept apart": HELD},
            "decay": DECAY,
        },
    )
    rows = missing(table.rows())
    if options.list:
        print(*(f"{row.group}: {row.title}" for row in rows), sep="\n")
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    prepare(rows, options.runs)
    pool = workers(options.workers)

    def start(row: Row) -> Future:
        return pool.submit(run, row, options.runs, options.prompts)

    def keep(record: dict) -> list[dict]:
        print(line(record), flush=True)
        return table.add(record)

    if failed := run_all(pool, start, missing, table.rows(), keep, end):
        raise SystemExit(
            f"{len(failed)} rows failed: {', '.join(failed)}. The same command runs them again."
        )


if __name__ == "__main__":
    main()
