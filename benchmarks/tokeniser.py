"""How much of a picture survives an autoencoder: `python benchmarks/tokeniser.py`, half a minute.

The share of fresh scenes that the parser reads back whole from their reconstructions, decibels, and
where there is a codebook, how many of its entries are in use.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter

import torch
from parser import first_mistake

from vislm_tutorial.data.parsing import read
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import sample_scenes
from vislm_tutorial.generators import VQAutoencoder
from vislm_tutorial.training.autoencoding import BUNDLED, load_autoencoder

SEED = 1_000_003  # of scenes that no recipe trains on


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", default=BUNDLED, help="a run's or pipeline's folder")
    parser.add_argument("--n", type=int, default=1000, help="scenes (default 1000)")
    options = parser.parse_args()
    model = load_autoencoder(options.source)
    scenes = sample_scenes(options.n, SEED)
    mistakes, errors, used = Counter(), 0.0, Counter()
    for start in range(0, options.n, 100):
        some = scenes[start : start + 100]
        images = render(some, 64)
        drawn = model.decode(model.encode(images))
        errors += (drawn - images).square().mean().item() * len(some)
        mistakes.update(first_mistake(s, r) for s, r in zip(some, read(drawn), strict=True))
        if isinstance(model, VQAutoencoder):
            used.update(model.encode_codes(images).flatten().tolist())
    whole = mistakes.pop("", 0) / options.n
    decibels = 10 * math.log10(4 * options.n / errors)  # pixels span 2
    print(f"{whole:.3f} of {options.n} scenes read back whole, {decibels:.1f} dB")
    print("mistakes:", ", ".join(f"{name} {number}" for name, number in mistakes.most_common()))
    if used:
        share = torch.tensor(list(used.values())) / sum(used.values())
        perplexity = math.exp(-(share * share.log()).sum().item())
        print(f"{len(used)} of {model.config.codes} codes in use, perplexity {perplexity:.0f}")


if __name__ == "__main__":
    main()
