"""How fast backbones learn and draw: `python benchmarks/generators.py`, about a minute.

Training is forward, backward and one AdamW step; drawing is 20 steps with guidance, so 40 calls of
the backbone an image. Both work on grids as they are: encoder, fusion and autoencoder stay out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from vislm_tutorial.generators import FlowConfig, FlowGenerator, build_backbone
from vislm_tutorial.types import Condition

WIDTH, TOKENS = 192, 16  # of the condition
# Side and channels of the grid: the latents of 64 px images, and 32 px images themselves.
GRIDS = {"latents 8 x 8": (8, 8), "pixels 32 x 32": (32, 3)}
BACKBONES = {
    "dit, patch 1": FlowConfig(backbone="dit", patch_size=1),
    "dit, patch 2": FlowConfig(backbone="dit", patch_size=2),
    "dit, patch 4": FlowConfig(backbone="dit", patch_size=4),
    "unet": FlowConfig(backbone="unet", width=48, heads=4),
}


def conditions(n: int, device: str) -> Condition:
    """n random ones, nothing masked."""
    states = torch.randn(n, TOKENS, WIDTH, device=device)
    return Condition(states, states.new_ones(n, TOKENS, dtype=torch.bool), states[:, 0])


def rate(work: Callable[[], None], images: int, seconds: float, device: str) -> float:
    """Images a second, repeated for `seconds` after one call that warms up."""

    def finish() -> float:
        if device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()

    work()
    start, calls = finish(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        work()
        calls += 1
    return calls * images / (finish() - start)


def measure(
    config: FlowConfig, side: int, channels: int, options: argparse.Namespace
) -> tuple[int, float, float]:
    """Parameters, images a second in training, images a second drawn."""
    device, batch = options.device, options.batch
    backbone = build_backbone(config, side, channels, WIDTH).to(device)
    flow = FlowGenerator(backbone)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4)
    x0, condition = (
        torch.randn(batch, channels, side, side, device=device),
        conditions(batch, device),
    )
    few = max(1, batch // 8)  # drawing costs about 13 times as much an image as training
    drawn_for, empty = conditions(few, device), conditions(1, device)

    def train() -> None:
        flow.prepared_loss(x0, condition).backward()
        optimizer.step()
        optimizer.zero_grad()

    def draw() -> None:
        flow.sample(drawn_for, empty, guidance_scale=3.0, num_inference_steps=20)

    return (
        sum(p.numel() for p in backbone.parameters()),
        rate(train, batch, options.seconds, device),
        rate(draw, few, options.seconds, device),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number (default 2)")
    parser.add_argument("--batch", type=int, default=32, help="images a step (default 32)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--only", default="", help="rows that contain this, as in 'latents' or 'unet'"
    )
    options = parser.parse_args()
    print(f"{options.device}, {torch.get_num_threads()} threads, batches of {options.batch}")
    print(f"{'grid':<15} {'backbone':<13} {'parameters':>10} {'trained/s':>10} {'drawn/s':>8}")
    for grid, (side, channels) in GRIDS.items():
        for name, config in BACKBONES.items():
            many = config.kind == "dit" and (side // config.patch_size) ** 2 > 256
            if many or options.only not in f"{grid} {name}":
                continue  # 1,024 tokens and more: nobody would train that here
            count, trained, drawn = measure(config, side, channels, options)
            print(f"{grid:<15} {name:<13} {count:>10,} {trained:>10.1f} {drawn:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
