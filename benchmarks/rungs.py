"""Nats a picture on each rung of VAEs, and what they draw: for page 2.4.

    python benchmarks/rungs.py RUN [RUN ...] -o book/results/vae_rungs.json

A run is the folder of `vislm train cvae`; its newest checkpoint is asked, so a copy that holds one
checkpoint alone asks for that. A quarter of a minute a run. The rows that are stored: the recipe
without free_nats and free_passes after 2,000 steps, the recipe itself then, and at its end.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data import caption, render, sample_scenes
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.training.runs import run_weights

SCENES, PROMPTS = 150, 200
TASKS = ("single_object", "colours")


@torch.no_grad()
def rungs(run: Path) -> dict:
    """The rates, in nats a picture, and scores of what `run` has learned so far."""
    pipe = VisLMPipeline.from_run(run)
    pipe.set_progress_bar_config(disable=True)
    scenes, rng = sample_scenes(SCENES, seed=1_000_003), random.Random(0)
    condition, _ = pipe.encode_prompt([caption(scene, rng) for scene in scenes])
    latents, seeded = pipe.autoencoder.encode(render(scenes)), torch.Generator().manual_seed(0)
    distortion, rate, layers = pipe.backbone.elbo_parts(latents, condition, seeded)

    def draw(captions: list[str], seed: int):
        noise = torch.Generator().manual_seed(seed)
        return pipe(captions, generator=noise, output_type="pt").images

    scores = evaluate(draw, TASKS, n=PROMPTS).scores
    config = pipe.backbone.config
    return {
        "std": config.std,
        "free_nats": config.free_nats,
        "steps": run_weights(run)[1]["step"],
        "loss": round((distortion + rate).item(), 4),  # -ELBO in nats a value
        "nats": [round(nats, 3) for nats in (layers * latents[0].numel()).tolist()],
        "scores": {task: [s.value, s.low, s.high] for task, s in scores.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [rungs(run) for run in arguments.runs]
    for row in rows:
        print(json.dumps(row))
    made_by = "python benchmarks/rungs.py RUN ... -o " + arguments.output.as_posix()
    record = {"command": made_by, "scenes": SCENES, "prompts": PROMPTS, "runs": rows}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
