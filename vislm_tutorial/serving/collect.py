"""What users typed, kept for the next training: append-only, bounded, and little about anyone.

A line of JSON a caption, in files that are only ever appended to:

    {"kind": "typed", "minute": 29401234, "id": "…", "caption": "a crimson disc", "seed": 3}
    {"kind": "feedback", "minute": 29401236, "id": "…", "right": false}

A caption is kept only with its sender's consent (the caller asks), without name or address, and
with its minute only. What looks like an e-mail address, a link or a long number is not kept at all.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 300  # characters of a caption that are kept
_PRIVATE = (
    re.compile(r"\S@\S"),  # an e-mail address, an account's name
    re.compile(r"https?://|www\.", re.I),
    re.compile(r"(?:\d[\s().+-]*){6}"),  # telephone, card, birthday
)


@dataclass(frozen=True)
class Typed:
    """A caption that was typed.

    Attributes:
        caption: as it was typed.
        id: of the answer; several captions of one request share it.
        seed: the first picture's.
        minute: since 1970, when it was kept; None: not kept yet.
        right: what its sender thought of the picture; None: nothing was said.
    """

    caption: str
    id: str
    seed: int = 0
    minute: int | None = None
    right: bool | None = None


def looks_private(caption: str) -> bool:
    """Whether a caption holds what identifies a person: an address, a link, a long number.

    Names are not found so; that is why a rare word never leaves the log (see `monitor`).
    """
    return any(pattern.search(caption) for pattern in _PRIVATE)


class CaptionLog:
    """An append-only log in a folder, for the threads of one process.

    A line is written in one piece. What a kill tears is at most the last line: it is passed over
    when the log is read, and the next line begins afresh.

    Args:
        folder: is made if need be.
        max_bytes: a file that has grown beyond it is closed, and a new one is begun.
        max_files: older files are removed, and with them what they hold.

    Raises:
        ValueError: if there is no room for a line.
    """

    def __init__(self, folder: str | Path, max_bytes: int = 1_000_000, max_files: int = 10):
        if max_bytes < 1_000 or max_files < 1:
            raise ValueError(
                f"max_bytes is {max_bytes}, max_files {max_files}; expected 1000 and 1 at least."
            )
        self.folder, self.max_bytes, self.max_files = Path(folder), max_bytes, max_files
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.torn = 0  # lines that the last reading could not make out

    def append(self, typed: Sequence[Typed]) -> int:
        """Keep captions whose sender consents, none that looks private; returns how many."""
        kept = [entry for entry in typed if not looks_private(entry.caption)]
        minute = int(time.time() // 60)
        self._write(
            {
                "kind": "typed",
                "minute": minute if entry.minute is None else entry.minute,
                "id": entry.id,
                "caption": entry.caption[:LONGEST],
                "seed": entry.seed,
            }
            for entry in kept
        )
        return len(kept)

    def feedback(self, identity: str, right: bool) -> None:
        """Keep what the sender thought of the answer `identity`; the last word counts."""
        minute = int(time.time() // 60)
        self._write([{"kind": "feedback", "minute": minute, "id": identity, "right": bool(right)}])

    def read(self) -> list[Typed]:
        """All captions in the order in which they came, each with the last feedback on it."""
        records, self.torn = [], 0
        for path in self.files():
            for line in path.read_bytes().splitlines():
                record = _parsed(line)
                if record is None:
                    self.torn += 1
                else:
                    records.append(record)
        said = {r["id"]: r["right"] for r in records if r["kind"] == "feedback"}
        return [
            Typed(r["caption"], r["id"], r["seed"], r["minute"], said.get(r["id"]))
            for r in records
            if r["kind"] == "typed"
        ]

    def files(self) -> list[Path]:
        """The log's files, oldest first."""
        return sorted(self.folder.glob("captions-*.jsonl"))

    def _write(self, records: Iterator[dict] | Sequence[dict]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records).encode()
        if not lines:
            return
        with self._lock:
            path = self._current()
            if path.exists() and not _ends_whole(path):
                lines = b"\n" + lines  # a kill tore the last line: leave it behind
            with open(path, "ab", opener=_for_its_owner) as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())

    def _current(self) -> Path:
        """The file to append to; begins another, and removes the oldest, when it is full."""
        files = self.files()
        if files and files[-1].stat().st_size < self.max_bytes:
            return files[-1]
        number = int(files[-1].stem.removeprefix("captions-")) + 1 if files else 1
        for old in files[: max(0, len(files) + 1 - self.max_files)]:
            old.unlink(missing_ok=True)
        return self.folder / f"captions-{number:06d}.jsonl"


def _for_its_owner(path: str, flags: int) -> int:
    """Opens a file that nobody else may read."""
    return os.open(path, flags, 0o600)


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


_FIELDS = {
    "typed": {"minute": int, "id": str, "caption": str, "seed": int},
    "feedback": {"minute": int, "id": str, "right": bool},
}


def _parsed(line: bytes) -> dict | None:
    """A whole record, or None for anything else."""
    try:
        record = json.loads(line)
        fields = _FIELDS[record["kind"]]
        whole = all(isinstance(record[name], kind) for name, kind in fields.items())
    except (ValueError, KeyError, TypeError):
        return None
    return record if whole else None
