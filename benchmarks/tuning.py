"""What has to learn when new words come: each strategy on captions that the model never saw.

`python benchmarks/tuning.py minilm` teaches the shipped model the synonyms that training holds
out, once for each row below: fusion and generator stay frozen, the strategy's weights learn on
pictures of which half are captioned in the new words. It scores drawings of new and of old
captions, and stores a row at a time in book/results/tuning.json. `smollm2` does the same with
SmolLM2 behind the same generator, for which it first trains a fusion on old captions. `speed`
times and weighs each strategy's step, one after the other, on an otherwise idle machine.

Rows that are stored are not run again; `--rows` names some, `--list` shows them; `--workers` run
beside each other, and so may several calls of this command. On an H100 a row takes 10 to 40 s;
on two slow cores MiniLM's take about ten minutes each.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save_file

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.encoders import TokenReader, load_encoder
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.evaluation.control import share
from vislm_tutorial.pipeline import save_bundled
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.autoencoding import load_autoencoder
from vislm_tutorial.training.datasets import DataConfig, load_images, prepare_pictures
from vislm_tutorial.training.processes import make_accelerator
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, load_recipe, train_recipe
from vislm_tutorial.training.runlog import describe_machine
from vislm_tutorial.training.stepper import Stepper
from vislm_tutorial.training.text_to_image import build_model, load_weights
from vislm_tutorial.tuning import AdaLoRA, Adapters, Full, LoRA, TopLayers, ranks_left

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LANGUAGE_MODELS = ("minilm", "smollm2")
ADALORA = AdaLoRA(every=2)
FUSION = "fusion only"
# Row -> what of the language model learns, whether the fusion learns too, rates to try.
ROWS = {
    "frozen": (None, False, (0.0,)),
    "top layer": (TopLayers(), False, (3e-4, 1e-3, 3e-3)),
    "full": (Full(), False, (3e-5, 1e-4, 3e-4)),
    "adapters": (Adapters(), False, (1e-3, 3e-3, 1e-2)),
    "LoRA": (LoRA(), False, (1e-3, 3e-3, 1e-2)),
    "AdaLoRA": (ADALORA, False, (3e-3, 1e-2, 3e-2)),
    FUSION: (None, True, (3e-4, 1e-3, 3e-3)),
    "fusion and LoRA": (LoRA(), True, (1e-3, 3e-3)),
}
NEW, OLD = "synonyms", "colours"  # ExactEval's tasks: the same requests in new and in old words
BASE_RATE, BASE_PICTURES = 1.2e-3, 20_000
SAMPLING_STEPS, EVALUATION_BATCH = 12, 200
TIMED_STEPS, WARM_STEPS = 20, 5
MICRO_TOKENS = 12  # of a caption in `speed`


def training(options: argparse.Namespace, steps: int, rate: float) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        batch_size=options.batch_size,
        learning_rate=rate,
        warmup_steps=min(20, steps // 4),
        betas=(0.9, 0.98),
        weight_decay=0.0,
        ema_decay=0.0,  # the rate falls to 0, which averages enough; AdaLoRA's ranks need it
        precision="fp32",
        compile=False,  # takes longer than such a short run saves
        checkpoint_every=0,
        log_every=max(1, steps // 20),
    )


def base_recipe(model: str, options: argparse.Namespace) -> Recipe:
    """The shipped generator, frozen, behind a fusion that learns old captions."""
    scenes = load_recipe("scenes")
    return replace(
        scenes,
        name=f"tuning-{model}",
        data=replace(scenes.data, size=options.base_pictures, validation=64, alike=0.0),
        encoder=EncoderConfig(model, "mean"),
        autoencoder_from="bundled",
        weights_from="bundled",
        weights_of=("generator",),
        freeze=("generator",),
        training=training(options, options.base_steps, BASE_RATE),
    )


def row_recipe(model: str, row: str, rate: float, options: argparse.Namespace) -> Recipe:
    """From the model's base on, with a row's weights alone learning."""
    tuning, fusion_learns, _ = ROWS[row]
    source = "bundled" if model == "minilm" else str(base_folder(model, options))
    return replace(
        base_recipe(model, options),
        data=DataConfig(size=options.pictures + 64, seed=1, validation=64, synonyms=0.5),
        autoencoder_from=source,
        weights_from=source,
        weights_of=("fusion", "generator"),
        freeze=("generator",) if fusion_learns else ("fusion", "generator"),
        tuning=tuning,
        training=training(options, options.steps, rate),
    )


def base_folder(model: str, options: argparse.Namespace) -> Path:
    return options.runs / f"base-{model}" / "pipeline"


def prepare(model: str, options: argparse.Namespace) -> None:
    """What all rows of a model share: its base, and the pictures as latents."""
    options.runs.mkdir(parents=True, exist_ok=True)
    with FileLock(options.runs / "prepare.lock"):
        base = base_folder(model, options)
        if model != "minilm" and not base.is_dir():
            train_recipe(base_recipe(model, options), base.parent, say=print)
            save_bundled(base.parent, base)
        pictures = shared_pictures(options)
        if not pictures.is_file():
            data = row_recipe(model, "LoRA", 1e-3, options).data
            generator = load_generator()
            save_file(
                {"pictures": prepare_pictures(load_images(data), generator, DEVICE)}, pictures
            )


def shared_pictures(options: argparse.Namespace) -> Path:
    return options.runs / f"pictures-{options.pictures}.safetensors"


def load_generator():
    """The shipped generator; its autoencoder makes the latents that every base draws."""
    return VisLMPipeline.from_bundled().to(DEVICE).generator


def run(model: str, row: str, rate: float, options: argparse.Namespace) -> dict:
    """One row: teach, save, load again, draw, judge."""
    start = time.monotonic()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - bars of rows side by side
    folder = options.runs / f"{model}-{row}-{rate:g}-{os.getpid()}".replace(" ", "_")
    try:
        return {
            "model": model,
            "row": row,
            "rate": rate,
            **_taught(model, row, rate, folder, options),
            "device": device_name(),
            "seconds": round(time.monotonic() - start, 1),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _taught(model: str, row: str, rate: float, folder: Path, options) -> dict:
    if row == "frozen":
        source = base_folder(model, options)
        pipe = (
            VisLMPipeline.from_bundled()
            if model == "minilm"
            else VisLMPipeline.from_pretrained(source)
        )
        learned = {"trainable": 0, "saved_bytes": 0, "log": []}
    else:
        recipe = row_recipe(model, row, rate, options)
        folder.mkdir(parents=True)
        os.link(shared_pictures(options), folder / "pictures.safetensors")
        result = train_recipe(recipe, folder, say=lambda line: None)
        VisLMPipeline.from_run(folder).save_pretrained(folder / "pipeline")
        # Judged as somebody else would load it.
        pipe = VisLMPipeline.from_pretrained(folder / "pipeline")
        parts = (["encoder"] if recipe.tuning else []) + (["fusion"] if ROWS[row][1] else [])
        files = [f for part in parts for f in (folder / "pipeline" / part).glob("*.safetensors")]
        log = (folder / "generator" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        keep = ("step", "loss", "rank")
        learned = {
            "trainable": trainable(recipe, pipe),
            "saved_bytes": sum(file.stat().st_size for file in files),
            "log": [{k: line[k] for k in keep if k in line} for line in map(json.loads, log)],
            "steps": result.step,
            "batch_size": options.batch_size,
            "pictures": options.pictures,
            "tuning": recipe.tuning and asdict(recipe.tuning),
        }
        if isinstance(recipe.tuning, AdaLoRA):
            learned["ranks"] = ranks_left(pipe.encoder)
    pipe = pipe.to(DEVICE)
    return learned | {
        "of": sum(p.numel() for p in pipe.encoder.model.parameters()),
        **scores(pipe, options.prompts),
    }


def trainable(recipe: Recipe, pipe: VisLMPipeline) -> int:
    weights = dict(pipe.encoder.model.named_parameters())
    numbers = sum(weights[name].numel() for name in pipe.encoder.learned)
    if "fusion" not in recipe.freeze:
        numbers += sum(p.numel() for p in pipe.fusion.parameters())
    return numbers


def scores(pipe: VisLMPipeline, prompts: int) -> dict:
    """Shares of right drawings with Wilson's interval, for new and for old words."""
    pipe.set_progress_bar_config(disable=True)

    def draw(captions: list[str], seed: int):
        noise = [torch.Generator().manual_seed(1000 * seed + i) for i in range(len(captions))]
        options = {"num_inference_steps": SAMPLING_STEPS, "output_type": "pt"}
        return pipe(captions, generator=noise, **options).images.cpu()

    judged = evaluate(draw, (NEW, OLD), n=prompts, batch_size=EVALUATION_BATCH)
    return {
        name: asdict(share([r.correct for r in judged.results if r.task == task]))
        for name, task in (("new", NEW), ("old", OLD))
    }


def speed(model: str, row: str, options: argparse.Namespace) -> dict:
    """Pictures a second and peak memory of a row's training step, with nothing beside it."""
    recipe = row_recipe(model, row, 1e-4, options)
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    encoder = load_encoder(model, "mean", device=DEVICE)
    network = build_model(recipe, encoder, load_autoencoder(recipe.autoencoder_from))
    load_weights(network, recipe.weights_from)
    stepper = Stepper(network, recipe.training, make_accelerator(options.runs, ()))
    captions = [" ".join(["red"] * (MICRO_TOKENS - 3))] * options.batch_size
    reader = TokenReader(encoder) if recipe.tuning else encoder
    batch = {
        "pictures": torch.randn(options.batch_size, *latent_shape(network)),
        "states": reader.encode(captions),
    }
    batches = iter(lambda: batch, None)
    for step in range(WARM_STEPS + options.timed_steps):
        if step == WARM_STEPS:
            wait()
            start = time.perf_counter()
        stepper.update(step, batches)
    wait()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if CUDA else peak_of_process()
    return {
        "model": model,
        "row": row,
        "batch_size": options.batch_size,
        "images_per_second": round(options.timed_steps * options.batch_size / seconds, 1),
        "memory_gib": round(peak / 2**30, 3),
        "memory_is": "most allocated on the GPU" if CUDA else "the process's largest resident set",
        "device": device_name(),
    }


def latent_shape(network) -> tuple[int, int, int]:
    config = network.generator.backbone.config
    return config.in_channels, config.sample_size, config.sample_size


def peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB elsewhere


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def device_name() -> str:
    return torch.cuda.get_device_name() if CUDA else f"{os.cpu_count()} CPU cores"


def stored(path: Path) -> dict:
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    command = "python benchmarks/tuning.py minilm smollm2; python benchmarks/tuning.py speed"
    return {"command": command, "new": NEW, "old": OLD, "rows": [], "speed": []}


def store(path: Path, lock: Path, table: str, row: dict) -> None:
    """Adds a row to what is there by now: other processes write too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        results = stored(path)
        results[table] = [r for r in results[table] if key(r) != key(row)] + [row]
        results[table].sort(key=key)
        results |= describe_machine()
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def key(row: dict) -> tuple:
    return LANGUAGE_MODELS.index(row["model"]), [*ROWS].index(row["row"]), row.get("rate", 0.0)


def wanted(options: argparse.Namespace) -> list[tuple]:
    """(function, table, arguments) of what is to be run and not stored."""
    names = options.rows or [*ROWS]
    jobs = []
    if "speed" in options.what:
        models = [m for m in options.what if m != "speed"] or LANGUAGE_MODELS
        pairs = [(m, row) for m in models for row in names if row != "frozen"]
        jobs = [(speed, "speed", pair) for pair in pairs]
    else:
        # The slowest first, so that none is left over at the end.
        order = sorted(names, key=lambda name: name not in ("AdaLoRA", "full"))
        jobs = [
            (run, "rows", (m, row, r))
            for m in options.what
            for row in order
            for r in ROWS[row][2]
            if not options.rates or r in options.rates
        ]
    results = stored(options.output)
    done = {table: {key(row) for row in results[table]} for table in ("rows", "speed")}
    fields = ("model", "row", "rate")
    return [job for job in jobs if key(dict(zip(fields, job[2], strict=False))) not in done[job[1]]]


def show(path: Path) -> None:
    results = stored(path)
    for row in results["rows"]:
        shares = "  ".join(
            f"{name} {row[name]['value']:.3f} [{row[name]['low']:.3f}, {row[name]['high']:.3f}]"
            for name in ("new", "old")
        )
        print(
            f"{row['model']:8} {row['row']:16} {row['rate']:<8g} {row['trainable']:>11,} "
            f"{row['saved_bytes'] / 1e6:8.2f} MB  {shares}  {row['seconds']:5.1f} s"
        )
    for row in results["speed"]:
        print(
            f"{row['model']:8} {row['row']:16} {row['images_per_second']:8.1f} images/s "
            f"{row['memory_gib']:7.2f} GiB  {row['device']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*LANGUAGE_MODELS, "speed"])
    parser.add_argument("--rows", nargs="*", choices=[*ROWS], help="some of them; else all")
    parser.add_argument("--rates", nargs="*", type=float, help="some of a row's; else all")
    parser.add_argument("--list", action="store_true", help="show what would be run, and end")
    parser.add_argument("--workers", type=int, default=1, help="rows beside each other")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--pictures", type=int, default=7200)
    parser.add_argument("--base-steps", type=int, default=1000)
    parser.add_argument("--base-pictures", type=int, default=BASE_PICTURES)
    parser.add_argument("--prompts", type=int, default=200, help="of each kind")
    parser.add_argument("--timed-steps", type=int, default=TIMED_STEPS)
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"))
    parser.add_argument("-o", "--output", type=Path, default=Path("book/results/tuning.json"))
    options = parser.parse_args()
    jobs = wanted(options)
    if options.list:
        for job in jobs:
            print(*job[2])
        return
    for model in dict.fromkeys(job[2][0] for job in jobs):
        prepare(model, options)
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    timing = "speed" in options.what  # one at a time; a CPU process's peak is that of its life
    alone = {"max_tasks_per_child": 1} if timing and not CUDA else {}
    with ProcessPoolExecutor(1 if timing else options.workers, mp_context=spawn, **alone) as pool:
        waiting = {pool.submit(job, *what, options): (t, what) for job, t, what in jobs}
        failed = []
        for finished in as_completed(waiting):
            table, what = waiting[finished]
            if (problem := finished.exception()) is not None:
                failed.append(what)
                print(f"{what} failed: {problem!r}", file=sys.stderr, flush=True)
            else:
                store(options.output, options.runs / "results.lock", table, finished.result())
    show(options.output)
    if failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    main()
