"""The reader's own pictures: a folder in Hugging Face's imagefolder convention.

What cannot be used is reported by name with the reason and left out; nothing in the folder is
ever written. Every picture is decoded once, on loading, so nothing can fail later in training.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .decoding import MAX_PIXELS, SUFFIXES, UnreadablePicture, read_picture
from .images import CROPS, PictureDataset, check_image_size, fit_square, to_pixels
from .metadata import (
    METADATA_NAMES,
    CaptionProblem,
    Entry,
    clean_caption,
    read_sidecar,
)
from .scan import Skipped, candidates, existing_folder, printable, unsafe


@dataclass(frozen=True)
class Item:
    """A picture that is used."""

    path: Path
    caption: str


class Folder(PictureDataset):
    """Pictures with captions from one folder, made by `load_folder`.

    A map-style data set: `folder[i]` is {"image": (3, H, W) in [-1, 1], "caption": str}.

    Attributes:
        root: the folder.
        items: list of `Item`, sorted by path.
        skipped: list of `Skipped`, in the order found.
    """

    def __init__(self, root: Path, items: list[Item], skipped: list[Skipped], pixels: Tensor):
        """`pixels` are the decoded pictures, (B, 3, H, W) uint8, in the order of `items`."""
        self.root, self.items, self.skipped = root, items, skipped
        self._decoded = pixels

    def _pixels(self, index: int) -> Tensor:
        return self._decoded[index]

    def report(self, limit: int = 20) -> str:
        """What is used, and the first `limit` things that are not, each with its reason."""
        side = self._decoded.shape[-1]
        head = f"{len(self)} pictures with captions at {side} x {side} from {printable(self.root)}"
        return "\n".join([head, *skipped_lines(self.root, self.skipped, limit)])


def load_folder(
    path: str | os.PathLike,
    image_size: int = 64,
    *,
    caption_from_folder: bool = False,
    max_pixels: int = MAX_PIXELS,
    crop: str = "center",
) -> Folder:
    """Load all pictures with captions anywhere below a folder.

    A picture's caption is, in this order: its row in a `metadata.jsonl` or `metadata.csv` (columns
    `file_name` and `text` or `caption`); the text file of the same name (`cat.jpg`, `cat.txt`); the
    name of its sub-folder, if asked. Hidden files and folders are passed over, as in Hugging Face's
    loader, and links that lead out of the folder are not followed.

    Args:
        path: the folder.
        image_size: side in pixels of the pictures that come out. Memory: 3 x side^2 bytes each.
        caption_from_folder: whether `red_shoes/1.jpg` may be called "red shoes".
        max_pixels: a picture with more is not decoded, but reported.
        crop: "center" keeps the central square; "pad" keeps the whole picture on white.

    Raises:
        FileNotFoundError, NotADirectoryError: if `path` is not a folder.
        ValueError: for a bad option, and if no picture with a caption is found.
    """
    check_image_size(image_size)
    if crop not in CROPS:
        raise ValueError(f"crop is {crop!r}; choose one of {', '.join(CROPS)}.")
    root = existing_folder(path)
    skipped: list[Skipped] = []
    items, decoded = [], []
    for file, entry in candidates(root, skipped):
        try:
            caption = _caption(root, file, entry, caption_from_folder)
            picture = read_picture(file, max_pixels, at_least=image_size)
            decoded.append(to_pixels(fit_square(picture, image_size, crop)))
            items.append(Item(file, caption))
        except (CaptionProblem, UnreadablePicture) as problem:
            skipped.append(Skipped(file, str(problem)))
        except OSError as error:
            skipped.append(Skipped(file, f"cannot be read ({error.strerror or error})"))
    if not items:
        raise ValueError(_nothing_found(root, skipped, caption_from_folder))
    return Folder(root, items, skipped, torch.stack(decoded))


def _caption(root: Path, file: Path, entry: Entry | None, from_folder: bool) -> str:
    if entry is not None:
        if entry.problem is not None:
            raise CaptionProblem(f"{entry.problem} ({entry.where})")
        return entry.caption
    sidecar = file.with_suffix(".txt")
    if os.path.lexists(sidecar):
        problem = unsafe(root, sidecar)
        if problem is not None:
            raise CaptionProblem(f"{sidecar.name} {problem}")
        return read_sidecar(sidecar)
    if from_folder and file.parent != root:
        return clean_caption(file.parent.name.replace("_", " ").replace("-", " "))
    raise CaptionProblem(f"has no caption: no row in a metadata file, no {sidecar.name}")


def skipped_lines(root: Path, skipped: list[Skipped], limit: int) -> list[str]:
    lines = [f"{len(skipped)} left out:"] if skipped else []
    for entry in skipped[:limit]:
        path = entry.path.relative_to(root) if entry.path.is_relative_to(root) else entry.path
        lines.append(printable(f"  {path}: {entry.reason}"))
    if len(skipped) > limit:
        lines.append(f"  ... and {len(skipped) - limit} more (all are in .skipped)")
    return lines


def _nothing_found(root: Path, skipped: list[Skipped], from_folder: bool) -> str:
    hint = "" if from_folder else " To use sub-folder names, pass caption_from_folder=True."
    found = skipped_lines(root, skipped, 10) or ["It holds no picture at all."]
    return "\n".join(
        [
            f"No picture with a caption was found in {printable(root)}. Looked for pictures "
            f"({' '.join(SUFFIXES)}) with a caption in {' or '.join(METADATA_NAMES)} (columns "
            f"file_name and text or caption) or in a text file of the same name.{hint}",
            *found,
        ]
    )
