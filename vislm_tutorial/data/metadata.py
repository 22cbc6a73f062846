"""Captions as they lie beside pictures: metadata.jsonl, metadata.csv, sidecar text files.

The convention is Hugging Face's imagefolder: a row names a picture in `file_name`, relative to the
metadata file, and its caption in `text` (or `caption`).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
CAPTION_COLUMNS = ("text", "caption")
MAX_SIDECAR_BYTES = 100_000
_NOT_TEXT = re.compile(r"[\x00\ud800-\udfff]")  # undecodable bytes; NUL is the mark of UTF-16


class CaptionProblem(ValueError):
    """A caption that is not used; the message is the reason."""


@dataclass(frozen=True)
class Entry:
    """One row of a metadata file: the picture it names and a caption, or the problem with it.

    `where` is "metadata.jsonl line 3". A row that names no picture has `file` None.
    """

    file: Path | None
    where: str
    caption: str = ""
    problem: str | None = None


def clean_caption(text: object) -> str:
    """The caption on one line without surplus spaces.

    Raises:
        CaptionProblem: if it is not text, not valid Unicode, or empty.
    """
    if not isinstance(text, str):
        raise CaptionProblem(f"its caption is {text!r:.40}, expected text")
    if _NOT_TEXT.search(text):
        raise CaptionProblem("its caption is not UTF-8 text; save the file as UTF-8")
    caption = " ".join(text.split())
    if not caption:
        raise CaptionProblem("its caption is empty")
    return caption


def read_sidecar(path: Path) -> str:
    """The caption in a text file.

    Raises:
        CaptionProblem: if it is not UTF-8, empty, or too long to be a caption.
    """
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise CaptionProblem(f"{path.name} is too long to be a caption")
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    try:
        return clean_caption(text)
    except CaptionProblem as problem:
        raise CaptionProblem(f"{problem} ({path.name})") from None


def read_metadata(path: Path) -> list[Entry]:
    """All rows of a metadata.jsonl or metadata.csv, the faulty ones with their problem."""
    rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    entries = []
    for line, row in rows:
        where = f"{path.name} line {line}"
        if isinstance(row, str):
            entries.append(Entry(None, where, problem=row))
        else:
            entries.append(_entry(path.parent, where, row))
    return entries


def _entry(folder: Path, where: str, row: dict) -> Entry:
    row = {str(name).strip().lower(): value for name, value in row.items() if name}
    name = row.get("file_name")
    if not isinstance(name, str) or not name.strip() or _NOT_TEXT.search(name):
        found = f"found {', '.join(row)}" if name is None else f"it is {name!r:.60}"
        return Entry(None, where, problem=f"needs a file_name ({found})")
    file = folder / name.strip()
    try:
        present = [row[column] for column in CAPTION_COLUMNS if row.get(column) is not None]
        if not present:
            raise CaptionProblem(f"has no {' or '.join(CAPTION_COLUMNS)}")
        return Entry(file, where, caption=clean_caption(present[0]))
    except CaptionProblem as problem:
        return Entry(file, where, problem=str(problem))


def _json_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(line number, object), or (line number, what is wrong with the line)."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            text = raw.decode("utf-8-sig", errors="surrogateescape").strip()
            if not text:
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, f"is not JSON ({error})"
                continue
            yield line, row if isinstance(row, dict) else f"is {text:.40}, expected {{...}}"


def _csv_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(last line number of the row, row), or (line number, what is wrong there)."""
    # newline="" and strict: quoted captions may hold line breaks; a quote never closed is an error.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, f"is not CSV ({error})"
            else:
                yield reader.line_num, row
