"""Ours beside diffusers' own networks: score against CPU-minutes, same data, states and loss.

    python benchmarks/peers.py --systems ours
    python benchmarks/peers.py --systems unet transformer:0.001      # at the same time, if you like

trains the shipped recipes, a stock U-Net and a stock transformer (`generators.stock`) on one thread
each, and stores a row in book/results/peers.json for each number of CPU-minutes that `--minutes`
names. The CPU time is that of training alone: the pictures' latents and the captions' states are
computed once for all, and judging is not counted. Each system learns at a steady rate; for a row it
branches off at half of the row's minutes, and the rate falls to the end in the rest, so that a row
is worth what a run of that length is worth.

Stored rows are not run again, a run that was stopped goes on, and commands for different systems
may run beside each other. `system:RATE` takes another learning rate than the system's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from rows import Table
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Subset
from torch.utils.flop_counter import FlopCounterMode

from vislm_tutorial import VisLMPipeline
from vislm_tutorial._drawing import stochastic_scheduler
from vislm_tutorial._files import replaced_when_complete
from vislm_tutorial.encoders import CachedEncoder
from vislm_tutorial.evaluation import GENEVAL_TASKS, evaluate
from vislm_tutorial.fusion import build_fusion
from vislm_tutorial.generators import Autoencoder, FlowGenerator
from vislm_tutorial.generators.config import build_backbone
from vislm_tutorial.generators.stock import stock_transformer, stock_unet
from vislm_tutorial.training import TrainingConfig, checkpoint, train
from vislm_tutorial.training.datasets import (
    PreparedCaptions,
    first,
    load_images,
    prepare_pictures,
    split_rows,
)
from vislm_tutorial.training.recipe import Recipe, load_recipe
from vislm_tutorial.training.text_to_image import TextToImage, build_model

RESULTS = Path(__file__).parents[1] / "book" / "results" / "peers.json"
MINUTES = (2.0, 5.0, 10.0, 20.0, 40.0)
BATCH = 48  # smaller than the recipe's: the runs are shorter, and need their steps
FALL = 0.5  # share of a row's time in which the rate falls
BAR = 1 / 3  # of a peer's CPU-minutes, in which ours should be as good
OURS = ("ours", "ours-narrow")  # those that race; our network with AdamW only explains
SEED = 1  # of the prompts, as in sampling.py: not those of `vislm evaluate`
PIECE = 5.0  # minutes between checkpoints: what a kill can lose
MATMUL = 1024  # side of the matrices whose product is the machine's peak

# The optimiser that diffusers' own text-to-image training script sets, its warm-up included; the
# averaged weights forget as fast as ours, since its 0.9999 would remember the random start.
STOCK = TrainingConfig(
    learning_rate=1e-4, warmup_steps=500, betas=(0.9, 0.999), weight_decay=0.01, ema_decay=0.999
)


@dataclass(frozen=True)
class System:
    """What is trained: how to build its backbone, how it learns, the rates tried by itself."""

    backbone: Callable[[int, int, int], torch.nn.Module] | None  # None: the recipe's own
    training: TrainingConfig
    rates: tuple[float, ...]


def systems(recipe: Recipe) -> dict[str, System]:
    """By name; stock networks at their usual rate and at ten times that.

    The narrow U-Net is two thirds as wide as the stock one, and ours, the recipe `small`, half as
    wide as `scenes`; a step costs about half. `unet-muon` is the stock U-Net with our optimiser and
    `ours-adamw` our network with theirs: what of a difference is the network's, and what the
    optimiser's.

    The transformer sees every cell of the latents, as ours does, or has the library's patches of
    2 x 2 cells, which cost a quarter and see less.
    """
    ours, small = recipe.training, load_recipe("small")
    return {
        "ours": System(None, ours, (1e-2,)),
        "ours-narrow": System(partial(build_backbone, small.generator), small.training, (1e-2,)),
        "ours-adamw": System(None, STOCK, (1e-3,)),
        "unet": System(stock_unet, STOCK, (1e-4, 1e-3)),
        "unet-narrow": System(partial(stock_unet, widths=(48, 96)), STOCK, (1e-3,)),
        "unet-muon": System(stock_unet, ours, (1e-2,)),
        "transformer": System(stock_transformer, STOCK, (1e-4, 1e-3)),
        "transformer-patch2": System(partial(stock_transformer, patch_size=2), STOCK, (1e-4, 1e-3)),
    }


@dataclass(frozen=True)
class Shared:
    """What all systems have in common."""

    recipe: Recipe
    encoder: CachedEncoder
    autoencoder: Autoencoder
    pairs: Subset


def prepare(recipe: Recipe, runs: Path) -> Shared:
    """Latents and the captions' states, computed by the first command that asks."""
    pipe = VisLMPipeline.from_bundled()
    dataset = load_images(recipe.data)
    rows, _ = split_rows(len(dataset), recipe.data)
    encoder, path = CachedEncoder(pipe.encoder), runs / f"pictures-{len(dataset)}.safetensors"
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / "prepare.lock"):
        if not path.is_file():
            latents = prepare_pictures(dataset, pipe.generator)
            with replaced_when_complete(path) as temporary:
                save_file({"pictures": latents}, temporary)
        encoder.encode_many([*dataset.captions, ""])
    pictures, drop = load_file(path)["pictures"], recipe.caption_dropout
    pairs = PreparedCaptions(pictures, list(dataset.captions), encoder, drop)
    return Shared(recipe, encoder, pipe.autoencoder, Subset(pairs, rows))


def build(system: System, shared: Shared) -> TextToImage:
    """Fusion and generator with fresh weights."""
    recipe, autoencoder = shared.recipe, shared.autoencoder
    if system.backbone is None:
        return build_model(recipe, shared.encoder, autoencoder)
    side, channels = autoencoder.cells(recipe.data.image_size), autoencoder.config.latent_channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        fusion = build_fusion(recipe.fusion, shared.encoder.width)
        backbone = system.backbone(side, channels, recipe.fusion.width)
    return TextToImage(fusion, FlowGenerator(backbone))


# Training, by the clock of the CPU


class Interrupted(RuntimeError):
    """The loop was told to stop, and can be taken up again."""


def advance(
    model: TextToImage, pairs: Subset, config: TrainingConfig, folder: Path, until: float = 0.0
) -> tuple[int, float]:
    """Trains to `until` CPU-seconds, or with 0 to the end; returns steps and seconds so far.

    The loop counts the clock on the wall, which is at least the time of one thread: so it is given
    what is left, in pieces, until next to nothing is.
    """
    clock = folder / "cpu.json"
    done = json.loads(clock.read_text()) if clock.is_file() else {"step": 0, "seconds": 0.0}
    while until - done["seconds"] > max(0.5, 0.005 * until) or (until == 0 and "end" not in done):
        left = min(PIECE, (until - done["seconds"]) / 60) if until else PIECE
        start = time.process_time()
        result = train(
            model,
            pairs,
            replace(config, max_minutes=left),
            folder,
            collate=first,
            progress=False,
        )
        seconds = done["seconds"] + time.process_time() - start
        done = {"step": result.step, "seconds": seconds}
        if result.stopped == "done":
            done["end"] = True
        clock.write_text(json.dumps(done))
        if result.stopped == "signal":
            raise Interrupted(f"stopped at step {result.step}; the same command goes on")
    return done["step"], done["seconds"]


def branch(trunk: Path, folder: Path, steady: TrainingConfig, seconds: float) -> TrainingConfig:
    """A run in `folder` that goes on from the trunk with a falling rate for `seconds` more."""
    saved = checkpoint.load(checkpoint.latest(trunk))
    spent = json.loads((trunk / "cpu.json").read_text())["seconds"]
    more = max(1, round(saved.step * seconds / spent))
    config = replace(
        steady,
        steps=saved.step + more,
        decay_steps=more,
        warmup_steps=min(steady.warmup_steps, saved.step),
        schedule="trapezoid",
        final_lr_fraction=0.02,
    )
    if checkpoint.latest(folder) is None:
        record = {**saved.meta, "config": json.loads(json.dumps(asdict(config)))}
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(folder, replace(saved, meta=record), keep=1)
    return config


def steady(system: System, rate: float, recipe: Recipe) -> TrainingConfig:
    """The system's settings on the trunk: the recipe's batch, no end in sight."""
    return replace(
        system.training,
        learning_rate=rate,
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        steps=10**8,
        schedule="constant",
        decay_steps=0,
        validate_every=0,
        sample_every=0,
        checkpoint_every=0,
        keep_checkpoints=1,
        log_every=100,
        compile=False,
    )


def run(
    name: str, rate: float, marks: list[float], shared: Shared, runs: Path, n: int
) -> Iterator[dict]:
    """The rows of one system at one learning rate, the shorter first."""
    system = systems(shared.recipe)[name]
    folder = runs / f"{name}-{rate:g}"
    model, config = build(system, shared), steady(system, rate, shared.recipe)
    flops = training_flops(model, shared, config.batch_size)
    for mark in sorted(marks):
        trunk, tip = folder / "trunk", folder / f"{mark:g}-minutes"
        step, spent = advance(model, shared.pairs, config, trunk, (1 - FALL) * 60 * mark)
        if spent >= 60 * mark:
            raise ValueError(
                f"{trunk} has had {spent / 60:.1f} CPU-minutes, too many for a row of {mark:g}; "
                "take another folder of runs to measure that."
            )
        falling = branch(trunk, tip, config, 60 * mark - spent)
        step, more = advance(model, shared.pairs, falling, tip)
        seconds, pictures = spent + more, step * config.batch_size
        peak = matmul_peak()
        row = {
            "system": name,
            "learning_rate": rate,
            "minutes": mark,
            "cpu_minutes": round(seconds / 60, 3),
            "steps": step,
            "pictures": pictures,
            "parameters": sum(p.numel() for p in model.parameters()),
            "images_per_second": round(pictures / seconds, 2),
            "step_gflops": round(flops / 1e9, 2),
            "peak_gflops": round(peak / 1e9, 2),
            "training_share": round(flops * step / seconds / peak, 4),
        }
        yield row | judged(model, shared, peak, n)
        shutil.rmtree(tip)


# Judging


def judged(model: TextToImage, shared: Shared, peak: float, n: int) -> dict:
    """ExactEval's scores, and how much of the machine drawing uses: with the package's settings."""
    network = model.generator.network
    parts = (model.fusion, network, stochastic_scheduler(), shared.autoencoder)
    pipe = VisLMPipeline(*parts, shared.encoder.encoder)
    pipe.set_progress_bar_config(disable=True)
    drawing = 0.0

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        nonlocal drawing
        start = time.process_time()
        noise = torch.Generator().manual_seed(seed)
        images = pipe(captions, generator=noise, output_type="pt").images
        drawing += time.process_time() - start
        return images

    try:
        result = evaluate(draw, GENEVAL_TASKS, n=n, seed=SEED)
        captions = [one.text for one in result.results[::n]]  # one of each task
        flops = counted(lambda: pipe(captions, output_type="pt")) / len(captions)
    finally:
        for part in (model.fusion, network):  # a pipeline freezes its parts
            part.train().requires_grad_(True)
    overall, seconds = result.overall, drawing / result.overall.n
    return {
        "score": round(overall.value, 4),
        "low": round(overall.low, 4),
        "high": round(overall.high, 4),
        "single": round(result.scores["single_object"].value, 4),
        "prompts": overall.n,
        "drawn_per_second": round(1 / seconds, 2),
        "picture_gflops": round(flops / 1e9, 2),
        "sampling_share": round(flops / seconds / peak, 4),
    }


def matmul_peak(seconds: float = 1.0) -> float:
    """Most FLOP/s of CPU time that float32 products of square matrices reach on one thread."""
    a, b = torch.randn(2, MATMUL, MATMUL)
    best, end = 0.0, time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        torch.mm(a, b)
        best = max(best, 2 * MATMUL**3 / (time.process_time() - start))
    return best


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations in `work`; attention in parts, so that the counter knows them."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def training_flops(model: TextToImage, shared: Shared, batch_size: int) -> int:
    """Of one step, forward and backward, on the first pictures."""
    batch = shared.pairs.__getitems__(range(batch_size))[0]
    model.train()
    flops = counted(lambda: model(batch, torch.Generator().manual_seed(0)).backward())
    model.zero_grad(set_to_none=True)
    return flops


# Rows and verdict


def verdict(rows: list[dict]) -> list[dict]:
    """For each peer: its best score, when ours was as good, and that as a share of its minutes.

    `ours_minutes` and `ratio` are None where no row of ours is as good; `within_bar` says whether
    the ratio is at most a third. Of a peer's equally good rows the earliest counts.
    """
    found = []
    others = [row for row in rows if not row["system"].startswith("ours")]
    for peer in dict.fromkeys(row["system"] for row in others):
        best = min(
            (row for row in rows if row["system"] == peer),
            key=lambda row: (-row["score"], row["cpu_minutes"]),
        )
        as_good = [
            row["cpu_minutes"]
            for row in rows
            if row["system"] in OURS and row["score"] >= best["score"]
        ]
        minutes = min(as_good, default=None)
        ratio = None if minutes is None else round(minutes / best["cpu_minutes"], 3)
        found.append(
            {
                "peer": peer,
                "score": best["score"],
                "learning_rate": best["learning_rate"],
                "peer_minutes": best["cpu_minutes"],
                "ours_minutes": minutes,
                "ratio": ratio,
                "within_bar": ratio is not None and ratio <= BAR,
            }
        )
    return found


def _key(row: dict) -> tuple[str, float, float]:
    return row["system"], row["learning_rate"], row["minutes"]


def machine() -> str:
    """What the rows were measured on."""
    return f"{platform.machine()}, one thread of {os.cpu_count()} cores, torch {torch.__version__}"


def chosen(names: list[str], recipe: Recipe) -> list[tuple[str, float]]:
    """`unet` with each of its rates, `unet:0.001` with that one."""
    known, found = systems(recipe), []
    for name in names:
        name, _, rate = name.partition(":")
        if name not in known:
            raise SystemExit(f"no system {name!r}; choose some of {', '.join(known)}")
        found += [(name, float(each)) for each in ([rate] if rate else known[name].rates)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["ours", "unet", "transformer"])
    parser.add_argument("--minutes", nargs="+", type=float, default=list(MINUTES))
    parser.add_argument("--n", type=int, default=50, help="prompts a task (default 50)")
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--pictures", type=int, help="fewer than the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"))
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the measure is CPU time
    torch.set_num_threads(1)
    recipe = load_recipe("scenes")
    training = replace(recipe.training, batch_size=options.batch_size)
    recipe = replace(recipe, training=training)
    if options.pictures:
        recipe = replace(recipe, data=replace(recipe.data, size=options.pictures))
    every = systems(recipe)
    settings = {
        "n": options.n,
        "pictures": recipe.data.size,
        "batch": recipe.training.batch_size,
        "fall": FALL,
        "optimiser": {
            name: {key: getattr(system.training, key) for key in _OPTIMISER}
            for name, system in every.items()
        },
    }
    shared = prepare(recipe, options.runs)
    table = Table(
        options.results,
        options.runs / "results.lock",
        settings,
        order=_key,
        header={"command": "python benchmarks/peers.py", "machine": machine()},
    )
    for name, rate in chosen(options.systems, recipe):
        stored = {_key(row) for row in table.rows()}
        marks = [mark for mark in options.minutes if (name, rate, mark) not in stored]
        if not marks:
            continue
        try:
            for row in run(name, rate, marks, shared, options.runs, options.n):
                table.add(row)
                print(json.dumps(row), flush=True)
        except FloatingPointError as error:  # the rate is too high for it: the others go on
            print(f"{name} {rate:g} diverged: {error}", flush=True)
        except Interrupted as told:
            raise SystemExit(f"{name} {rate:g}: {told}") from None
    for line in verdict(table.rows()):
        print(json.dumps(line))


_OPTIMISER = ("optimizer", "betas", "weight_decay", "warmup_steps", "ema_decay", "max_grad_norm")

if __name__ == "__main__":
    main()
