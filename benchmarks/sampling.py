"""How the sampler changes the score: `python benchmarks/sampling.py`, six minutes.

ExactEval's overall score of the shipped weights (GenEval's six tasks), with its interval, for each
scheduler, guidance scale and number of steps. The same prompts and first noise each time; not the
prompts of `vislm evaluate`, so that what is chosen here can be judged there.
`-o book/results/sampling.json` stores what page 5.7 plots.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from itertools import product
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.evaluation import GENEVAL_TASKS, evaluate

SCHEDULERS = ("euler", "stochastic")
GUIDANCE = (1.0, 2.0, 4.0, 8.0)
STEPS = (10, 40)
SEED = 1  # of the prompts


def measure(pipe: VisLMPipeline, scheduler: str, guidance: float, steps: int, n: int) -> dict:
    """One row of the table: settings, score with interval, pictures a second."""

    def draw(captions: list[str], seed: int):
        return pipe(
            captions,
            scheduler=scheduler,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images

    start = time.perf_counter()
    overall = evaluate(draw, GENEVAL_TASKS, n=n, seed=SEED).overall
    return {
        "scheduler": scheduler,
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
    titles = ("scheduler", "guidance", "steps", "overall", "95 % interval", "images/s")
    print("{:>10} {:>8} {:>5} {:>7} {:>13} {:>8}".format(*titles))
    rows = []
    for settings in product(SCHEDULERS, GUIDANCE, STEPS):
        row = measure(pipe, *settings, options.n)
        rows.append(row)
        interval = f"{row['low']:.3f} - {row['high']:.3f}"
        print(
            "{:>10} {:>8g} {:>5}".format(*settings),
            f"{row['score']:>7.3f} {interval:>13} {row['images_per_second']:>8.1f}",
            flush=True,
        )
    if options.output:
        command = shlex.join(["python", "benchmarks/sampling.py", *sys.argv[1:]])
        text = json.dumps({"command": command, "rows": rows}, indent=1)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
