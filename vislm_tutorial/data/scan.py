"""Which files of a reader's folder may be opened: a walk that follows nothing out of the folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .decoding import OTHER_SUFFIXES, SUFFIXES
from .metadata import METADATA_NAMES, Entry, read_metadata


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of a metadata file, that is not used."""

    path: Path
    reason: str


def existing_folder(path: str | os.PathLike) -> Path:
    """The folder's absolute path, links resolved; `~` is the home directory.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {printable(folder)}; check the path.")
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{printable(folder)} is a file; expected the folder that holds your pictures."
        )
    return folder.resolve()


def candidates(root: Path, skipped: list[Skipped]) -> Iterator[tuple[Path, Entry | None]]:
    """Safe regular files that should be pictures, sorted, each with its metadata row if it has one.

    Whatever is ruled out goes to `skipped`.
    """
    pictures: dict[str, Path] = {}
    listed: dict[str, Entry] = {}
    for file in _walk(root, skipped):
        if file.name in METADATA_NAMES:
            _add_metadata(root, file, listed, skipped)
        elif file.suffix.lower() in SUFFIXES:
            pictures[_key(file)] = file
        elif file.suffix.lower() in OTHER_SUFFIXES:
            skipped.append(Skipped(file, "is of a kind that is not read; save it as PNG or JPEG"))
    for key, entry in listed.items():  # a listed file counts as a picture whatever its suffix
        pictures.setdefault(key, entry.file)
    for key, file in sorted(pictures.items()):
        problem = unsafe(root, file)
        if problem is None:
            yield file, listed.get(key)
        else:
            source = f" (named in {listed[key].where})" if key in listed else ""
            skipped.append(Skipped(file, problem + source))


def _walk(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """All files below `root` that are not hidden, in a fixed order."""

    def report(error: OSError) -> None:
        skipped.append(Skipped(Path(error.filename), f"cannot be listed ({error.strerror})"))

    for folder, folders, files in os.walk(root, onerror=report):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                skipped.append(Skipped(Path(folder, name), "is a link to a folder, not followed"))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _add_metadata(root: Path, file: Path, listed: dict, skipped: list[Skipped]) -> None:
    problem = unsafe(root, file)
    if problem is not None:
        skipped.append(Skipped(file, problem))
        return
    try:
        entries = read_metadata(file)
    except OSError as error:
        skipped.append(Skipped(file, f"cannot be read ({error.strerror or error})"))
        return
    for entry in entries:
        if entry.file is None:
            line = entry.where.removeprefix(file.name).strip()
            skipped.append(Skipped(file, f"{line} {entry.problem}"))
        elif listed.setdefault(_key(entry.file), entry) is not entry:
            first = listed[_key(entry.file)].where
            skipped.append(Skipped(entry.file, f"is named again in {entry.where}; {first} counts"))


def _key(file: Path) -> str:
    """One spelling for one file: no `..`, and é as one letter (macOS stores it as two)."""
    return unicodedata.normalize("NFC", os.path.normpath(file))


def unsafe(root: Path, file: Path) -> str | None:
    """Why a file must not be opened, or None. A FIFO, for one, would block for ever."""
    try:
        target = file.resolve()
        if not target.is_relative_to(root):
            return "lies outside the folder, or is a link that leads there; put a copy inside"
        if not target.exists():
            return "is not on disk"
        return None if target.is_file() else "is not a regular file"
    except (OSError, RuntimeError, ValueError) as error:  # link loops, over-long names
        return f"cannot be found ({error})"


def printable(path: Path | str) -> str:
    """A path or message for the screen: control characters and undecodable bytes are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(path)
    )
