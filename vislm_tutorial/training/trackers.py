"""TensorBoard and Weights & Biases, through accelerate."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuses a tracker whose package is missing, which accelerate would leave out in silence.

    Raises:
        ImportError: naming the package and how to get it.
    """
    for name in names:
        if find_spec(name) is None:
            raise ImportError(
                f"trackers names {name!r}, which is not installed; "
                "run `pip install vislm-tutorial[track]`, or leave it out of trackers."
            )


def start_trackers(
    accelerator: Accelerator, run_dir: Path, settings: dict[str, Any], step: int, run_id: str
) -> None:
    """Opens the trackers that `accelerator` was made with (`log_with`), their files in `run_dir`.

    Weights & Biases writes to the disk only (`wandb sync` uploads later) unless WANDB_MODE or
    WANDB_API_KEY says otherwise: nothing reaches the network unasked.

    Args:
        settings: what the run was told; values that are no plain number or text go as text.
        step: updates done; TensorBoard drops what a lost piece logged after it.
        run_id: the same for all pieces of a run, so that they make one run there.
    """
    if not accelerator.log_with:
        return
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
    plain = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in settings.items()}
    online = os.environ.get("WANDB_MODE") != "offline"
    wandb = {"dir": str(run_dir), "name": run_dir.name, "id": run_id}
    tensorboard = {"purge_step": step + 1} if step else {}
    accelerator.init_trackers(
        "vislm_tutorial",
        config=plain,
        init_kwargs={
            "wandb": wandb | ({"resume": "allow"} if online else {}),
            "tensorboard": tensorboard,
        },
    )


def track(accelerator: Accelerator, values: dict[str, float], step: int) -> None:
    """Numbers of step `step` to every open tracker."""
    if accelerator.trackers:
        accelerator.log(values, step=step)


def track_image(accelerator: Accelerator, path: Path, step: int) -> None:
    """The picture in file `path` to every open tracker."""
    if not accelerator.trackers:
        return
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))[None]  # (H, W, 3) -> (1, H, W, 3)
    for tracker in accelerator.trackers:
        layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({"samples": pixels}, step=step, **layout)


def stop_trackers(accelerator: Accelerator) -> None:
    """Closes the trackers, and nothing else: another run may follow in the same process."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []
