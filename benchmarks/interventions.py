"""Which token of a caption makes the colour, and which is only looked at?

    python benchmarks/interventions.py -o book/results/interventions.json

The shipped model draws captions of one form, "a red circle in the top left corner on a white
background", untouched and then with single tokens changed: their states taken from the same caption
in another colour or shape, or hidden from the generator's attention. The noise is always the same.
Counts of drawings as a parser reads them; 5 minutes of one slow core.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data import parse, sample_scenes
from vislm_tutorial.evaluation.attention import watch_attention
from vislm_tutorial.evaluation.control import Look
from vislm_tutorial.evaluation.interventions import hidden, looked_up, transplanted
from vislm_tutorial.types import Condition

TOLD = ("colour", "place", "background")
STEPS, GUIDANCE = 12, 4.0
# Positions of MiniLM's tokens in such a caption; cyan, two tokens, and the centre are left out.
TOKENS = {
    "start": (0,),
    "a": (1,),
    "colour": (2,),
    "shape": (3,),
    "place": (4, 5, 6, 7, 8),
    "on a": (9, 10),
    "background": (11, 12),
    "end": (13,),
}
NAMING = ("colour", "shape")
BOTH = {"colour and shape": TOKENS["colour"] + TOKENS["shape"]}
LENGTH = 14


def asked_looks(n: int, seed: int = 0) -> list[Look]:
    """`n` looks whose captions have the same form, token by token."""
    looks = map(Look.of, sample_scenes(12 * n, seed=seed, count=1))
    found = [x for x in looks if x.colour != "cyan" and "corner" in (x.place or "")]
    return found[:n]


def moved(look: Look, attribute: str, rng: random.Random) -> Look:
    """The same in another colour or shape, never cyan."""
    while True:
        other = look.moved(attribute, rng)
        if other.colour != "cyan":
            return other


def counts(asked: Sequence[Look], other: Sequence[Look], seen: Sequence[Look], name: str) -> dict:
    """How many drawings have the old value of what was moved, the new one, and all else as asked.

    Besides, of each told attribute, how many have it as the untouched caption says.
    """
    told = ("colour", "shape", "place", "background")
    kept = [x for x in (*told, "count") if x != name]
    triples = list(zip(asked, other, seen, strict=True))

    def number(holds) -> int:
        return sum(map(bool, (holds(*triple) for triple in triples)))

    return {
        "n": len(triples),
        "old": number(lambda a, b, s: getattr(s, name) == getattr(a, name)),
        "new": number(lambda a, b, s: getattr(s, name) == getattr(b, name)),
        "rest kept": number(lambda a, b, s: all(getattr(s, x) == getattr(a, x) for x in kept)),
        "told": {
            x: number(lambda a, b, s, x=x: getattr(s, x) == getattr(a, x)) for x in (*told, "count")
        },
    }


class Study:
    """The untouched captions of `n` drawings, and what is drawn from changed ones."""

    def __init__(self, pipe: VisLMPipeline, n: int) -> None:
        self.pipe, self.asked = pipe, asked_looks(n)
        self.states = self._states(self.asked)
        self.empty = pipe.fusion(pipe.encoder.encode([""]))

    def _states(self, looks: Sequence[Look]):
        states = self.pipe.encoder.encode([look.caption(TOLD) for look in looks])
        assert states.encoder_attention_mask.shape[1] == LENGTH, "captions of another form"
        assert states.encoder_attention_mask.all(), "captions of different length"
        return states

    def draw(self, condition: Condition) -> list[Look]:
        """What is seen in the drawings of a condition, each with its own noise."""
        return list(map(Look.of, self.scenes(condition)))

    def scenes(self, condition: Condition) -> list:
        """The parsed drawings themselves."""
        noise = [torch.Generator().manual_seed(i) for i in range(len(condition))]
        options = {"guidance_scale": GUIDANCE, "num_inference_steps": STEPS, "generator": noise}
        return parse(self.pipe.generator.sample(condition, self.empty, **options))

    def attention(self) -> dict:
        """The untouched captions, and what the drawn things look at; tokens' shares sum to 1."""
        with watch_attention(self.pipe.backbone) as seen:
            scenes = self.scenes(self.pipe.fusion(self.states))
        maps = seen.maps(len(scenes)).mean(dim=0)  # (B, M, h, w), the mean over steps
        pairs = zip(maps, scenes, strict=True)
        shares = torch.stack([looked_up(m, s.objects[0]) for m, s in pairs if len(s.objects) == 1])
        groups = torch.stack([shares[:, list(t)].sum(dim=1) for t in TOKENS.values()], dim=1)
        mean, most = groups.mean(dim=0), groups.argmax(dim=1).bincount(minlength=len(TOKENS))
        return {
            "n": len(shares),
            "thing": {k: round(v.item(), 4) for k, v in zip(TOKENS, mean, strict=True)},
            "most": {k: v.item() for k, v in zip(TOKENS, most, strict=True)},
            "picture": {
                k: round(maps[:, list(t)].sum(dim=1).mean().item(), 4) for k, t in TOKENS.items()
            },
        }

    def exchanges(self, name: str) -> Iterator[tuple[str, str, Condition]]:
        """(level, what is taken from the caption with another `name`, condition)."""
        fuse, own = self.pipe.fusion, self.states
        donor, at = self._states(self.other(name)), TOKENS[name]
        rest = [i for i in range(LENGTH) if i not in at]
        before, after = fuse(own), fuse(donor)
        yield "states", "nothing", before
        yield "states", "everything", after
        yield "states", f"{name} token", fuse(transplanted(own, donor, at))
        yield "states", f"all but the {name} token", fuse(transplanted(own, donor, rest))
        groups = TOKENS if name == "colour" else {k: TOKENS[k] for k in ("start", *NAMING)}
        for group, tokens in (groups | BOTH).items():
            yield "condition", group, transplanted(before, after, tokens)
        yield "condition", "pooled", replace(before, pooled_projections=after.pooled_projections)

    def other(self, name: str) -> list[Look]:
        """The looks with another value of `name`, the same at each call."""
        rng = random.Random(f"other {name}")
        return [moved(look, name, rng) for look in self.asked]


def rows(study: Study) -> Iterator[dict]:
    """All rows, one by one."""
    for name in NAMING:
        other = study.other(name)
        for level, what, condition in study.exchanges(name):
            seen = counts(study.asked, other, study.draw(condition), name)
            yield {"kind": "exchanged", "moved": name, "level": level, "what": what} | seen
    before, other = study.pipe.fusion(study.states), study.other("colour")
    for what, tokens in (TOKENS | BOTH).items():
        seen = study.draw(hidden(before, tokens))
        yield {"kind": "hidden", "what": what} | counts(study.asked, other, seen, "colour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100, help="drawings a row (default 100)")
    parser.add_argument("-o", "--output", type=Path, help="store the rows in this JSON file")
    options = parser.parse_args()
    pipe = VisLMPipeline.from_bundled()
    with torch.no_grad():
        study = Study(pipe, options.n)
        attention, found = study.attention(), []
        print("looked at:", attention)
        for row in rows(study):
            found.append(row)
            print(*row.values(), flush=True)
    if options.output:
        stored = {
            "command": "python benchmarks/interventions.py -o book/results/interventions.json",
            "settings": {"n": options.n, "steps": STEPS, "guidance": GUIDANCE},
            "attention": attention,
        }
        lines = ",\n  ".join(json.dumps(row) for row in found)
        text = f'{json.dumps(stored, indent=1)[:-2]},\n "rows": [\n  {lines}\n ]\n}}\n'
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
