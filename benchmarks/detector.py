"""Do synthetic slices help a small detector when real ones are few?

    python benchmarks/detector.py

The detector is a small network that sorts slices into six: no nodule, or one in one of five lobes.
"Real" slices come from the program of `data.phantoms`, synthetic ones from the model that learned
of 10,000 others, with the label that their caption asked for, whether it was obeyed or not. Each
detector learns in as many steps, from the few real ones; from synthetic ones; from both, half and
half in each batch; and, as the most that could be hoped for, from as many more real ones. All are
tested on the same unseen real slices. A row a size, diet and seed is stored in
book/results/detector.json; those that are stored are not run again. Some 20 minutes on two slow
cores.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from rows import Table, device_name
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.data import phantoms
from vislm_tutorial.data.phantoms import Phantom

RESULTS = Path(__file__).parents[1] / "book" / "results" / "detector.json"
WORK = Path("runs/detector")
COMMAND = "python benchmarks/detector.py"
CLASSES = (
    *("no nodule", "right upper", "right middle", "right lower"),
    *("left upper", "left lower"),
)
DIETS = ("few real", "synthetic", "few real + synthetic", "few real + more real")
FEW = (50, 200)
SEEDS = 4
MORE, TEST = 1000, 1000  # synthetic ones and more real ones; slices that are tested on
STEPS, BATCH, RATE = 400, 64, 2e-3
DRAWING_STEPS = 20


class Detector(nn.Sequential):
    """(B, 1, 128, 128) slices in [-1, 1] -> (B, 6) logits of `CLASSES`. 0.3 M weights."""

    def __init__(self) -> None:
        widths = (1, 16, 32, 64, 64)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            size = 5 if before == 1 else 3
            layers += [nn.Conv2d(before, after, size, stride=2, padding=size // 2)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        # Where something is decides about the class, so places are not averaged away.
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(len(CLASSES)))
        self(torch.zeros(2, 1, 128, 128))


def label(phantom: Phantom) -> int:
    """Which of `CLASSES` a slice is."""
    nodule = phantom.nodule
    return 0 if nodule is None else CLASSES.index(f"{nodule.side} {nodule.lobe}")


def labels(items: Sequence[Phantom]) -> Tensor:
    """(N,) of `label`."""
    return torch.tensor([label(item) for item in items])


def real(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 1, 128, 128) in [-1, 1] and (N,) classes."""
    items = phantoms.sample_phantoms(n, seed)
    return phantoms.render(items)[:, :1], labels(items)


def synthetic(n: int, batch: int = 50) -> tuple[Tensor, Tensor]:
    """The same from the model, drawn once and kept in `WORK`."""
    file = WORK / f"synthetic-{n}.safetensors"
    items = phantoms.sample_phantoms(n, seed=900)
    if not file.is_file():
        pipe = VisLMPipeline.from_bundled("phantoms")
        pipe.set_progress_bar_config(disable=True)
        captions = [phantoms.caption(item, random.Random(i)) for i, item in enumerate(items)]
        pictures = []
        for start in range(0, n, batch):
            noise = [torch.Generator().manual_seed(i) for i in range(start, min(n, start + batch))]
            options = {"num_inference_steps": DRAWING_STEPS, "output_type": "pt"}
            drawn = pipe(captions[start : start + batch], generator=noise, **options).images
            pictures.append(drawn.mean(dim=1, keepdim=True))
            print(f"drawn {start + len(drawn)} of {n}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": torch.cat(pictures)}, file)
    return load_file(file)["images"], labels(items)


def batches(parts: Sequence[tuple[Tensor, Tensor]], random_: torch.Generator):
    """`STEPS` batches, each with equally many of every part, moved by up to two pixels."""
    share = BATCH // len(parts)
    for _ in range(STEPS):
        rows = [torch.randint(len(y), (share,), generator=random_) for _, y in parts]
        x = torch.cat([images[i] for (images, _), i in zip(parts, rows, strict=True)])
        y = torch.cat([classes[i] for (_, classes), i in zip(parts, rows, strict=True)])
        shift = torch.randint(-2, 3, (2,), generator=random_).tolist()
        yield x.roll(shift, dims=(2, 3)), y


def trained(parts: Sequence[tuple[Tensor, Tensor]], seed: int) -> Detector:
    """A detector after `STEPS` steps."""
    torch.manual_seed(seed)
    detector = Detector()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for x, y in batches(parts, torch.Generator().manual_seed(seed)):
        optimizer.zero_grad()
        F.cross_entropy(detector(x), y).backward()
        optimizer.step()
        schedule.step()
    return detector.eval()


@torch.no_grad()
def accuracy(detector: Detector, test: tuple[Tensor, Tensor]) -> tuple[int, int]:
    """How many are put into the right one of six; how many into the right one of two."""
    answers = torch.cat([detector(x).argmax(dim=1) for x in test[0].split(250)])
    return (
        int((answers == test[1]).sum()),
        int(((answers > 0) == (test[1] > 0)).sum()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"a diet (default {SEEDS})")
    parser.add_argument("--list", action="store_true", help="name the missing rows, run none")
    parser.add_argument("-o", "--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be 1 or more")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    order = {(few, diet): i for i, (few, diet) in enumerate((f, d) for f in FEW for d in DIETS)}
    settings = {"more": MORE, "test": TEST, "steps": STEPS, "batch": BATCH, "rate": RATE}
    table = Table(
        options.results,
        WORK / "lock",
        settings,
        order=lambda row: (order[row["few"], row["diet"]], row["seed"]),
        header={"command": COMMAND, "classes": list(CLASSES)},
    )
    done = {(row["few"], row["diet"], row["seed"]) for row in table.rows()}
    missing = [
        (few, diet, seed)
        for seed in range(options.seeds)
        for few, diet in order
        # Without real ones there is nothing that their number could change.
        if not (diet == "synthetic" and few != FEW[0]) and (few, diet, seed) not in done
    ]
    if options.list or not missing:
        print(*missing, sep="\n")
        return
    test, drawn = real(TEST, seed=901), synthetic(MORE)
    more = real(MORE, seed=902)
    for few, diet, seed in missing:
        own = real(few, seed=910 + seed)
        parts = {
            "few real": [own],
            "synthetic": [drawn],
            "few real + synthetic": [own, drawn],
            "few real + more real": [own, more],
        }
        place, found = accuracy(trained(parts[diet], seed), test)
        row = {"few": few, "diet": diet, "seed": seed, "right": place, "found": found}
        table.add(row | {"n": TEST, "device": device_name()})
        print(f"{few:4} {diet:22} seed {seed}: place {place / TEST:.3f}", flush=True)


if __name__ == "__main__":
    main()
