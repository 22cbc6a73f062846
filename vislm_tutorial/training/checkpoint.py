"""Checkpoints: one safetensors file each, written whole or not at all, checked before it is used.

A file holds tensors only, and the rest as JSON in the header: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

FORMAT = 1  # of the tensor names and the meta record below
_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
_PREFIX = 8  # bytes of the little-endian length in front of a safetensors header


class TornFileError(ValueError):
    """The file is not the one that was written: cut short, or with bytes changed."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped."""

    step: int  # updates done
    tensors: dict[str, Tensor]  # "model/...", "ema/...", "optimizer/...", "window/..."
    meta: dict[str, Any]  # JSON: config, best validation, scaler, minutes ...


def checkpoint_path(run_dir: str | Path, step: int) -> Path:
    """Where the checkpoint after `step` updates lies."""
    return Path(run_dir) / f"checkpoint-{step:08d}.safetensors"


def checkpoint_steps(run_dir: str | Path) -> list[int]:
    """The steps of all checkpoint files in `run_dir`, newest first, whole or not."""
    matches = (_NAME.fullmatch(path.name) for path in Path(run_dir).glob("checkpoint-*"))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def save(run_dir: str | Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes `checkpoint`, then deletes the oldest so that `keep` remain. Returns the path."""
    meta = {"format": FORMAT, "step": checkpoint.step, **checkpoint.meta}
    path = checkpoint_path(run_dir, checkpoint.step)
    write(path, checkpoint.tensors, {"meta": json.dumps(meta, sort_keys=True)})
    # Files of later steps are torn ones the run fell back from: they must not count as kept.
    older = [step for step in checkpoint_steps(run_dir) if step <= checkpoint.step]
    for step in older[keep:]:
        checkpoint_path(run_dir, step).unlink()
    return path


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint and checks it.

    Raises:
        TornFileError: when the file is cut short or changed.
        ValueError: when it is whole but of another format.
    """
    tensors, metadata = read(path)
    meta = json.loads(metadata.get("meta", "{}"))
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"{Path(path).name} has checkpoint format {meta.get('format')}; expected {FORMAT}. "
            "Resume it with the version of vislm_tutorial that wrote it, or start a new run."
        )
    return Checkpoint(meta.pop("step"), tensors, meta)


def latest(run_dir: str | Path) -> Path | None:
    """The newest whole checkpoint of `run_dir`, or None. Warns about each torn one it passes."""
    for step in checkpoint_steps(run_dir):
        path = checkpoint_path(run_dir, step)
        try:
            _checked_bytes(path)
        except TornFileError as problem:
            warnings.warn(f"{problem} It is passed over.", stacklevel=2)
        else:
            return path
    return None


def write(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file that carries its own sha256, all at once or not at all.

    Another process sees the old file or the new one; after a power cut, too. The sum is over the
    header (without the sum) and the tensors' bytes, so a change of any of them is found.
    """
    path = Path(path)
    # Clones: safetensors refuses tied weights, which share memory.
    flat = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    blob = memoryview(tensors_to_bytes(flat, dict(metadata)))
    header, data = _split(blob, path)
    header.setdefault("__metadata__", {})["sha256"] = _digest(header, data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format wants the tensors to start at a multiple of 8
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines((struct.pack("<Q", len(text)), text, data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write` made.

    Raises:
        TornFileError: when the file is cut short or changed.
    """
    blob, metadata = _checked_bytes(Path(path))
    return tensors_from_bytes(blob), metadata


def remove_temporaries(run_dir: str | Path) -> None:
    """Deletes what writes that were killed half-way left behind."""
    for path in Path(run_dir).glob(".*.safetensors.*.tmp"):
        path.unlink(missing_ok=True)


def _checked_bytes(path: Path) -> tuple[bytes, dict[str, str]]:
    blob = path.read_bytes()
    header, data = _split(memoryview(blob), path)
    metadata = header.get("__metadata__", {})
    if metadata.get("sha256") != _digest(header, data):
        raise TornFileError(f"{path.name} is damaged: its bytes do not match their sha256.")
    return blob, metadata


def _split(blob: memoryview, path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header as JSON, and the tensors' bytes."""
    end = _PREFIX + (struct.unpack("<Q", blob[:_PREFIX])[0] if len(blob) >= _PREFIX else len(blob))
    try:
        if end > len(blob):
            raise ValueError("the header is longer than the file")
        header = json.loads(bytes(blob[_PREFIX:end]))
        header.get("__metadata__", {}).get("sha256")
    except (ValueError, AttributeError) as problem:
        raise TornFileError(f"{path.name} is damaged: {problem}.") from None
    return header, blob[end:]


def _digest(header: Mapping[str, Any], data: memoryview) -> str:
    metadata = {k: v for k, v in header.get("__metadata__", {}).items() if k != "sha256"}
    canonical = json.dumps({**header, "__metadata__": metadata}, sort_keys=True)
    sha256 = hashlib.sha256(canonical.encode())
    sha256.update(data)
    return sha256.hexdigest()


def _sync_directory(folder: Path) -> None:
    """Makes the rename itself durable, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
