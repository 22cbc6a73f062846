"""Does it help to have a language model rewrite what is asked? `python benchmarks/instructions.py`.

The 24 descriptions of `vislm_tutorial.evaluation.descriptions` are drawn by the shipped weights: as
they are, rewritten freely by SmolLM2-135M, answered by its likeliest caption, translated by rules,
and as the caption that was meant, which is the ceiling. The same noise each time. About five
minutes; `-o book/results/instructions.json` stores what page 3.2 plots.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import Reading, read
from vislm_tutorial.encoders import load_writer
from vislm_tutorial.evaluation.descriptions import (
    DESCRIPTIONS,
    EXAMPLES,
    TASK,
    by_rules,
    instructions,
)

STEPS = 20


def captions_of(name: str, rewrite: Callable[[str], str]) -> tuple[list[str], float]:
    """What a method makes of every description, and its seconds for one."""
    start = time.perf_counter()
    captions = [rewrite(d.text) for d in DESCRIPTIONS]
    seconds = (time.perf_counter() - start) / len(captions)
    same = sum(c == d.caption for c, d in zip(captions, DESCRIPTIONS, strict=True))
    print(f"{name:8} {same:2} of {len(captions)} as meant, {seconds:5.2f} s each", flush=True)
    return captions, seconds


def drawn(pipe: VisLMPipeline, caption: str, number: int, draws: int) -> list[Reading]:
    """What is seen on the drawings of a caption, from the noise of description `number`."""
    noise = [torch.Generator().manual_seed(1000 * number + i) for i in range(draws)]
    images = pipe(
        caption,
        num_images_per_prompt=draws,
        num_inference_steps=STEPS,
        generator=noise,
        output_type="pt",
    ).images
    return read(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4, help="of each description (default 4)")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    writer, answers = load_writer(TASK, EXAMPLES), instructions()
    methods = {
        "as it is": lambda text: text,
        "written": writer.write,
        "chosen": lambda text: writer.rank(text, answers)[0][0],
        "rules": by_rules,
    }
    captions, seconds = {}, {}
    for name, rewrite in methods.items():
        captions[name], seconds[name] = captions_of(name, rewrite)
    captions["as meant"] = [d.caption for d in DESCRIPTIONS]
    pipe = VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for number, meant in enumerate(DESCRIPTIONS):
        asked = {name: said[number] for name, said in captions.items()}
        seen = {c: drawn(pipe, c, number, options.draws) for c in dict.fromkeys(asked.values())}
        right = {c: sum(meant.shown_by(r) for r in readings) for c, readings in seen.items()}
        rows.append(
            {
                "text": meant.text,
                "kind": meant.kind,
                "captions": asked,
                "right": {name: right[caption] for name, caption in asked.items()},
            }
        )
    for name in captions:
        share = sum(row["right"][name] for row in rows) / len(rows) / options.draws
        print(f"{name:8} {share:.3f} of {options.draws * len(rows)} drawings right")
    if options.output:
        result = {
            "command": shlex.join(["python", "benchmarks/instructions.py", *sys.argv[1:]]),
            "draws": options.draws,
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "rows": rows,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
