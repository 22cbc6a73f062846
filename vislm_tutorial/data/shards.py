"""Pictures in tar files, as webdataset has them: a few large files in the place of many small ones.

A record is the files of one name in a row: `000017.png` or `.jpg`, and `000017.txt`, its caption.
Here a shard is read by position: where each picture lies is noted once, and a picture is read and
decoded when it is asked for. training/streaming.py reads the same files from front to back.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .._files import replaced_when_complete
from .decoding import MAX_PIXELS, SUFFIXES, UnreadablePicture, read_picture
from .folder import skipped_lines
from .images import PictureDataset, check_image_size, fit_square, to_pil, to_pixels
from .metadata import CaptionProblem, clean_caption
from .scan import Skipped, existing_folder, printable

PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)  # as keys of a record: "png", "jpg", ...


@dataclass(frozen=True)
class Record:
    """Where a picture's bytes lie, and what is said of it."""

    shard: Path
    key: str  # the record's name in its shard
    offset: int  # bytes from the start of the shard
    size: int  # bytes
    caption: str


class Shards(PictureDataset):
    """Pictures with captions from a folder of tar files, made by `load_shards`.

    A map-style data set; of the pictures only positions and captions are in memory.

    Attributes:
        root: the folder.
        items: list of `Record`, in the order of the shards and of the records in them.
        skipped: list of `Skipped`, whose path is that of the shard with the record's name.
    """

    def __init__(self, root: Path, items: list[Record], skipped: list[Skipped], image_size: int):
        self.root, self.items, self.skipped, self.image_size = root, items, skipped, image_size

    def _pixels(self, index: int) -> Tensor:
        record = self.items[index]
        try:
            return decode(read_bytes(record), self.image_size)
        except UnreadablePicture as problem:
            raise UnreadablePicture(
                f"record {record.key} of {printable(record.shard)} {problem}; "
                "load_shards(..., check=True) leaves such records out"
            ) from problem

    def report(self, limit: int = 20) -> str:
        """What is used, and the first `limit` records that are not, each with its reason."""
        shards = len({record.shard for record in self.items})
        head = f"{len(self)} pictures with captions in {shards} shards from {printable(self.root)}"
        return "\n".join([head, *skipped_lines(self.root, self.skipped, limit)])


def load_shards(path: str | os.PathLike, image_size: int = 64, *, check: bool = True) -> Shards:
    """The pictures of all `.tar` files in a folder.

    Args:
        path: the folder.
        image_size: side in pixels of the pictures that come out.
        check: decode every picture once, and leave out those that cannot be; without it only
            the shards' headers are read, and a damaged picture ends the run that asks for it.

    Raises:
        FileNotFoundError, NotADirectoryError: if `path` is not a folder.
        ValueError: for a bad size, and if no record can be used.
    """
    check_image_size(image_size)
    root = existing_folder(path)
    skipped: list[Skipped] = []
    items = []
    for shard in shard_paths(root):
        for record in _records(shard, skipped):
            try:
                if check:
                    decode(read_bytes(record), image_size)
                items.append(record)
            except UnreadablePicture as problem:
                skipped.append(Skipped(shard / record.key, str(problem)))
    if not items:
        raise ValueError(
            "\n".join(
                [
                    f"No record with a picture and a caption was found in the .tar files of "
                    f"{printable(root)}; write_shards makes such files.",
                    *skipped_lines(root, skipped, 10),
                ]
            )
        )
    return Shards(root, items, skipped, image_size)


def shard_paths(folder: str | os.PathLike) -> list[Path]:
    """The `.tar` files of a folder by name, without the hidden ones."""
    found = Path(folder).expanduser().glob("*.tar")
    return sorted(path for path in found if not path.name.startswith("."))


def write_shards(
    dataset: Iterable[dict], folder: str | os.PathLike, per_shard: int = 1000
) -> list[Path]:
    """Writes `{"image": (3, H, W) in [-1, 1], "caption": str}` items as PNG into tar files.

    Args:
        dataset: read once, from front to back.
        folder: made if need be. It must hold no shards: all of a folder are read as one set.
        per_shard: records a file; a good shard is 100 MB to 1 GB.

    Returns:
        The paths, each written whole or not at all.

    Raises:
        ImportError: without webdataset.
        FileExistsError: if there are `.tar` files in the folder.
        ValueError: for `per_shard` below 1 and for an empty data set.
    """
    webdataset = import_webdataset()
    if per_shard < 1:
        raise ValueError(f"per_shard is {per_shard}; expected at least 1 record a file.")
    folder, paths, items = Path(folder).expanduser(), [], iter(_numbered(dataset))
    if older := shard_paths(folder):
        raise FileExistsError(
            f"{printable(folder)} holds {len(older)} .tar file(s), and a folder's shards are read "
            "as one set; give another folder, or delete them first."
        )
    following = next(items, None)
    while following is not None:
        path = folder / f"shard-{len(paths):06d}.tar"
        with replaced_when_complete(path) as temporary:
            with webdataset.TarWriter(str(temporary), mtime=0) as writer:
                for _ in range(per_shard):
                    writer.write(following)
                    following = next(items, None)
                    if following is None:
                        break
        paths.append(path)
    if not paths:
        raise ValueError("write_shards got an empty data set; there is nothing to write.")
    return paths


def import_webdataset():
    """The package webdataset.

    Raises:
        ImportError: if it is missing; the message says how to get it.
    """
    try:
        import webdataset
    except ImportError as error:
        raise ImportError(
            "Tar shards need the package webdataset: pip install 'vislm-tutorial[shards]'."
        ) from error
    return webdataset


def decode(data: bytes, image_size: int) -> Tensor:
    """A picture file's bytes as (3, H, W) uint8, the central square of it.

    Raises:
        UnreadablePicture: whatever is wrong with it.
    """
    picture = read_picture(io.BytesIO(data), MAX_PIXELS, at_least=image_size)
    return to_pixels(fit_square(picture, image_size))


def caption_of(text: bytes) -> str:
    """A caption as a record has it.

    Raises:
        CaptionProblem: if there is none that can be used.
    """
    try:
        return clean_caption(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CaptionProblem(f"has a caption that is not UTF-8 ({error.reason})") from error


def picture_key(record: Mapping[str, object]) -> str:
    """The entry of a record that holds its picture.

    Raises:
        UnreadablePicture: if there is none.
    """
    for suffix in PICTURES:
        if suffix in record:
            return suffix
    held = ", ".join(name for name in record if not name.startswith("__"))
    raise UnreadablePicture(f"has no picture (it holds {held or 'nothing'})")


def read_bytes(record: Record) -> bytes:
    """The bytes of the record's picture."""
    with open(record.shard, "rb") as file:
        file.seek(record.offset)
        return file.read(record.size)


def _numbered(dataset: Iterable[dict]) -> Iterator[dict]:
    # Not enumerate(dataset): a map-style data set that never raises IndexError has no end.
    items = (dataset[i] for i in range(len(dataset))) if hasattr(dataset, "__len__") else dataset
    for number, item in enumerate(items):
        buffer = io.BytesIO()
        to_pil(item["image"]).save(buffer, "PNG")
        yield {"__key__": f"{number:08d}", "png": buffer.getvalue(), "txt": item["caption"]}


def _records(shard: Path, skipped: list[Skipped]) -> Iterator[Record]:
    """The usable records of one shard, in order; whatever is ruled out goes to `skipped`."""
    try:
        with tarfile.open(shard, "r:") as file:  # not compressed: positions would mean nothing
            for key, members in _groups(file):
                try:
                    if "txt" not in members:
                        raise CaptionProblem("has no caption, no .txt of the same name")
                    picture = members[picture_key(members)]
                    caption = caption_of(file.extractfile(members["txt"]).read())
                    yield Record(shard, key, picture.offset_data, picture.size, caption)
                except (CaptionProblem, UnreadablePicture) as problem:
                    skipped.append(Skipped(shard / key, str(problem)))
                file.members = []  # tarfile keeps each header that it has read
        if not _is_closed(shard):  # tarfile takes a file cut between two blocks for a whole one
            skipped.append(Skipped(shard, "ends early: the blocks that close a tar are missing"))
    except (tarfile.TarError, OSError) as error:
        skipped.append(Skipped(shard, f"ends early, or is no plain tar file ({error})"))


def _is_closed(shard: Path) -> bool:
    with open(shard, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(file.tell(), 2 * tarfile.BLOCKSIZE), os.SEEK_END)
        return file.read() == bytes(2 * tarfile.BLOCKSIZE)


def _groups(file: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Files of one name in a row: (name without suffix, {suffix: member})."""
    key, members = None, {}
    for member in file:
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        current = f"{folder}/{stem}" if folder else stem
        if not member.isreg() or not stem:
            continue
        if current != key and members:
            yield key, members
            members = {}
        key = current
        members[suffix.lower()] = member
    if members:
        yield key, members
