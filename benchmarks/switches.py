"""Which switch pays on this machine: `python benchmarks/switches.py`, under two minutes on a GPU.

Trains the generator's stage of `scenes` (a U-Net over latents) at two batch sizes, and on a GPU
that of `pixels`, once for each switch: images a second (median of windows, after a warm-up), peak
memory, and whether the loss came out the same. "plain" is float32 with all switches off; on a GPU
a switch with a "+" is thrown beside half precision. The loader's rows read from the loader, the
others find their batches on the device. `-o book/results/switches.json` stores what page 5.12
shows: a row that the file holds for this device is not measured again, so a second call goes on
where the first had no time left.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from vislm_tutorial.encoders import CachedEncoder, load_encoder
from vislm_tutorial.training.autoencoding import BUNDLED, load_autoencoder
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.data import StepSampler, make_loader
from vislm_tutorial.training.datasets import PreparedCaptions, SceneImages, first, prepare_pictures
from vislm_tutorial.training.precision import BF16_CAPABILITY
from vislm_tutorial.training.recipe import Recipe, load_recipe
from vislm_tutorial.training.runlog import describe_machine
from vislm_tutorial.training.stepper import Stepper
from vislm_tutorial.training.text_to_image import build_model

OFF = {"precision": "fp32"} | dict.fromkeys(
    ("tf32", "compile", "checkpointing", "channels_last", "fused", "pin_memory"), False
)
PICTURES = 1024
KEPT = 8  # batches that wait on the device
TOLERANCE = 0.1  # of the loss: in twenty steps a difference in rounding grows to some per cent
COMPARED = 5  # last steps before the windows, whose mean loss is compared
FROM_LOADER = ("loader", "loader + pinned")
COMPILED = ("+ compile", "all")
COLUMNS = ("problem", "batch", "switch", "images/s", "windows", "memory", "first", "loss", "skip")
FORMAT = "{:>7} {:>5} {:>16} {:>9} {:>19} {:>8} {:>6} {:>7} {:>4}"


def switches(cuda: bool) -> dict[str, dict]:
    """Name of a row -> what it changes in OFF, in the order of the table."""
    if not cuda:
        thrown = ("fused", "channels_last", "checkpointing", "compile")
        return {"plain": {}} | {f"+ {name}": {name: True} for name in thrown}
    modern = torch.cuda.get_device_capability()[0] >= BF16_CAPABILITY
    half = {"precision": "auto"}
    rows = {"plain": {}, "fp16": {"precision": "fp16"}}
    if modern:
        rows |= {"tf32": {"tf32": True}, "bf16": {"precision": "bf16"}}
    for name in ("fused", "channels_last", "checkpointing", "compile"):
        rows[f"+ {name}"] = half | {name: True}
    rows["loader"], rows["loader + pinned"] = half, half | {"pin_memory": True}
    rows["all"] = half | dict.fromkeys(("fused", "channels_last", "compile"), True)
    return rows


def plan(cuda: bool) -> list[tuple[str, int, str]]:
    """(recipe, batch size, row) of each measurement; what must compile comes last."""
    sizes = [("scenes", 32), ("scenes", 256), ("pixels", 256)] if cuda else [("scenes", 32)]
    rows = [(*size, name) for size in sizes for name in switches(cuda)]
    return sorted(rows, key=lambda row: COMPILED.index(row[2]) if row[2] in COMPILED else -1)


class Problem:
    """The last stage of a recipe, on a part of its data."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        images = SceneImages(PICTURES, recipe.data.seed, recipe.data.image_size)
        self.autoencoder = load_autoencoder(BUNDLED) if recipe.autoencoder is not None else None
        self.encoder = CachedEncoder(
            load_encoder(recipe.encoder.name, layers=recipe.encoder.layers, device=device), folder
        )
        self.encoder.encode_many([*images.captions, ""], progress=False)
        self.encoder.model.to("cpu")
        generator = self.build().generator.behind(self.autoencoder)
        pictures = prepare_pictures(images, generator.to(device), device)
        self.pairs: Dataset = PreparedCaptions(
            pictures, images.captions, self.encoder, recipe.caption_dropout
        )

    def build(self) -> torch.nn.Module:
        """Fusion and generator with the recipe's first weights."""
        return build_model(self.recipe, self.encoder, self.autoencoder)

    def batches(self, config: TrainingConfig, pinned: bool) -> Iterator[dict]:
        """As the loop's own loader gives them, for ever."""
        sampler = StepSampler(len(self.pairs), config.batch_size, config.seed, 0, 10**9)
        return iter(make_loader(self.pairs, sampler, collate=first, pin_memory=pinned))


def measure(problem: Problem, size: int, name: str, options: argparse.Namespace) -> dict:
    """One row of the table."""
    device, cuda = problem.device, problem.device.type == "cuda"
    settings = OFF | switches(cuda)[name]
    config = replace(
        problem.recipe.training, batch_size=size, schedule="constant", warmup_steps=10, **settings
    )
    stepper = Stepper(problem.build(), config, Accelerator(cpu=not cuda))
    batches = problem.batches(config, settings["pin_memory"])
    if name not in FROM_LOADER:
        waiting = [send(next(batches), device) for _ in range(KEPT)]
        batches = itertools.cycle(waiting)
    steps = itertools.count()

    def run(n: int) -> float:
        """Seconds that n steps take, the device's work included."""
        finish(cuda)
        start = time.perf_counter()
        for _ in range(n):
            stepper.update(next(steps), batches)
        finish(cuda)
        return time.perf_counter() - start

    first_step = run(1)
    run(options.steps - 1)
    loss = torch.stack(stepper.losses[-COMPARED:]).mean().item()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    each = max(1, round(options.window / run(2) * 2))
    rates = [each * size / run(each) for _ in range(options.windows)]
    return {
        "device": device_name(device),
        "problem": problem.recipe.name,
        "batch": size,
        "switch": name,
        "images_per_second": round(statistics.median(rates), 1),
        "slowest": round(min(rates), 1),
        "fastest": round(max(rates), 1),
        "windows": len(rates),
        "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else None,
        "first_step_seconds": round(first_step, 2),
        "loss": round(loss, 5),
        "loss_after_steps": options.steps,
        "skipped": stepper.skipped,
        "precision": stepper.precision.reason,
    }


def send(batch: dict, device: torch.device) -> dict:
    """The batch on the device."""
    return {name: value.to(device) for name, value in batch.items()}


def finish(cuda: bool) -> None:
    """Waits until the device has done what it was told."""
    if cuda:
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    """As the table calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def show(row: dict) -> None:
    """One printed line."""
    if "error" in row:
        print(f"{row['problem']:>7} {row['batch']:>5} {row['switch']:>16} {row['error']}")
        return
    memory = f"{row['peak_mib']} MiB" if row["peak_mib"] else ""
    print(
        FORMAT.format(
            row["problem"],
            row["batch"],
            row["switch"],
            f"{row['images_per_second']:.1f}",
            f"{row['slowest']:.1f} - {row['fastest']:.1f}",
            memory,
            f"{row['first_step_seconds']:.1f} s",
            f"{row['loss']:.4f}",
            row["skipped"],
        ),
        flush=True,
    )


def unequal(rows: list[dict]) -> list[str]:
    """The rows whose loss is not that of the plain one on the same problem and device."""

    def place(row: dict) -> tuple:
        return row["device"], row["problem"], row["batch"], row["loss_after_steps"]

    rows = [row for row in rows if "error" not in row and row["switch"] not in FROM_LOADER]
    plain = {place(row): row["loss"] for row in rows if row["switch"] == "plain"}
    return [
        f"{row['problem']} {row['batch']} {row['switch']}: loss {row['loss']}, not {right}"
        for row in rows
        if (right := plain.get(place(row))) and abs(row["loss"] / right - 1) > TOLERANCE
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="before the windows (default 20)")
    parser.add_argument("--windows", type=int, default=5, help="of timing (default 5)")
    parser.add_argument("--window", type=float, default=0.2, help="seconds of one (default 0.2)")
    parser.add_argument("--seconds", type=float, default=100, help="begin no row after (100)")
    parser.add_argument("--only", help="names of rows, separated by commas")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    cuda, start = torch.cuda.is_available(), time.perf_counter()
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    stored = {"runs": {}, "rows": []}
    if options.output and options.output.is_file():
        stored = json.loads(options.output.read_text(encoding="utf-8"))
    done = {(r["device"], r["problem"], r["batch"], r["switch"]) for r in stored["rows"]}
    wanted = options.only.split(",") if options.only else list(switches(cuda))
    problems: dict[str, Problem] = {}
    print(device_name(device))
    print(FORMAT.format(*COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for recipe, size, name in plan(cuda):
            if (device_name(device), recipe, size, name) in done or name not in wanted:
                continue
            if time.perf_counter() - start > options.seconds:
                break
            if recipe not in problems:
                problems[recipe] = Problem(load_recipe(recipe), Path(folder), device)
            row = attempt(problems[recipe], size, name, options)
            show(row)
            stored["rows"].append(row)
            keep(options.output, stored, device, done=time.perf_counter() - start)
    if wrong := unequal(stored["rows"]):
        sys.exit("A switch changed the loss:\n" + "\n".join(wrong))


def attempt(problem: Problem, size: int, name: str, options: argparse.Namespace) -> dict:
    """The row, or what went wrong in its place: one that fails must not cost the others."""
    try:
        return measure(problem, size, name, options)
    except Exception as error:
        row = {"device": device_name(problem.device), "problem": problem.recipe.name}
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return row | {"batch": size, "switch": name, "error": text[:300]}
    finally:
        if name in COMPILED:
            torch.compiler.reset()
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def keep(path: Path | None, stored: dict, device: torch.device, done: float) -> None:
    """Writes the file anew. Rows that failed are not kept, so that they are tried again."""
    if path is None:
        return
    command = shlex.join(["python", "benchmarks/switches.py", *sys.argv[1:]])
    stored["runs"][device_name(device)] = {
        "command": command,
        "seconds": round(done, 1),
        **describe_machine(),
    }
    kept = stored | {"rows": [row for row in stored["rows"] if "error" not in row]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
