"""Whose colour is whose: trained with and without neighbours: `python benchmarks/binding.py`.

Two fresh models see the same pictures of two objects, with the same captions and the same noise. In
one, a token of the projector reads its neighbours, in the other it does not. How much an exchange
of the two colours adds to the loss shows when each begins to hear whose they are.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from swaps import LEVELS, added_loss, cases

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data.rendering import render
from vislm_tutorial.encoders import CachedEncoder
from vislm_tutorial.training.optim import build_optimizer, learning_rate_at
from vislm_tutorial.training.recipe import load_recipe
from vislm_tutorial.training.text_to_image import build_model

LEVEL = 0.8  # where an exchange costs most
EVERY = 100  # steps between two measurements
PICTURES = 4000


def curve(reach: int, steps: int) -> list[dict]:
    """What an exchange of colours adds to the loss at `LEVEL`, every so many steps."""
    pipe = VisLMPipeline.from_bundled()  # for its encoder and autoencoder
    encoder = CachedEncoder(pipe.encoder)
    recipe = load_recipe("scenes")
    recipe = replace(recipe, fusion=replace(recipe.fusion, reach=reach))
    model = build_model(recipe, encoder, pipe.autoencoder)
    scenes, captions = zip(*cases("owner", PICTURES, seed=1), strict=True)
    latents = torch.cat(
        [pipe.autoencoder.encode(render(scenes[i : i + 256])) for i in range(0, PICTURES, 256)]
    )
    states = encoder.encode([true for true, _ in captions])
    config = replace(recipe.training, schedule="constant", batch_size=32)
    optimizer, generator = build_optimizer(model, config), torch.Generator().manual_seed(0)
    judged = SimpleNamespace(
        autoencoder=pipe.autoencoder,
        backbone=model.generator.backbone,
        encode_prompt=lambda texts: (model.fusion(encoder.encode(texts)),),
    )
    rows = []
    for step in range(steps + 1):
        if step % EVERY == 0:
            added = added_loss(judged, "owner", 256)[LEVELS.index(LEVEL)]
            rows.append({"step": step, f"reach_{reach}": round(added, 5)})
            print(rows[-1], flush=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        batch = torch.randint(PICTURES, (config.batch_size,), generator=generator)
        loss = model({"pictures": latents[batch], "states": states[batch]}, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the curves")
    options = parser.parse_args()
    rows = [row for reach in (0, 3) for row in curve(reach, options.steps)]
    if options.output:
        command = shlex.join(["python", "benchmarks/binding.py", *sys.argv[1:]])
        text = json.dumps({"command": command, "rows": rows}, indent=1)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
