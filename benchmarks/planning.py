"""Is the planner right? `python benchmarks/planning.py`, six minutes; a minute with a GPU.

Peak memory and seconds of a step, predicted on fake tensors and measured in the package's own
training step (`Stepper.update`): on this CPU for three networks at several batch sizes, and where
there is a GPU for the recipe `scenes` in float32 and bfloat16. On a CPU each row is measured in
three rounds, with prices taken on the spot, and the round counts whose ratio of times is the middle
one; on a GPU the prices are those of `vislm_tutorial.planning.MACHINES`.

    python benchmarks/planning.py -o book/results/planning.json     what page 5.11 plots

With `-o` a CPU also stores what the planner says of each recipe on three GPUs.

A row that is stored is not measured again, unless `--again` is given: then all rows of this device
are. `--predict-again` measures nothing: it renews what is predicted for the stored rows of GPUs and
for the recipes, as after a change of the planner. That needs no GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from torch._subclasses.fake_tensor import FakeTensorMode

from vislm_tutorial.planning import MACHINES, Machine, find_machine, plan
from vislm_tutorial.planning.counting import Count
from vislm_tutorial.planning.probes import clock, price_of_a_call
from vislm_tutorial.planning.stages import Stage, stages
from vislm_tutorial.planning.timing import seconds
from vislm_tutorial.planning.updates import count_step
from vislm_tutorial.training.precision import choose_precision
from vislm_tutorial.training.processes import make_accelerator
from vislm_tutorial.training.recipe import Recipe, load_recipe
from vislm_tutorial.training.stepper import Stepper

PLANNED_RECIPES = ("quick", "scenes", "scenes-smollm2", "pixels", "cvae", "cgan", "image_gpt")
PLANNED_MACHINES = ("t4", "a100", "h100")
KEY = ("device", "network", "stage", "batch", "precision")
ROUNDS = 3  # of a row on a CPU
CPU_BATCHES, GPU_BATCHES = (2, 8, 32, 128), (32, 128, 256, 512)


def recipe_for(network: str, batch: int, precision: str) -> Recipe:
    """The recipe `scenes` with AdamW, and with another backbone, batch and number format."""
    recipe = load_recipe("scenes")
    options = {"batch_size": batch, "precision": precision, "compile": False, "optimizer": "adamw"}
    return replace(
        recipe,
        generator=replace(recipe.generator, backbone=network),
        training=replace(recipe.training, **options),
        autoencoder_training=replace(recipe.autoencoder_training, **options),
    )


def chosen(recipe: Recipe, name: str) -> Stage:
    """The stage of that name."""
    return next(stage for stage in stages(recipe) if stage.name == name)


def predicted(recipe: Recipe, name: str, machine: Machine) -> Count:
    """One step of a stage, counted."""
    kind = "cuda" if machine.is_gpu else "cpu"
    with FakeTensorMode(allow_non_fake_inputs=True):
        stage = chosen(recipe, name)
        precision = choose_precision(stage.training.precision, kind, machine.capability)
        model, batch = stage.build(stage.training.batch_size)
        return count_step(model, batch, stage.training, precision, machine.is_gpu)


class Measured:
    """The same step, made."""

    def __init__(self, recipe: Recipe, name: str) -> None:
        stage = chosen(recipe, name)
        self.training = stage.training
        self.model, self.batch = stage.build(stage.training.batch_size)
        self.folder = tempfile.TemporaryDirectory()
        self.accelerator = make_accelerator(Path(self.folder.name), ())
        self.device = self.accelerator.device
        self.done = 0

    def start(self) -> None:
        """Optimiser and average; the batch stays where the model is, so reading is not measured."""
        self.stepper = Stepper(self.model, self.training, self.accelerator)
        self.batch = send_to_device(self.batch, self.device)

    def step(self) -> None:
        """One update."""
        self.stepper.update(self.done, iter([self.batch] * self.training.gradient_accumulation))
        self.stepper.clear_window()
        self.done += 1

    def seconds(self, repeats: int) -> float:
        """The median of some windows; on a GPU each of ten steps, with what is still under way."""
        on_gpu = self.device.type == "cuda"
        window, now = (10, time.perf_counter) if on_gpu else (1, clock)
        for _ in range(2 * window):
            self.step()
        times = []
        for _ in range(repeats):
            torch.cuda.synchronize() if on_gpu else None
            start = now()
            for _ in range(window):
                self.step()
            torch.cuda.synchronize() if on_gpu else None
            times.append((now() - start) / window)
        return statistics.median(times)

    def peak(self) -> int:
        """Bytes at the peak of the third step; begins the run."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start()
            for _ in range(3):
                self.step()
            return torch.cuda.max_memory_allocated()
        before = [*self.model.parameters(), *self.model.buffers(), *tensors(self.batch)]
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            self.start()
            for _ in range(3):
                self.step()
        # What was there before the profiler began it does not know.
        known = sum(tensor.numel() * tensor.element_size() for tensor in before)
        return known + profiled_peak(profiler)


def tensors(batch) -> list[torch.Tensor]:
    """The tensors of a batch."""
    values = batch.values() if isinstance(batch, dict) else vars(batch).values()
    found = []
    for value in values:
        found += [value] if isinstance(value, torch.Tensor) else tensors(value)
    return found


def profiled_peak(profiler: torch.profiler.profile) -> int:
    """The most bytes that PyTorch's CPU allocator had given out at one time under the profiler."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    live, total, peak = {}, 0, 0
    calls = (event for event in events if event.get("name") == "[memory]")
    for event in sorted(calls, key=lambda event: event["ts"]):
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        # Not its own "Total Allocated": that keeps what was freed between two profilers.
        total -= live.pop(address, 0)
        if size > 0:
            live[address] = size
            total += size
        peak = max(peak, total)
    return peak


def row(key: dict, machine: Machine, repeats: int) -> dict:
    """One line of the table."""
    run = Measured(recipe_for(key["network"], key["batch"], key["precision"]), key["stage"])
    peak, took = run.peak(), run.seconds(repeats)
    return line_of(key, machine, peak, float(f"{took:.4g}"))


def row_of_cpu(key: dict, name: str | None) -> dict:
    """The line whose ratio of times is the middle one of `ROUNDS`, each with prices of its own.

    A shared machine is half as fast some minutes, or seconds, later.
    """
    lines = []
    for _ in range(ROUNDS):
        _, machine, prices = here(name)
        lines.append(row(key, machine, repeats=9) | {"prices": prices})
    return sorted(lines, key=lambda line: ratio(line["seconds"]))[ROUNDS // 2]


def ratio(seconds: dict) -> float:
    """Predicted by measured."""
    return seconds["predicted"] / seconds["measured"]


def line_of(key: dict, machine: Machine, peak: int, took: float) -> dict:
    """What is predicted for `key`, beside the bytes and seconds that were measured."""
    recipe = recipe_for(key["network"], key["batch"], key["precision"])
    count = predicted(recipe, key["stage"], machine)
    expected = seconds(count, machine)
    # cuBLAS keeps its workspace in the memory that PyTorch counts.
    memory = count.peak + (machine.workspace if machine.is_gpu else 0)
    return key | {
        "parameters": count.trainable,
        "memory": {
            "predicted": round(memory),
            "measured": peak,
            "parts": {part: round(size) for part, size in count.memory.items()},
        },
        "seconds": {
            "predicted": float(f"{expected.total:.4g}"),
            "measured": took,
            "calls": float(f"{expected.calls:.4g}"),
            "arithmetic": float(f"{expected.arithmetic:.4g}"),
            "memory": float(f"{expected.memory:.4g}"),
        },
        "gigaflops": round(count.flops / 1e9, 3),
        "gigabytes": round(count.bytes / 1e9, 4),
        "calls": count.calls,
        "views": count.views,
    }


def predict_again(stored: dict) -> dict:
    """`stored` with the present predictions for the rows of GPUs, whose prices are in a table."""

    def renewed(line: dict) -> dict:
        if line["device"] not in MACHINES:  # a CPU's prices were those of that hour
            return line
        key = {name: line[name] for name in KEY}
        was = line["memory"]["measured"], line["seconds"]["measured"]
        return line_of(key, MACHINES[line["device"]], *was)

    rows = [renewed(line) for line in stored["rows"]]
    predicted_by = {"command": command(), "torch": torch.__version__}
    machines = {
        name: about | ({"predicted_by": predicted_by} if name in MACHINES else {})
        for name, about in stored["machines"].items()
    }
    return {"machines": machines, "rows": rows, "plans": plans()}


def command() -> str:
    """As it was typed."""
    return shlex.join(["python", *sys.argv])


def plans(names: tuple[str, ...] = PLANNED_RECIPES) -> dict[str, dict[str, dict]]:
    """Recipe -> machine -> minutes and gigabytes, predicted: what a GPU would have to do."""
    found = {}
    for name in names:
        recipe = load_recipe(name)
        each = {machine: plan(recipe, machine) for machine in PLANNED_MACHINES}
        found[name] = {
            machine: {
                "minutes": float(f"{planned.minutes:.3g}"),
                "gigabytes": float(f"{max(s.count.peak for s in planned.stages) / 1e9:.3g}"),
                "bound": max(planned.stages, key=lambda stage: stage.minutes).seconds.bound,
            }
            for machine, planned in each.items()
        }
    return found


def keys(device: str, quick: bool) -> list[dict]:
    """What is to be measured on this machine."""
    if device != "cpu":
        wanted = [
            ("unet", "flow", batch, precision)
            for precision in ("fp32", "bf16")
            for batch in GPU_BATCHES
        ]
    else:
        networks = (("unet", "flow"), ("dit", "flow"), ("unet", "autoencoder"))
        wanted = [(*which, batch, "fp32") for which in networks for batch in CPU_BATCHES]
    wanted = wanted[:1] if quick else wanted
    return [dict(zip(KEY, (device, *each), strict=True)) for each in wanted]


def here(name: str | None) -> tuple[str, Machine, dict]:
    """The device's name in the table, its prices, and what else the record says of it."""
    machine = find_machine(name or "here")
    if not machine.is_gpu:
        prices = {
            "call_microseconds": 1e6 * machine.call,
            "products_gigaflops": machine.rates[torch.float32] / 1e9,
            "convolutions_gigaflops": machine.special["convolution"] / 1e9,
            "attention_gigaflops": machine.special["attention"] / 1e9,
            "memory_gigabytes": machine.bandwidth / 1e9,
            "stream_gigabytes": machine.stream / 1e9,
        }
        prices = {name: float(f"{price:.3g}") for name, price in prices.items()}
        return "cpu", machine, {"threads": torch.get_num_threads(), **prices}
    measured = float(f"{1e6 * price_of_a_call('cuda'):.3g}")
    return (
        machine.name,
        machine,
        {"device": torch.cuda.get_device_name(), "call_microseconds_here": measured},
    )


def refuse_other_settings(before: dict, now: dict, device: str, path: Path | None) -> None:
    """Raises ValueError if a device's stored rows were measured with what is not here now."""
    other = [
        f"{name} is {before.get(name)} there, not {now.get(name)}"
        for name in ("python", "torch", "threads", "device")
        if before.get(name) != now.get(name)
    ]
    if other:
        raise ValueError(
            f"{path} holds rows of {device} under other settings: {', '.join(other)}. Delete it, "
            "or measure this device's rows anew with --again."
        )


def write(stored: dict, path: Path) -> None:
    """The stored file."""
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="the JSON file to write or go on with")
    parser.add_argument("--machine", help="a name of MACHINES whose prices are used; cpu: no GPU")
    parser.add_argument("--quick", action="store_true", help="one row, to see whether all works")
    parser.add_argument("--again", action="store_true", help="measure this device's rows anew")
    parser.add_argument("--predict-again", action="store_true", help="renew predictions for GPUs")
    options = parser.parse_args()
    stored = {"machines": {}, "rows": []}
    if options.output and options.output.is_file():
        stored = json.loads(options.output.read_text(encoding="utf-8"))
    if options.predict_again:
        if not options.output:
            parser.error("--predict-again renews a stored file: name it with -o")
        write(predict_again(stored), options.output)
        return
    device, machine, about = here(options.machine)
    header = {"command": command(), "python": platform.python_version()}
    header |= {"torch": torch.__version__, **about}
    if options.again:
        stored["machines"][device] = header
        stored["rows"] = [line for line in stored["rows"] if line["device"] != device]
    before = stored["machines"].setdefault(device, header)
    refuse_other_settings(before, header, device, options.output)
    if options.output and not options.quick and not machine.is_gpu:
        stored["plans"] = plans()
    known = {tuple(line[name] for name in KEY) for line in stored["rows"]}
    print("device  network  stage        batch  format  MB: said  was   ms: said  was")
    for key in keys(device, options.quick):
        if tuple(key.values()) in known:
            continue
        line = row(key, machine, repeats=3) if machine.is_gpu else row_of_cpu(key, options.machine)
        memory, took = line["memory"], line["seconds"]
        print(
            f"{device:7} {key['network']:8} {key['stage']:12} {key['batch']:5}  "
            f"{key['precision']:6} {memory['predicted'] / 1e6:8.0f} {memory['measured'] / 1e6:5.0f}"
            f" {1e3 * took['predicted']:9.1f} {1e3 * took['measured']:6.1f}",
            flush=True,
        )
        stored["rows"].append(line)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if options.output:
            write(stored, options.output)


if __name__ == "__main__":
    main()
