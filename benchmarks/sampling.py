"""How guidance and steps change the score: `python benchmarks/sampling.py`, some ten minutes.

ExactEval's overall score of the shipped weights (GenEval's six tasks), with its interval, for each
pair of a guidance scale and a number of steps. The same prompts and the same noise each time.
`-o book/results/sampling.json` stores what page 5.7 plots.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.evaluation import GENEVAL_TASKS, evaluate

GUIDANCE = (1.0, 2.0, 3.0, 4.0, 6.0)
STEPS = (4, 8, 20)


def measure(pipe: VisLMPipeline, guidance: float, steps: int, n: int) -> dict:
    """One row of the table: settings, score with interval, pictures a second."""

    def draw(captions: list[str], seed: int):
        return pipe(
            captions,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images

    start = time.perf_counter()
    overall = evaluate(draw, GENEVAL_TASKS, n=n).overall
    return {
        "guidance": guidance,
        "steps": steps,
        "score": round(overall.value, 4),
        "low": round(overall.low, 4),
        "high": round(overall.high, 4),
        "prompts": overall.n,
        "images_per_second": round(overall.n / (time.perf_counter() - start), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50, help="prompts a task (default 50)")
    parser.add_argument("--pipeline", help="folder of a pipeline; else the shipped one")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    source = options.pipeline
    pipe = VisLMPipeline.from_pretrained(source) if source else VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    print(f"{'guidance':>8} {'steps':>5} {'overall':>8} {'95 % interval':>15} {'images/s':>8}")
    rows = []
    for steps in STEPS:
        for guidance in GUIDANCE:
            row = measure(pipe, guidance, steps, options.n)
            rows.append(row)
            interval = f"{row['low']:.3f} - {row['high']:.3f}"
            print(
                f"{guidance:>8g} {steps:>5} {row['score']:>8.3f} {interval:>15} "
                f"{row['images_per_second']:>8.1f}",
                flush=True,
            )
    if options.output:
        command = shlex.join(["python", "benchmarks/sampling.py", *sys.argv[1:]])
        text = json.dumps({"command": command, "rows": rows}, indent=1)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
