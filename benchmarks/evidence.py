"""Does a pretrained language model help? One run for each encoder, number of pairs and seed.

    python benchmarks/evidence.py

trains the same fusion and the same small U-Net behind the shipped autoencoder, each time for the
same number of steps, and asks what it draws for captions as in training, in new sentences, of new
pairs of colour and shape, in new words, with typing errors, and with the words mixed up. Rows are
stored in book/results/evidence.json as they end, and those that are stored are not run again.

`--list` names the missing rows; `--encoders`, `--pairs` and `--seeds` choose some. On one slow core
a row of a frozen encoder takes about 8 minutes and one of an encoder that learns 20 to 30;
`--workers 2 --minutes 30` is a piece of an hour on two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from rows import Table, complete, device_name
from safetensors.torch import save_file

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.parsing import read
from vislm_tutorial.encoders import CachedEncoder, load_encoder
from vislm_tutorial.evaluation.exact_eval import result_of
from vislm_tutorial.evaluation.perturb import misspelt, reordered
from vislm_tutorial.evaluation.prompts import Prompt, prompts_for
from vislm_tutorial.training import TrainingConfig
from vislm_tutorial.training.datasets import load_images, prepare_pictures, split_rows
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, load_recipe, train_recipe
from vislm_tutorial.tuning import Full, LoRA

PAIRS, SEEDS = (100, 1_000, 5_000, 30_000), 3
FEW = (1_000, 30_000)  # pairs of those that cost much, or that answer a question beside the study
UP_TO_5000 = PAIRS[:3]  # SmolLM2 is six times MiniLM: reading 30,000 captions outweighs the run


@dataclass(frozen=True)
class Reader:
    """What reads the caption, what of it learns, and how all that learns is trained."""

    encoder: EncoderConfig
    tuning: Full | LoRA | None = None
    learning_rate: float = 1e-2  # at this, runs of 1,000 pairs and more break if the encoder learns
    optimizer: str = "muon"  # far ahead of AdamW in so short a run (page 5.9)
    pairs: tuple[int, ...] = PAIRS
    repeated: tuple[int, ...] = ()  # those of the pairs that have a run for every seed


MINILM, RANDOM = EncoderConfig("minilm", "mean"), EncoderConfig("scratch:minilm", "mean")
READERS = {
    "MiniLM": Reader(MINILM, repeated=PAIRS),
    "random": Reader(RANDOM, repeated=PAIRS),
    # A whole twin of MiniLM hardly learns in so few steps (ablation.py transfer).
    "scratch": Reader(EncoderConfig("scratch:minilm:2", "mean"), Full(), 2e-3, repeated=FEW),
    "word vectors": Reader(EncoderConfig("minilm", 0)),
    "SmolLM2": Reader(EncoderConfig("smollm2", "mean"), pairs=UP_TO_5000),
    "SmolLM2, last layer": Reader(EncoderConfig("smollm2", "last"), pairs=UP_TO_5000),
    "MiniLM + LoRA": Reader(MINILM, LoRA(), 2e-3, pairs=FEW[:1]),
    "random + LoRA": Reader(RANDOM, LoRA(), 2e-3, pairs=FEW[:1]),
    # Does the answer hang on the optimiser?
    "MiniLM, AdamW": Reader(MINILM, None, 1.6e-3, "adamw", FEW),
    "random, AdamW": Reader(RANDOM, None, 1.6e-3, "adamw", FEW),
}
HELD, PROMPTS, SAMPLING_STEPS = 256, 100, 20
RESULTS = Path(__file__).parents[1] / "book" / "results" / "evidence.json"


@dataclass(frozen=True)
class Row:
    """One run."""

    encoder: str
    pairs: int
    seed: int

    @property
    def key(self) -> tuple:
        """What it is stored by."""
        return self.encoder, self.pairs, self.seed

    @property
    def title(self) -> str:
        """How it is spoken of."""
        return f"{self.encoder}, {self.pairs:,} pairs, seed {self.seed}"


def recipe_of(row: Row, steps: int, pool: int) -> Recipe:
    """The shipped recipe, smaller and shorter; the seed chooses pairs, weights and noise."""
    scenes = load_recipe("scenes")
    reader = READERS[row.encoder]
    training = TrainingConfig(
        steps=steps,
        batch_size=32,
        learning_rate=reader.learning_rate,
        warmup_steps=min(100, steps // 4),
        schedule="trapezoid",
        decay_steps=steps // 3,
        final_lr_fraction=0.02,
        optimizer=reader.optimizer,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        ema_decay=0.99,
        precision="fp32",
        compile=False,
        checkpoint_every=0,
        log_every=max(1, steps // 10),
        seed=row.seed,
    )
    return replace(
        scenes,
        name="evidence",
        data=replace(
            scenes.data,
            size=pool + HELD,
            validation=HELD,
            limit=row.pairs,
            seed=row.seed,
            alike=0.0,
        ),
        encoder=reader.encoder,
        tuning=reader.tuning,
        generator=replace(scenes.generator, width=64, heads=4),
        autoencoder_from="bundled",
        training=training,
    )


# The questions


def questions(n: int) -> dict[str, list[Prompt]]:
    """What each run is asked: by test, `n` prompts. The first and `bound` are the plain ones.

    `typos` and `mixed` ask for the same pictures as `plain` and `bound`, in damaged captions.
    """
    plain, bound = prompts_for("colours", n), prompts_for("colour_attribution", n)
    rng = random.Random(0)
    return {
        "plain": plain,
        "templates": prompts_for("templates", n),
        "pairs": prompts_for("held_out_pairs", n),
        "synonyms": prompts_for("synonyms", n),
        "typos": [replace(p, text=misspelt(p.text, rng)) for p in plain],
        "bound": bound,
        "mixed": [replace(p, text=reordered(p.text, rng)) for p in bound],
    }


def scores(pipe: VisLMPipeline, n: int) -> dict[str, dict[str, int]]:
    """By test, how many of how many drawings are right."""
    pipe.set_progress_bar_config(disable=True)
    counts = {}
    for name, prompts in questions(n).items():
        noise = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
        images = pipe(
            [prompt.text for prompt in prompts],
            generator=noise,
            num_inference_steps=SAMPLING_STEPS,
            output_type="pt",
        ).images.cpu()
        judged = [result_of(*pair) for pair in zip(prompts, read(images), strict=True)]
        counts[name] = {"right": sum(r.correct for r in judged), "n": len(judged)}
    return counts


# One row


def run(row: Row, options: argparse.Namespace) -> dict:
    """Trains and asks; the record that is stored."""
    start, recipe = time.monotonic(), recipe_of(row, options.steps, options.pool)
    folder = Path(tempfile.mkdtemp(dir=options.runs))
    try:
        os.link(_pictures_of(row.seed, options), folder / "pictures.safetensors")
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the log
            result = train_recipe(recipe, folder, say=lambda line: None)
        trained = time.monotonic() - start
        pipe = VisLMPipeline.from_run(folder).to(PartialState().device)
        counts = scores(pipe, options.prompts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    dataset = load_images(recipe.data)
    shown = [dataset.captions[i] for i in split_rows(len(dataset), recipe.data)[0]]
    return {
        "encoder": row.encoder,
        "pairs": row.pairs,
        "seed": row.seed,
        "captions": len(set(shown)),
        "scores": counts,
        "loss": round(result.final_loss, 4),
        "train_seconds": round(trained, 1),
        "seconds": round(time.monotonic() - start, 1),
        "device": device_name(),
        "torch": torch.__version__,
    }


def prepare(rows: list[Row], options: argparse.Namespace) -> None:
    """Latents of each seed's pictures and the frozen encoders' states, each computed once."""
    options.runs.mkdir(parents=True, exist_ok=True)
    device = PartialState().device
    asked = [p.text for prompts in questions(options.prompts).values() for p in prompts]
    for seed in sorted({row.seed for row in rows}):
        recipe = recipe_of(Row("MiniLM", options.pool, seed), options.steps, options.pool)
        dataset, path = load_images(recipe.data), _pictures_of(seed, options)
        if not path.is_file():
            generator = VisLMPipeline.from_bundled().to(device).generator
            save_file({"pictures": prepare_pictures(dataset, generator, device)}, path)
        for name in dict.fromkeys(row.encoder for row in rows if row.seed == seed):
            config = READERS[name].encoder
            if READERS[name].tuning is None:
                most = max(row.pairs for row in rows if (row.encoder, row.seed) == (name, seed))
                captions = dataset.captions[: HELD + most]
                encoder = load_encoder(config.name, layers=config.layers, device=device)
                CachedEncoder(encoder).encode_many(
                    [*captions, *asked, ""], batch_size=256, progress=False
                )


def _pictures_of(seed: int, options: argparse.Namespace) -> Path:
    return options.runs / f"pictures-{options.pool}-{seed}.safetensors"


# All rows


def rows_of(options: argparse.Namespace) -> list[Row]:
    """All rows that are asked for: first those of the first seed."""
    return [
        Row(encoder, pairs, seed)
        for seed in range(options.seeds)
        for encoder in options.encoders
        for pairs in options.pairs or READERS[encoder].pairs
        if seed == 0 or pairs in READERS[encoder].repeated
    ]


def line(row: dict) -> str:
    """A row of the printed table."""
    shares = "  ".join(f"{k} {c['right'] / c['n']:.2f}" for k, c in row["scores"].items())
    return f"{row['encoder']:<14} {row['pairs']:>6} {row['seed']}  {shares}  {row['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", choices=READERS, default=[*READERS])
    parser.add_argument("--pairs", nargs="+", type=int, help="in place of each reader's own")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of those that are repeated")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pool", type=int, default=max(PAIRS), help="pairs to take some of")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="of each test")
    parser.add_argument("--list", action="store_true", help="name the missing rows, run none")
    parser.add_argument("--workers", type=int, default=1, help="runs beside each other")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no row after so long")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"))
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    end = time.monotonic() + (60 * options.minutes or float("inf"))
    table = Table(
        options.results,
        options.runs / "lock",
        {"steps": options.steps, "pool": options.pool, "prompts": options.prompts},
        order=lambda r: ([*READERS].index(r["encoder"]), r["pairs"], r["seed"]),
        header={"command": "python benchmarks/evidence.py"},
    )

    def missing(stored: list[dict]) -> list[Row]:
        done = {(r["encoder"], r["pairs"], r["seed"]) for r in stored}
        return [row for row in rows_of(options) if row.key not in done]

    rows = missing(table.rows())
    if options.list:
        print(*(row.title for row in rows), sep="\n")
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    prepare(rows, options)

    complete(table, missing, run, line, options, end)


if __name__ == "__main__":
    main()
