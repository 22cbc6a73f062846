"""What a run says about itself: a log file, a progress bar, and a record at the end."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30  # of plain progress text, where a bar cannot be drawn
_PACKAGES = ("vislm-tutorial", "torch", "accelerate", "diffusers", "transformers", "numpy")


class RunLog:
    """The log file (one JSON record a line) and the progress on the screen.

    Records of steps after `step` belong to a piece of the run that was lost after its last
    checkpoint: they are dropped, so that no step has two lines.

    Args:
        path: the file; None for a process that reports nothing.
        step: updates done so far.
        steps: updates in the whole run.
        progress: True draws a bar, False says nothing, None draws a bar on a terminal and
            prints a line now and then elsewhere.
    """

    def __init__(self, path: Path | None, step: int, steps: int, progress: bool | None) -> None:
        self.path, self.steps = path, steps
        self._first, self._started, self._last_line = step, time.monotonic(), -math.inf
        if path is None:
            progress = False
        else:
            _drop_after(path, step)
        self._lines = progress is None and not sys.stderr.isatty()
        silent = progress is False or self._lines
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=silent, dynamic_ncols=True)

    def say(self, text: str) -> None:
        """A message that does not break the bar; silent when progress is False."""
        if self._lines:
            print(text, flush=True)
        elif not self._bar.disable:
            self._bar.write(text)

    def step(self) -> None:
        """One more update is done."""
        self._bar.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends the numbers of `step`, and shows them."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **without_nan(values)}) + "\n")
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if "images_per_second" not in values:
            self.say(f"step {step}/{self.steps}: {text}")
        elif self._lines:
            now = time.monotonic()
            if now - self._last_line > _SECONDS_BETWEEN_LINES:
                self._last_line = now
                left = (self.steps - step) * self._seconds_per_step(step)
                self.say(f"step {step}/{self.steps}: {text}, {left / 60:.1f} minutes left")
        else:
            shown = f"loss {values['loss']:.4g}, {values['images_per_second']:.0f} images/s"
            self._bar.set_postfix_str(shown)

    def _seconds_per_step(self, step: int) -> float:
        return (time.monotonic() - self._started) / max(1, step - self._first)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


class Clock:
    """Seconds of a run over all its pieces: everything, and training alone."""

    def __init__(self, total: float = 0.0, training: float = 0.0) -> None:
        self._start = time.perf_counter()
        self._before, self._before_training, self._paused = total, training, 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens inside (validation, samples, checkpoints) is not training."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    @property
    def piece(self) -> float:
        """Seconds since this piece began."""
        return time.perf_counter() - self._start

    @property
    def total(self) -> float:
        """Seconds of all pieces."""
        return self._before + self.piece

    @property
    def training(self) -> float:
        """Seconds of all pieces, pauses left out."""
        return self._before_training + self.piece - self._paused


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Versions, processors and, in a checkout, the commit: what one needs to repeat a run."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "git_commit": _git_commit(),
    }


def without_nan(value: Any) -> Any:
    """NaN and infinity in (nested) mappings as None: JSON has neither, strict readers stop."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _git_commit() -> str | None:
    """The commit of the checkout the package runs from, with "+" if files differ; else None."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()

    try:
        # Fails for a copy installed in an environment that merely lies in some checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+" if git("diff", "HEAD", "--name-only") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _drop_after(path: Path, step: int) -> None:
    """Keeps the records of `path` up to `step`, and no half line of a process that was killed."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            whole = json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            kept.append(f"{line}\n")
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
