"""What a byte a weight costs: `python benchmarks/onnx_files.py`, four minutes on two cores.

Exports the shipped pipeline, makes one part after the other int8, and last all of them. A row:
bytes, seconds a picture, how far its pictures are from the float32 files', and two of ExactEval's
tasks with intervals; all rows get the same noise. `-o book/results/onnx_files.json` stores what
page 5.15 shows; a row that is stored is not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial._files import results_to_go_on_with
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.serving.onnx_files import PART_NAMES, OnnxPipeline, quantise, sizes
from vislm_tutorial.serving.onnx_parts import export

TASKS = ("single_object", "colour_attribution")
ROWS = ("torch", "onnx", *(f"int8 {name}" for name in PART_NAMES), "int8 all")
CAPTIONS = [
    "a red circle above a blue square",
    "three green stars",
    "a striped purple triangle in the top left corner",
    "a pink cross and an orange diamond",
]


def drawer(row: str, folder: Path, pipe: VisLMPipeline, steps: int):
    """(captions, seed) -> (B, 3, H, W) tensor in [-1, 1]; every row gets torch's noise."""
    if row == "torch":

        def draw(captions: list[str], seed: int) -> torch.Tensor:
            generator = torch.Generator().manual_seed(seed)
            return pipe(
                captions, num_inference_steps=steps, generator=generator, output_type="pt"
            ).images

        return draw
    onnx = OnnxPipeline(folder)

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)

        def noise(shape: tuple[int, ...]) -> np.ndarray:
            return torch.randn(shape, generator=generator).numpy()

        return torch.from_numpy(onnx(captions, num_inference_steps=steps, noise=noise))

    return draw


def measure(row: str, place: Path, pipe: VisLMPipeline, options) -> dict:
    """One row of the table."""
    folder = place / "float32"
    if row.startswith("int8 "):
        parts = PART_NAMES if row == "int8 all" else (row.removeprefix("int8 "),)
        folder = place / row.replace(" ", "_")
        quantise(place / "float32", folder, parts)
    draw = drawer(row, folder, pipe, options.steps)
    reference = drawer("onnx", place / "float32", pipe, options.steps)(CAPTIONS, 0)
    difference = (draw(CAPTIONS, 0) - reference).abs()
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        draw(CAPTIONS, seed)
        seconds.append((time.perf_counter() - start) / len(CAPTIONS))
    scores = evaluate(draw, TASKS, n=options.n, batch_size=25).scores
    return {
        "row": row,
        "bytes": None if row == "torch" else sizes(folder),
        "seconds_a_picture": round(min(seconds), 4),
        "mean_difference": round(difference.mean().item(), 6),  # of values in [-1, 1]
        "scores": {
            task: {key: round(value, 4) for key, value in vars(score).items()}
            for task, score in scores.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50, help="prompts a task")
    parser.add_argument("--steps", type=int, default=20, help="of the sampler")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    settings = {"n": options.n, "steps": options.steps, "machine": machine}
    stored = results_to_go_on_with(options.output, settings, {"rows": []})
    pipe = VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    print("{:>20} {:>7} {:>7} {:>9}  {}".format("", "MB", "s", "moved by", ", ".join(TASKS)))
    with tempfile.TemporaryDirectory() as place:
        differences = export(pipe, Path(place) / "float32")
        stored |= {
            "command": shlex.join(["python", "benchmarks/onnx_files.py", *sys.argv[1:]]),
            "machine": machine,
            "versions": {n: version(n) for n in ("torch", "onnx", "onnxruntime", "numpy")},
            "steps": options.steps,
            "differences": differences,
        }
        for name in ROWS:
            if name in (row["row"] for row in stored["rows"]):
                continue
            row = measure(name, Path(place), pipe, options)
            stored["rows"].append(row)
            size = f"{sum(row['bytes'].values()) / 1e6:.1f}" if row["bytes"] else ""
            told = ", ".join(
                f"{s['value']:.2f} [{s['low']:.2f}, {s['high']:.2f}]"
                for s in row["scores"].values()
            )
            print(
                f"{name:>20} {size:>7} {row['seconds_a_picture']:>7.3f} "
                f"{row['mean_difference']:>9.5f}  {told}",
                flush=True,
            )
            if options.output:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(stored, indent=1)
                options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
