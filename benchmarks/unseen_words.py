"""Do words follow that training never showed, if it showed many others for the same thing?

    python benchmarks/unseen_words.py

trains a new fusion between a frozen language model and the shipped generator, frozen too. Training
says each colour and shape in k other words besides the plain one (`data.words`), and the drawings
are asked for in words that no training has shown (`data.captions`). A row a language model, layer,
k and seed is stored in book/results/unseen_words.json; those that are stored are not run again.

`--list` names the missing rows; `--models`, `--words` and `--seeds` choose some. On one slow core a
row takes about 12 minutes; `--workers 2 --minutes 45` is a piece of an hour on two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from rows import Table, complete, device_name

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS, with_article
from vislm_tutorial.data.parsing import read
from vislm_tutorial.encoders.base import Layers
from vislm_tutorial.evaluation.clauses import Prompt
from vislm_tutorial.evaluation.exact_eval import result_of
from vislm_tutorial.evaluation.prompts import prompts_for
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.datasets import DataConfig
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, load_recipe, train_recipe
from vislm_tutorial.tuning import LoRA

VARIANTS = {  # what else was tried: changes of the fusion, and what of the language model learns
    "": ({}, None),
    "noise": ({"noise": 1.0}, None),
    "rank 16": ({"rank": 16}, None),
    "LoRA": ({}, LoRA()),
}
# What reads the captions, and of which layers; how many other words; how many seeds; which variant.
SWEEPS: tuple[tuple[tuple[str, Layers], tuple[int, ...], int, str], ...] = (
    (("minilm", "mean"), (0, 3, 6, 12), 3, ""),
    (("minilm", 5), (12,), 1, ""),
    *((("minilm", "mean"), (12,), 1, variant) for variant in VARIANTS if variant),
    (("smollm2", "mean"), (12,), 1, ""),
    (("smollm2", 9), (0, 6, 12), 1, ""),
)
RESULTS = Path(__file__).parents[1] / "book" / "results" / "unseen_words.json"
SAMPLING_STEPS = 12


@dataclass(frozen=True)
class Row:
    """One run."""

    model: str
    layers: Layers
    words: int
    seed: int
    variant: str = ""

    @property
    def key(self) -> tuple:
        """What it is stored by."""
        return self.model, self.layers, self.words, self.seed, self.variant

    @property
    def title(self) -> str:
        """How it is spoken of."""
        name = f"{self.model}, layers {self.layers}, {self.words} words, seed {self.seed}"
        return f"{name}, {self.variant}" if self.variant else name


def recipe_of(row: Row, options: argparse.Namespace) -> Recipe:
    """The shipped generator, frozen, behind a fusion that learns from the beginning."""
    scenes = load_recipe("scenes")
    changed, tuning = VARIANTS[row.variant]
    training = TrainingConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=2e-3,
        warmup_steps=min(50, options.steps // 4),
        betas=(0.9, 0.98),
        weight_decay=0.0,
        ema_decay=0.0,  # the rate falls to 0, which averages enough
        precision="fp32",
        compile=False,  # takes longer than such a short run saves
        checkpoint_every=0,
        log_every=max(1, options.steps // 10),
        seed=row.seed,
    )
    return replace(
        scenes,
        name="unseen-words",
        data=DataConfig(size=options.pictures + 64, validation=64, seed=row.seed, words=row.words),
        encoder=EncoderConfig(row.model, row.layers),
        fusion=replace(scenes.fusion, standardise=True, **changed),
        tuning=tuning,
        autoencoder_from="bundled",
        weights_from="bundled",
        weights_of=("generator",),
        freeze=("generator",),
        training=training,
    )


def questions(n: int) -> dict[str, list[Prompt]]:
    """By test, `n` prompts: plain words, an unseen word for the colour, for the shape, for both."""
    plain = prompts_for("colours", n)
    asked = {"plain": plain, "colour": [], "shape": [], "both": prompts_for("synonyms", n)}
    for i, prompt in enumerate(plain):
        clause = prompt.include[0]
        old = with_article(f"{clause.colour} {clause.shape}")
        colours, shapes = COLOUR_SYNONYMS[clause.colour], SHAPE_SYNONYMS[clause.shape]
        for test, new in (
            ("colour", f"{colours[i % 2]} {clause.shape}"),
            ("shape", f"{clause.colour} {shapes[i % 2]}"),
        ):
            text = prompt.text.replace(old, with_article(new))
            assert text != prompt.text, f"{old!r} is not in {prompt.text!r}"
            asked[test].append(replace(prompt, text=text))
    return asked


def scores(pipe: VisLMPipeline, n: int) -> dict[str, dict[str, int]]:
    """By test, how many of how many drawings are right."""
    pipe.set_progress_bar_config(disable=True)
    counts = {}
    for name, prompts in questions(n).items():
        images = pipe(
            [prompt.text for prompt in prompts],
            generator=[torch.Generator().manual_seed(i) for i in range(len(prompts))],
            num_inference_steps=SAMPLING_STEPS,
            output_type="pt",
        ).images.cpu()
        judged = [result_of(*pair) for pair in zip(prompts, read(images), strict=True)]
        counts[name] = {"right": sum(r.correct for r in judged), "n": len(judged)}
    return counts


def run(row: Row, options: argparse.Namespace) -> dict:
    """Trains and asks; the record that is stored."""
    start, folder = time.monotonic(), Path(tempfile.mkdtemp(dir=options.runs))
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the log
            result = train_recipe(recipe_of(row, options), folder, say=lambda line: None)
        counts = scores(VisLMPipeline.from_run(folder).to(PartialState().device), options.prompts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "model": row.model,
        "layers": row.layers,
        "words": row.words,
        "seed": row.seed,
        "variant": row.variant,
        "scores": counts,
        "loss": round(result.final_loss, 4),
        "seconds": round(time.monotonic() - start, 1),
        "device": device_name(),
    }


def rows_of(options: argparse.Namespace) -> list[Row]:
    """All rows that are asked for: the first seed before the others, most words first."""
    rows = [
        Row(*states, words, seed, variant)
        for states, numbers, seeds, variant in SWEEPS
        for words in numbers
        for seed in range(seeds)
        if states[0] in options.models and words in options.words and seed < options.seeds
    ]
    return sorted(rows, key=lambda row: (row.seed, -row.words))


def line(row: dict) -> str:
    """A row of the printed table."""
    shares = "  ".join(f"{k} {c['right'] / c['n']:.2f}" for k, c in row["scores"].items())
    name = f"{row['model']:<8} {row['layers']!s:>5} {row['words']:>3} {row['seed']}"
    return f"{name} {row['variant']:<7}  {shares}  {row['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted({model for (model, _), *_ in SWEEPS})
    words = sorted({k for _, numbers, *_ in SWEEPS for k in numbers})
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--words", nargs="+", type=int, choices=words, default=words)
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of each")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--prompts", type=int, default=150, help="of each test")
    parser.add_argument("--list", action="store_true", help="name the missing rows, run none")
    parser.add_argument("--workers", type=int, default=1, help="runs beside each other")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no row after so long")
    parser.add_argument("--runs", type=Path, default=Path("runs/unseen_words"))
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    end = time.monotonic() + (60 * options.minutes or float("inf"))
    settings = {
        key: getattr(options, key) for key in ("steps", "batch_size", "pictures", "prompts")
    }
    table = Table(
        options.results,
        options.runs / "lock",
        settings,
        order=lambda r: (r["model"], str(r["layers"]), r["words"], r["variant"], r["seed"]),
        header={"command": "python benchmarks/unseen_words.py"},
    )

    def missing(stored: list[dict]) -> list[Row]:
        names = ("model", "layers", "words", "seed", "variant")
        done = {tuple(r[name] for name in names) for r in stored}
        return [row for row in rows_of(options) if row.key not in done]

    if options.list:
        print(*(row.title for row in missing(table.rows())), sep="\n")
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options.runs.mkdir(parents=True, exist_ok=True)

    complete(table, missing, run, line, options, end)


if __name__ == "__main__":
    main()
