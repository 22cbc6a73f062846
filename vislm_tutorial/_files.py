"""Writing so that a kill leaves the old or the new and nothing torn; hashing each file once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAY = 24 * 3600.0  # seconds


@contextmanager
def replaced_when_complete(path: Path) -> Iterator[Path]:
    """Yields a new path beside `path` for a file or folder; on a clean exit it becomes `path`.

    The change is one step, and the content is on the disk before the name is, so neither a kill
    nor a power cut leaves a torn `path`. A file replaces an older one; of a folder the first
    complete one stays, since a folder cannot be replaced in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        written = temporary.rglob("*") if temporary.is_dir() else [temporary]
        for file in written:
            if file.is_file():
                _flush_to_disk(file)
        if not (temporary.is_dir() and path.is_dir()):
            os.replace(temporary, path)
    finally:
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder` more than a day ago."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                _remove(path)


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_all(paths: list[Path]) -> str:
    """The sha256 of the lines "<name> <sha256>" of all files, each ended by a newline."""
    lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def results_to_go_on_with(path: Path | None, settings: dict, empty: dict) -> dict:
    """What a benchmark has stored at `path`, or `empty`, with the `settings` of all its rows.

    Raises:
        ValueError: if the rows there were measured with other settings.
    """
    settings = json.loads(json.dumps(settings))  # as they are read back: lists for tuples
    if not (path and path.is_file()):
        return empty | {"settings": settings}
    stored = json.loads(path.read_text(encoding="utf-8"))
    before = stored.get("settings", {})
    if before != settings:
        other = [
            f"{name} is {before.get(name)} there, not {settings.get(name)}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        raise ValueError(
            f"{path} holds rows of other settings: {', '.join(other)}. Delete it to measure anew, "
            "or store these elsewhere."
        )
    return stored


def remembered_sha256(folder: Path, pattern: str, memory: Path, afresh: bool = False) -> str:
    """The sha256 of `folder/pattern`, computed once a machine while the file stays unchanged.

    Args:
        folder: where to look.
        pattern: a file's relative path, or a glob with `*` for many, hashed by `sha256_of_all`
            in the order of their names.
        memory: a folder whose file `sha256.json` keeps the results with the files' number, size
            and modification time, which tell whether they changed. Where it cannot be written,
            nothing is remembered.
        afresh: compute it even if it is remembered.

    Raises:
        FileNotFoundError: if no file matches.
    """
    paths = sorted(folder.glob(pattern)) if "*" in pattern else [folder / pattern]
    if not paths:
        raise FileNotFoundError(f"no file matches {folder / pattern}")
    stats = [path.stat() for path in paths]
    stamp = [len(paths), sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)]
    key, store = str((folder / pattern).absolute()), memory / "sha256.json"
    known = _read_json(store).get(key, {})
    if not afresh and known.get("stamp") == stamp:
        return known["sha256"]
    found = sha256_of_all(paths) if "*" in pattern else sha256_of(paths[0])
    with suppress(OSError):  # a read-only memory costs time, not correctness
        entry = {key: {"stamp": stamp, "sha256": found}}
        with replaced_when_complete(store) as temporary:
            temporary.write_text(json.dumps(_read_json(store) | entry), encoding="utf-8")
    return found


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flush_to_disk(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
