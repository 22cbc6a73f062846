"""Does it help to have a language model rewrite what is asked? `python benchmarks/instructions.py`.

The descriptions of `vislm_tutorial.evaluation.descriptions` are drawn by the shipped weights: as
they are, rewritten freely by SmolLM2-135M, answered by its likeliest caption, by the one that the
description adds most to, translated by rules, and as the caption that was meant, which is the
ceiling. The same noise each time. Eight minutes or so on two CPU cores; what was answered or drawn
is kept in `--kept` as it comes, and a second run goes on from there.
`-o book/results/instructions.json` stores what page 3.2 plots.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import read
from vislm_tutorial.encoders import load_writer
from vislm_tutorial.evaluation.descriptions import (
    DESCRIPTIONS,
    EXAMPLES,
    TASK,
    Description,
    by_rules,
    instructions,
)

STEPS = 20
OUTSIDE = (  # no caption of `instructions` means these; the second the grammar could say
    "a horse that gallops along the beach",
    "a red circle to the left of a blue square",
    "a red circle, but without the circle",
)


class Kept:
    """Answers by key, in a file that is written after each: a run can be cut off and go on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        known = path is not None and path.exists()
        self.values = json.loads(path.read_text(encoding="utf-8")) if known else {}

    def get(self, key: str, make: Callable[[], object]):
        if key not in self.values:
            self.values[key] = make()
            if self.path is not None:
                self.path.write_text(json.dumps(self.values), encoding="utf-8")
        return self.values[key]


def timed(answer: Callable[[str], object], text: str) -> list:
    """[the answer, its seconds]."""
    start = time.perf_counter()
    said = answer(text)
    return [said, time.perf_counter() - start]


def right(pipe: VisLMPipeline, meant: Description, caption: str, seed: int, draws: int) -> int:
    """How many drawings of a caption show what is meant; the noise is the seed's."""
    images = pipe(
        caption,
        num_images_per_prompt=draws,
        num_inference_steps=STEPS,
        generator=[torch.Generator().manual_seed(1000 * seed + i) for i in range(draws)],
        output_type="pt",
    ).images
    return sum(meant.shown_by(reading) for reading in read(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4, help="of each description (default 4)")
    parser.add_argument("--kept", type=Path, help="a file for what is known so far")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    kept, answers = Kept(options.kept), instructions()
    writer = load_writer(TASK, EXAMPLES)
    methods = {
        "as it is": lambda text: text,
        "written": writer.write,
        "chosen": lambda text: writer.rank(text, answers)[0],
        "by gain": lambda text: writer.rank_by_gain(text, answers)[0],
        "rules": by_rules,
    }
    texts = [d.text for d in DESCRIPTIONS]
    said = {
        text: {
            name: kept.get(f"{name}: {text}", lambda r=rewrite, t=text: timed(r, t))
            for name, rewrite in methods.items()
        }
        for text in [*texts, *OUTSIDE]
    }
    for answered in said.values():  # of what was chosen the score is kept too
        for name in ("chosen", "by gain"):
            (caption, score), seconds = answered[name]
            answered[name] = [caption, seconds, round(score, 2)]
    seconds = {m: sum(said[t][m][1] for t in texts) / len(texts) for m in methods}
    pipe = VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for number, meant in enumerate(DESCRIPTIONS):
        asked = {name: answer[0] for name, answer in said[meant.text].items()}
        asked["as meant"] = meant.caption
        hits = {
            caption: kept.get(
                f"drawn {options.draws} {number}: {caption}",
                lambda d=meant, c=caption, i=number: right(pipe, d, c, i, options.draws),
            )
            for caption in dict.fromkeys(asked.values())
        }
        rows.append(
            {
                "text": meant.text,
                "kind": meant.kind,
                "captions": asked,
                "log_p": said[meant.text]["chosen"][2],
                "right": {name: hits[caption] for name, caption in asked.items()},
            }
        )
    for name in rows[0]["captions"]:
        same = sum(row["captions"][name] == row["captions"]["as meant"] for row in rows)
        share = sum(row["right"][name] for row in rows) / len(rows) / options.draws
        cost = f"{seconds.get(name, 0):.2f} s each"
        print(f"{name:8} {same:2} of {len(rows)} as meant, drawn right {share:.3f}, {cost}")
    if options.output:
        asked = f"--draws {options.draws} -o {options.output}"
        result = {
            "command": f"python benchmarks/instructions.py {asked}",
            "draws": options.draws,
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "rows": rows,
            "outside": [
                {
                    "text": text,
                    "written": said[text]["written"][0],
                    "chosen": said[text]["chosen"][0],
                    "by gain": said[text]["by gain"][0],
                    "log_p": said[text]["chosen"][2],
                }
                for text in OUTSIDE
            ],
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
