"""Which words of a caption a model uses, and at which noise: `python benchmarks/swaps.py`.

A true caption gets a wrong word (another place, number or colour, two colours exchanged ...), and
the flow's loss is measured with both, on the same pictures and the same noise. What a wrong word
adds is what the model has learned of that word: 0 where it is not read. A run shows this long
before its drawings do, so two designs can be compared after some minutes of training.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

import torch

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.captions import NUMBERS, plural, with_article
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import (
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
    SceneObject,
    place,
    relations,
    sample_scene,
)

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
# How many objects a scene has whose caption can be made wrong in this way.
KINDS = {"place": (1,), "colour": (1,), "shape": (1,), "number": (2, 3, 4)}
KINDS |= {"owner": (2,), "relation": (2,)}


def told(kind: str, scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """A true caption and a wrong one, or None where the scene offers none of this kind."""

    def other(value, values):
        return rng.choice([v for v in values if v != value])

    def named(o: SceneObject, **changed: str) -> str:
        colour, shape = changed.get("colour", o.colour), changed.get("shape", o.shape)
        return with_article(f"{colour} {shape}")

    objects = sorted(scene.objects, key=lambda o: o.x + o.y)  # as the training captions list them
    if kind == "relation":
        rng.shuffle(objects)
    a, b = objects[0], objects[-1]
    if kind == "number":
        if len({(o.colour, o.shape) for o in scene.objects}) > 1:
            return None
        n = len(scene.objects)
        return tuple(f"{NUMBERS[m]} {a.colour} {plural(a.shape)}" for m in (n, other(n, NUMBERS)))
    if kind in ("owner", "relation"):
        held = relations(a, b)
        if a.colour == b.colour or a.shape == b.shape or not held:
            return None
        if kind == "relation":
            return tuple(f"{named(a)} {r} {named(b)}" for r in (held[0], OPPOSITE[held[0]]))
        swapped = f"{named(a, colour=b.colour)} and {named(b, colour=a.colour)}"
        return f"{named(a)} and {named(b)}", swapped
    if kind == "place":
        where = place(a)
        return where and tuple(f"{named(a)} {p}" for p in (where, other(where, PLACES)))
    values = COLOURS if kind == "colour" else SHAPES
    return named(a), named(a, **{kind: other(getattr(a, kind), values)})


def cases(kind: str, n: int, seed: int = 0) -> Iterator[tuple[Scene, tuple[str, str]]]:
    """`n` scenes with their two captions."""
    rng = random.Random(f"{kind} {seed}")
    while n:
        scene = sample_scene(rng, rng.choice(KINDS[kind]))
        if captions := told(kind, scene, rng):
            n -= 1
            yield scene, captions


@torch.no_grad()
def added_loss(pipe: VisLMPipeline, kind: str, n: int) -> list[float]:
    """What the wrong word adds to the loss at each of `LEVELS`."""
    scenes, captions = zip(*cases(kind, n), strict=True)
    x0 = pipe.autoencoder.encode(render(scenes))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    true, wrong = (pipe.encode_prompt(texts)[0] for texts in zip(*captions, strict=True))
    added = []
    for level in LEVELS:
        noisy, timestep = (1 - level) * x0 + level * noise, torch.full((n,), 1000 * level)
        right, other = (
            (pipe.backbone(noisy, timestep, condition) - (noise - x0)).square().mean().item()
            for condition in (true, wrong)
        )
        added.append(other - right)
    return added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=128, help="pictures of each kind (default 128)")
    parser.add_argument("--run", help="folder of a run, finished or not; else the shipped weights")
    options = parser.parse_args()
    pipe = VisLMPipeline.from_run(options.run) if options.run else VisLMPipeline.from_bundled()
    print("added to the loss, in thousandths, at noise level")
    print(f"{'wrong':>10}", *(f"{level:>6}" for level in LEVELS))
    for kind in KINDS:
        added = added_loss(pipe, kind, options.n)
        print(f"{kind:>10}", *(f"{1000 * value:6.1f}" for value in added), flush=True)


if __name__ == "__main__":
    main()
