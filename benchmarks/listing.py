"""What the repaired listing reaches: `python benchmarks/listing.py`, two minutes on a GPU.

A CPU core takes twenty minutes for the smaller task of page 5.18: `--one-shape --size 20000
--width 128 --depth 3 --batch-size 32 --lr 2e-3 --seconds 600 --control-seconds 110`.

Trains `vislm_tutorial.listing` on coloured shapes twice: as it should be, and with each picture
given to another picture's caption, the floor. Stores the log, ExactEval's scores with intervals at
three temperatures, and the codes of eight drawings.
`-o book/results/listing.json` stores what page 5.18 shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from vislm_tutorial import listing
from vislm_tutorial._files import results_to_go_on_with
from vislm_tutorial.chapter_weights import find_chapter_weights
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation import evaluate
from vislm_tutorial.generators.vq import VQAutoencoder
from vislm_tutorial.training.datasets import SceneImages, picture_batches

CAPTIONS = (
    "a red circle",
    "a blue square on a white background",
    "a large green star in the centre",
    "a yellow triangle in the top left corner",
    "a pink cross on a black background",
    "a red circle left of a blue square",
    "three orange diamonds",
    "a striped purple square above a cyan circle",
)
ROWS = (  # the run, the task, the temperature; 0 is the article's arg max
    ("repaired", "single_object", 1.0),
    ("repaired", "single_object", 0.7),
    ("repaired", "single_object", 0.0),
    ("repaired", "colours", 0.7),
    ("others' pictures", "single_object", 0.7),
)


def load_data(options, device: torch.device):
    """Encoder, codebook, and the data sets to learn from and to validate on."""
    encoder = load_encoder("minilm", layers="mean", device=device)
    folder = find_chapter_weights("image_gpt") / "autoencoder"
    codebook = VQAutoencoder.from_pretrained(folder).float().to(device).eval()
    sets = []
    for size, seed in ((options.size, 0), (options.validation, 100)):
        scenes = SceneImages(size, seed)
        if options.one_shape:
            kept = [i for i, scene in enumerate(scenes.things) if len(scene.objects) == 1]
            scenes.things = [scenes.things[i] for i in kept]
            scenes.captions = [scenes.captions[i] for i in kept]
        images = torch.cat(list(picture_batches(scenes)))
        sets.append(listing.ImageDataset(scenes.captions, images, encoder, codebook))
    return encoder, codebook, *sets


def run(name: str, options, encoder, codebook, learn, validation, device) -> tuple:
    """Train one model; returns it and its record."""
    if name != "repaired":
        order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(0))
        learn.codes = learn.codes[order.to(device)]
    seconds = options.seconds if name == "repaired" else options.control_seconds
    torch.manual_seed(0)
    shape = {"width": options.width, "depth": options.depth, "heads": 4}
    model = listing.DrawingGPT2(encoder.width, codebook.config.codes, **shape).to(device)
    torch.manual_seed(0)
    log = listing.train(
        model,
        learn,
        options.steps,
        options.batch_size,
        options.lr,
        seconds=seconds,
        log_every=options.every,
    )
    states = encoder.encode(CAPTIONS)
    generator = torch.Generator(device).manual_seed(0)
    model.eval()
    codes = model.write(states.encoder_hidden_states, states.encoder_attention_mask, generator, 0.7)
    return model, {
        "name": name,
        **shape,
        "parameters": sum(p.numel() for p in model.parameters()),
        "pictures": len(learn),
        "batch_size": options.batch_size,
        "one_shape": options.one_shape,
        "steps": log[-1]["step"],
        "seconds": log[-1]["seconds"],
        "validation_loss": round(listing.validation_loss(model, validation), 4),
        "log": log,
        "codes": codes.tolist(),
    }


def score(model, encoder, codebook, task: str, temperature: float, n: int) -> dict:
    """One row of the table."""

    def draw(captions: list[str], seed: int):
        return listing.draw(model, encoder, codebook, captions, seed, temperature)

    result = evaluate(draw, task, n=n).scores[task]
    return {key: round(value, 4) for key, value in vars(result).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=55.0, help="most for the repaired run")
    parser.add_argument("--control-seconds", type=float, default=10.0, help="most for the other")
    parser.add_argument("--size", type=int, default=48_000, help="pictures to learn from")
    parser.add_argument("--validation", type=int, default=512, help="pictures kept apart")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--one-shape", action="store_true", help="learn from such pictures alone")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--every", type=int, default=50, help="steps between two rows of the log")
    parser.add_argument("--n", type=int, default=100, help="prompts a task")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    start = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")  # TF32, where there is any
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    empty = {"runs": [], "rows": []}
    stored = results_to_go_on_with(options.output, settings | {"device": name}, empty) | {
        "command": shlex.join(["python", "benchmarks/listing.py", *sys.argv[1:]]),
        "device": name,
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "captions": CAPTIONS,
    }
    data = load_data(options, device)
    print(f"{len(data[2])} pictures ready after {time.perf_counter() - start:.0f} s", flush=True)
    for name in dict.fromkeys(row[0] for row in ROWS):
        if name in (record["name"] for record in stored["runs"]):
            continue
        model, record = run(name, options, *data, device)
        stored["runs"].append(record)
        print(
            f"{name}: {record['parameters']:,} parameters, {record['steps']} steps in "
            f"{record['seconds']:.0f} s, loss {record['log'][-1]['loss']:.3f}, "
            f"validation {record['validation_loss']:.3f}",
            flush=True,
        )
        for _, task, temperature in (row for row in ROWS if row[0] == name):
            row = score(model, *data[:2], task, temperature, options.n)
            stored["rows"].append({"run": name, "task": task, "temperature": temperature, **row})
            interval = f"{row['low']:.3f} - {row['high']:.3f}"
            print(f"{task:>14} {temperature:>4g} {row['value']:>6.3f} {interval:>14}", flush=True)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
