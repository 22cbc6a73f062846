"""Which way to edit a picture does as it is told, and which leaves the rest alone?

    python benchmarks/editing.py

The shipped model draws captions of two objects; of those drawings that are right, one word is
changed by each method, and the parser judges whether the word was obeyed and all else kept
(`evaluation.edits`). The same edits are then made of renders of the same scenes, which the model
did not draw. A row a method and kind of picture is stored in book/results/editing.json; those that
are stored are not run again. `--methods` and `--pictures` choose some, `--list` names the missing.
Some seconds an edit on one slow core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rows import Table, device_name
from torch import Tensor

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.rendering import render
from vislm_tutorial.editing import draw_from, grown, inpaint, invert, mask_of_words, redraw, swap
from vislm_tutorial.evaluation.control import share
from vislm_tutorial.evaluation.edits import Edit, counted, judge, sample_edits

RESULTS = Path(__file__).parents[1] / "book" / "results" / "editing.json"
COMMAND = "python benchmarks/editing.py"
STEPS, GUIDANCE = 25, 4.0
SEED = 1  # of the edits; the settings of the methods were chosen with those of seed 0
BATCH = 12  # pictures edited at once
ROOM = 4  # pixels around a mask of words: a thing of another shape needs more than the old one had
PICTURES = ("drawn", "rendered")


@dataclass(frozen=True)
class Case:
    """Edits with their pictures.

    Attributes:
        edits: B, of what the pictures really show.
        images: (B, 3, H, W) in [-1, 1].
        noise: (B, C, h, w), from which they were drawn; None: they were not.
    """

    edits: list[Edit]
    images: Tensor
    noise: Tensor | None

    @property
    def captions(self) -> tuple[list[str], list[str]]:
        """Of the pictures before, and after."""
        return [e.source_caption for e in self.edits], [e.target_caption for e in self.edits]

    def part(self, rows: slice) -> Case:
        """Some of them."""
        noise = None if self.noise is None else self.noise[rows]
        return Case(self.edits[rows], self.images[rows], noise)


def seeds(number: int, first: int = 0) -> list[torch.Generator]:
    """One an image, so that none depends on which others are edited beside it."""
    return [torch.Generator().manual_seed(first + i) for i in range(number)]


def drawn_right(pipe: VisLMPipeline, n: int, steps: int) -> tuple[Case, int]:
    """The first `n` edits whose source the model draws right, and how many it was asked for."""
    config, edits, asked = pipe.backbone.config, [], 0
    images, noises = [], []
    shape = config.in_channels, config.sample_size, config.sample_size
    wanted = sample_edits(20 * n, SEED)
    while len(edits) < n:
        batch = wanted[asked : asked + BATCH]
        if not batch:
            raise SystemExit(f"only {len(edits)} of {asked} captions were drawn right.")
        noise = torch.stack([torch.randn(shape, generator=g) for g in seeds(len(batch), asked)])
        captions = [edit.source_caption for edit in batch]
        pictures = draw_from(pipe, noise, captions, num_inference_steps=steps).cpu()
        for edit, picture, start in zip(batch, pictures, noise, strict=True):
            if len(edits) < n:
                asked += 1
                if seen := edit.seen_in(picture):
                    edits.append(seen)
                    images.append(picture)
                    noises.append(start)
    return Case(edits, torch.stack(images), torch.stack(noises)), asked


# --- methods: (pipe, case, steps) -> (B, 3, H, W) ------------------------------------------------


def by_noise(pipe: VisLMPipeline, case: Case, steps: int, strength: float) -> Tensor:
    """SDEdit."""
    options = {"strength": strength, "generator": seeds(len(case.edits))}
    return redraw(pipe, case.images, case.captions[1], num_inference_steps=steps, **options)


def by_mask(pipe: VisLMPipeline, case: Case, steps: int, words: bool, strength: float) -> Tensor:
    """Inpainting in the changed object's true box, or in the mask of its shape's word."""
    if words:
        shapes = [edit.before.shape for edit in case.edits]
        noise = seeds(len(case.edits), first=1000)
        mask = mask_of_words(pipe, case.images, case.captions[0], shapes, generator=noise)
        mask = grown(mask, ROOM)
    else:
        mask = torch.stack([e.box(case.images.shape[-1], ROOM / 64) for e in case.edits])
    options = {"strength": strength, "generator": seeds(len(case.edits))}
    return inpaint(pipe, case.images, mask, case.captions[1], num_inference_steps=steps, **options)


def by_inversion(
    pipe: VisLMPipeline, case: Case, steps: int, guidance: float, iterations: int = 1
) -> Tensor:
    """Inversion, and drawing from the noise that it finds."""
    source, target = case.captions
    options = {"num_inference_steps": steps, "iterations": iterations}
    noise = invert(pipe, case.images, source, **options)
    return draw_from(pipe, noise, target, guidance_scale=guidance, num_inference_steps=steps)


def by_same_noise(pipe: VisLMPipeline, case: Case, steps: int) -> Tensor:
    """No method at all: the new caption from the old noise. Of a drawing only."""
    return draw_from(pipe, case.noise, case.captions[1], num_inference_steps=steps)


def by_attention(
    pipe: VisLMPipeline, case: Case, steps: int, cross_share: float, self_share: float
) -> Tensor:
    """Word swap: from a drawing's own noise, from that which inversion finds of a render."""
    start = case.images if case.noise is None else case.noise
    shares = {"cross_share": cross_share, "self_share": self_share}
    return swap(pipe, start, *case.captions, num_inference_steps=steps, **shares)


Method = Callable[[VisLMPipeline, Case, int], Tensor]
METHODS: dict[str, Method] = {
    **{f"SDEdit {s}": partial(by_noise, strength=s) for s in (0.6, 0.7, 0.8)},
    **{
        f"inpainting {name} {s}": partial(by_mask, words=words, strength=s)
        for name, words in (("box", False), ("words", True))
        for s in (0.85, 1.0)
    },
    **{f"inversion {g}": partial(by_inversion, guidance=g) for g in (1.0, 2.0, 3.0, 4.0)},
    "exact inversion 2.0": partial(by_inversion, guidance=2.0, iterations=3),
    "same noise": by_same_noise,
    **{
        f"swap {c} {s}": partial(by_attention, cross_share=c, self_share=s)
        for c, s in ((0.8, 0.4), (0.5, 0.8))
    },
}
DRAWN_ONLY = ("same noise",)


def measured(pipe: VisLMPipeline, name: str, pictures: str, case: Case, steps: int) -> dict:
    """A row: counts of all edits, and of both kinds of change."""
    scores = []
    for first in range(0, len(case.edits), BATCH):
        part = case.part(slice(first, first + BATCH))
        edited = METHODS[name](pipe, part, steps).cpu()
        triples = zip(part.edits, edited, part.images, strict=True)
        scores += [judge(*triple) for triple in triples]
    both = {
        change: [s.both for e, s in zip(case.edits, scores, strict=True) if e.attribute == change]
        for change in ("colour", "shape")
    }
    shares = {k: share([getattr(s, k) for s in scores]) for k in ("obeyed", "kept", "both")}
    return {
        "method": name,
        "pictures": pictures,
        **counted(scores),
        "intervals": {k: [round(v.low, 4), round(v.high, 4)] for k, v in shares.items()},
        "both of": {k: {"right": sum(flags), "n": len(flags)} for k, flags in both.items()},
        "device": device_name(),
    }


def line(row: dict) -> str:
    """A row of the printed table."""
    n, intervals = row["n"], row["intervals"]
    told = "  ".join(
        f"{k} {row[k] / n:.2f} [{low:.2f}, {high:.2f}]" for k, (low, high) in intervals.items()
    )
    name = f"{row['method']:<22} {row['pictures']:<8}"
    return f"{name} {told}  outside {row['outside']:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60, help="edits a row (default 60)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--list", action="store_true", help="name the missing rows, run none")
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.n < 1:
        parser.error("--n must be 1 or more")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    order = {key: i for i, key in enumerate((m, p) for p in PICTURES for m in METHODS)}
    changed = [("--n", options.n, 60), ("--steps", options.steps, STEPS)]
    command = " ".join([COMMAND, *(f"{k} {v}" for k, v, usual in changed if v != usual)])
    table = Table(
        options.results,
        Path("runs/editing/lock"),
        {"n": options.n, "steps": options.steps, "guidance": GUIDANCE, "room": ROOM, "seed": SEED},
        order=lambda row: order[row["method"], row["pictures"]],
        header={"command": command},
    )
    done = {(row["method"], row["pictures"]) for row in table.rows()}
    missing = [
        (method, pictures)
        for method, pictures in order
        if method in options.methods and pictures in options.pictures
        if not (method in DRAWN_ONLY and pictures != "drawn") and (method, pictures) not in done
    ]
    if options.list or not missing:
        print(*(f"{method}, {pictures}" for method, pictures in missing), sep="\n")
        return
    pipe = VisLMPipeline.from_bundled()
    drawn, asked = drawn_right(pipe, options.n, options.steps)
    table.header["asked"] = asked  # captions, of which n were drawn right
    print(f"{options.n} of {asked} captions were drawn right", flush=True)
    side = drawn.images.shape[-1]
    rendered = Case(drawn.edits, render([e.source for e in drawn.edits], side), noise=None)
    cases = {"drawn": drawn, "rendered": rendered}
    for method, pictures in missing:
        row = measured(pipe, method, pictures, cases[pictures], options.steps)
        table.add(row)
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
