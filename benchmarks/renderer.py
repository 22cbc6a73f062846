"""How fast scenes are drawn: `python benchmarks/renderer.py`, about ten seconds."""

from __future__ import annotations

import argparse
import time

import torch

from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import sample_scenes

SIDES = (32, 64, 128)
BATCHES = (1, 32, 256)


def rate(batch: int, side: int, seconds: float) -> float:
    """Images a second in batches of `batch`, for at least `seconds` after one that warms up."""
    scenes = sample_scenes(max(512, batch), seed=side)
    render(scenes[:batch], side)
    drawn, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        first = drawn % (len(scenes) - batch + 1)
        drawn += len(render(scenes[first : first + batch], side))
    return drawn / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number (default 1)")
    seconds = parser.parse_args().seconds
    print(f"images/s, {torch.get_num_threads()} threads")
    print(f"{'side':>5}" + "".join(f"{f'batch {b}':>11}" for b in BATCHES))
    for side in SIDES:
        cells = "".join(f"{rate(batch, side, seconds):>11,.0f}" for batch in BATCHES)
        print(f"{side:>5}{cells}", flush=True)


if __name__ == "__main__":
    main()
