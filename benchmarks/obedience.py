"""How well do the models of chapter 6 obey? One table, part by part, with intervals.

    python benchmarks/obedience.py -o book/results/obedience.json

Each model draws `--n` captions of things that it may have seen in training, and as many of pairs
that it has never seen together; of slices, which have no such pairs, of sentences that it has never
read. A reader judges them. Real renders say what the reader itself misses. Eight minutes of two
slow cores for 100 captions each.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data import panoramas, phantoms, products, styles
from vislm_tutorial.evaluation.obedience import obedience, part_scores
from vislm_tutorial.evaluation.scores import Score

STEPS = 20
KINDS = ("seen", "held out")


def panorama_things(kind: str, n: int, seed: int) -> list:
    """Landscapes; held out: each has a landmark in a colour that training never gave it."""
    return panoramas.sample_panoramas(n, seed, held_out=kind == "held out")


def product_things(kind: str, n: int, seed: int) -> list:
    """Products; held out: of a kind in a colour that training never showed."""
    pairs = products.held_out_pairs() if kind == "held out" else None
    return products.sample_products(n, seed, pairs)


def phantom_things(kind: str, n: int, seed: int) -> list:
    """Slices; held out: with a nodule, since those without have no sentence of that kind."""
    if kind == "seen":
        return phantoms.sample_phantoms(n, seed)
    return [p for p in phantoms.sample_phantoms(2 * n, seed) if p.nodule][:n]


def style_things(kind: str, n: int, seed: int) -> list:
    """Drawings in styles; held out: things in the one style that training left out."""
    items = styles.load_styles(split="test" if kind == "held out" else "train").items
    return random.Random(seed).sample(items, n)


def phantom_world(kind: str) -> SimpleNamespace:
    """Slices as a world whose captions may be of templates that training never used."""
    return SimpleNamespace(
        caption=partial(phantoms.caption, held_out_template=kind == "held out"),
        read=phantoms.read,
        judge=phantoms.judge,
        render=phantoms.render,
    )


def style_world(kind: str) -> SimpleNamespace:
    """Drawings as a world: read by the nearest of all."""
    index = styles.StyleIndex(styles.load_styles(split="all"))

    def judge(asked: styles.Restyled, reading: styles.Reading) -> dict[str, bool]:
        return {"thing": asked.subject == reading.subject, "style": asked.style == reading.style}

    def render(items: Sequence[styles.Restyled]) -> Tensor:
        return styles.StyledDrawings(list(items), 64).images()

    return SimpleNamespace(
        caption=lambda item, rng: item.caption,
        read=lambda images: styles.read(images, index),
        judge=judge,
        render=render,
    )


WORLDS: dict[str, tuple[Callable, Callable]] = {
    "panoramas": (lambda kind: panoramas, panorama_things),
    "phantoms": (phantom_world, phantom_things),
    "products": (lambda kind: products, product_things),
    "styles": (style_world, style_things),
}


def drawer(pipe: VisLMPipeline) -> Callable[[list[str], int], Tensor]:
    """As `obedience` asks for: (captions, seed) -> (B, 3, H, W)."""

    def draw(captions: list[str], seed: int) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": STEPS, "output_type": "pt"}
        return pipe(captions, generator=noise, **options).images

    return draw


def rows_of(name: str, n: int, seed: int) -> list[dict]:
    """The rows of one model."""
    make_world, things_of = WORLDS[name]
    rows = []
    pipe = VisLMPipeline.from_bundled(name)
    pipe.set_progress_bar_config(disable=True)
    for kind in KINDS:
        world, things = make_world(kind), things_of(kind, n, seed)
        start = time.perf_counter()
        scores, _, _ = obedience(drawer(pipe), world, things, seed)
        seconds = (time.perf_counter() - start) / n
        read = world.read(world.render(things))
        real = [world.judge(*pair) for pair in zip(things, read, strict=True)]
        for who, found in (("model", scores), ("renders", part_scores(real))):
            rows += [_row(name, kind, who, part, score) for part, score in found.items()]
        print(f"{name}, {kind}: {scores['all']} in {seconds:.2f} s a picture, read and judged")
    return rows


def _row(world: str, kind: str, who: str, part: str, score: Score) -> dict:
    return {"world": world, "things": kind, "pictures": who, "part": part} | asdict(score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--n", type=int, default=100, help="captions of each kind")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    rows = [row for name in WORLDS for row in rows_of(name, options.n, options.seed)]
    command = shlex.join(["python", "benchmarks/obedience.py", *sys.argv[1:]])
    settings = {"command": command, "n": options.n, "seed": options.seed, "steps": STEPS}
    options.output.write_text(json.dumps(settings | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
