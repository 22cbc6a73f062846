"""What a run of a recipe has learned so far, read from its folder, also while it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from . import checkpoint
from .recipe import GENERATOR, RECIPE_FILE, Recipe, load_recipe


def run_recipe(run_dir: str | Path) -> Recipe:
    """The recipe that the run in `run_dir` follows.

    Raises:
        FileNotFoundError: if the folder holds none.
    """
    path = Path(run_dir) / RECIPE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{run_dir} has no {RECIPE_FILE}, so it is not the folder of a run. Give the folder "
            f"that `vislm train` wrote, or put the run's recipe there as {RECIPE_FILE}."
        )
    return load_recipe(path)


def run_weights(run_dir: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The newest averaged weights of a run's last stage, and the record that belongs to them.

    They are those of the finished piece (`generator/model.safetensors`, or the best of it)
    unless a newer checkpoint shows that the run has gone on since.

    Returns:
        The state of `TextToImage` by name, and a record with "step" and "stopped", JSON values.

    Raises:
        FileNotFoundError: if nothing has been saved yet.
    """
    stage = Path(run_dir) / GENERATOR
    record_file = stage / "run.json"
    record = json.loads(record_file.read_text(encoding="utf-8")) if record_file.is_file() else {}
    newest = max(checkpoint.checkpoint_steps(stage), default=-1)
    if record.get("step", -1) >= newest and record:
        return checkpoint.read(stage / record["weights"])[0], record
    path = checkpoint.latest(stage)
    if path is None:
        raise FileNotFoundError(
            f"{stage} holds neither finished weights nor a whole checkpoint yet; wait for the "
            "first one (training.checkpoint_every steps), or train on."
        )
    saved = checkpoint.load(path)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in saved.tensors.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = value
    # The average holds what is trained; buffers, where there are any, stand with the model.
    return groups["model"] | groups["ema"], {"step": saved.step, "stopped": None, **saved.meta}
