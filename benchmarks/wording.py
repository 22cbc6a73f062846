"""Does a drawing stay right when only the sentence changes?

    python benchmarks/wording.py -o book/results/wording.json

Scores the shipped weights on ExactEval's paraphrases twice: once with a noise of its own for each
picture, as `vislm evaluate` does, and once with one noise for all wordings of a request. If the
wording decided nothing, the second way would make all pictures of a request right or all wrong.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import torch

from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.evaluation.paraphrases import GROUP, PARAPHRASES

BATCH = 12 * GROUP  # whole groups, so that a batch's rows say which request they belong to
WAYS = {"own noise": 1, "same noise": GROUP}  # pictures that share a noise


def noises(rows: int, shared: int, seed: int) -> list[int]:
    """Seeds of the noise of a batch's `rows` pictures, each for `shared` pictures in a row.

    Batches are drawn with seed, seed + 1, ...; no noise comes back in another one.
    """
    return [seed * BATCH + row // shared for row in range(rows)]


def score(pipe, shared: int, n: int) -> dict:
    """ExactEval's result as plain values (`EvalResult.to_json`)."""

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        seeds = noises(len(captions), shared, seed)
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return pipe(captions, generator=generators, output_type="pt").images

    return json.loads(evaluate(draw, PARAPHRASES, n, batch_size=BATCH).to_json())


def main() -> None:
    from vislm_tutorial import VisLMPipeline

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=400, help="prompts, four to a request")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    pipe = VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    stored = {"command": shlex.join(["python", "benchmarks/wording.py", *sys.argv[1:]])}
    for way, shared in WAYS.items():
        stored[way] = score(pipe, shared, options.n)
        print(f"{way}: {stored[way]['scores']} {stored[way]['beside']}", flush=True)
    options.output.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
