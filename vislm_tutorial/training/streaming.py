"""Pictures read from front to back, for sets that cannot be read by position.

Each process, and each of its loader's workers, reads shards of its own; a buffer mixes what comes.
A shard is opened once an epoch and memory holds one buffer, however large the set is.
A stream is for a call of `train` by hand: a recipe reads shards by position (`load_shards`), and
holds all pictures, prepared, in memory.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.decoding import UnreadablePicture
from ..data.images import check_image_size, pixels_to_tensor
from ..data.metadata import CaptionProblem
from ..data.shards import caption_of, decode, import_webdataset, picture_key, shard_paths
from .data import derive_seed

MOST_IN_A_ROW = 1000  # damaged records; more are no accident


class StreamedImages(IterableDataset):
    """An endless stream of `{"image": (3, H, W) in [-1, 1], "caption": str}`.

    The order is a function of (seed, epoch, number of readers): each epoch the shards are dealt
    anew to the readers, and each reader mixes its records in a buffer. Records go through the
    buffer undecoded, so that going on in the middle costs reading, but no decoding.

    A record that cannot be used is named in a warning and counted in `skipped`, in the process
    that reads; the next whole one comes once more in its place, so that places stay countable.

    Args:
        source: a folder of `.tar` files, or their addresses as webdataset takes them.
        image_size: side in pixels of the pictures.
        seed: of the order.
        buffer: records that are mixed; their files' bytes are in memory.

    Raises:
        ImportError: without webdataset.
        ValueError: for a bad size, or a source without shards; while reading, for a shard or a
            thousand records in a row of which nothing can be used.
    """

    def __init__(
        self,
        source: str | os.PathLike | Sequence[str],
        image_size: int = 64,
        *,
        seed: int = 0,
        buffer: int = 1000,
    ) -> None:
        import_webdataset()
        if isinstance(source, (str, os.PathLike)):
            self.shards = [str(path) for path in shard_paths(source)]
        else:
            self.shards = list(source)
        if not self.shards:
            raise ValueError(f"{source} holds no .tar file; write_shards makes such files.")
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; expected at least 1 record.")
        self.image_size = check_image_size(image_size)
        self.seed, self.buffer, self.skipped = seed, buffer, 0
        self.place(0, 1)

    def place(self, rank: int, world_size: int, batch: int = 0, batch_size: int = 1) -> None:
        """Says which process reads, and with which of its batches it begins."""
        self.rank, self.world_size = rank, world_size
        self.first_batch, self.batch_size = batch, batch_size

    def __iter__(self) -> Iterator[dict]:
        """All records of this reader's shards, epoch after epoch."""
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        # The loader takes batches from its workers in turn, beginning with worker 0: after some
        # batches that is the part of another worker.
        part = (number + self.first_batch) % workers
        earlier = (self.first_batch - part + workers - 1) // workers  # batches that part has given
        reader, readers = self.rank * workers + part, self.world_size * workers
        records = (record for epoch in count() for record in self._epoch(epoch, reader, readers))
        yield from self._decoded(islice(records, earlier * self.batch_size, None))

    def dealt(self, epoch: int, reader: int, readers: int) -> list[str]:
        """The shards of one reader in one epoch.

        Raises:
            ValueError: when there are fewer shards than readers.
        """
        if readers > len(self.shards):
            raise ValueError(
                f"{len(self.shards)} shard(s) for {readers} readers (processes times workers), "
                "but each needs one of its own; write smaller shards, or take fewer workers."
            )
        order = list(self.shards)
        random.Random(derive_seed("shards", self.seed, epoch)).shuffle(order)
        return order[reader::readers]

    def _epoch(self, epoch: int, reader: int, readers: int) -> Iterator[dict]:
        """The records of one reader in one epoch, mixed but not decoded."""
        webdataset = import_webdataset()
        rng = random.Random(derive_seed("buffer", self.seed, epoch, reader))
        dealt, read = self.dealt(epoch, reader, readers), 0
        files = webdataset.tariterators.tar_file_expander(
            self._opened(dealt), handler=self._pass_over
        )
        records = webdataset.tariterators.group_by_keys(files, handler=self._pass_over)
        mixed = webdataset.shuffle(self.buffer, initial=self.buffer, rng=rng)
        for record in mixed(records):
            read += 1
            yield record
        if not read:
            raise ValueError(f"not one record could be read from {', '.join(dealt)}.")

    def _opened(self, shards: list[str]) -> Iterator[dict]:
        """As webdataset's own opener, which leaves the files open."""
        for address in shards:
            try:
                stream = import_webdataset().gopen(address)
            except OSError as error:
                self._note(f"{address} cannot be opened ({error})")
                continue
            with stream:
                yield {"url": address, "stream": stream}

    def _decoded(self, records: Iterator[dict]) -> Iterator[dict]:
        owed = 0  # records that were passed over since the last whole one
        for record in records:
            try:
                if "txt" not in record:
                    raise CaptionProblem("has no caption, no .txt of the same name")
                pixels = decode(record[picture_key(record)], self.image_size)
                item = {"image": pixels_to_tensor(pixels), "caption": caption_of(record["txt"])}
            except (CaptionProblem, UnreadablePicture) as problem:
                self._note(f"record {record['__key__']} of {record['__url__']} {problem}")
                owed += 1
                if owed >= MOST_IN_A_ROW:
                    raise ValueError(
                        f"{owed} records in a row cannot be used, the last one because it "
                        f"{problem}; see the warnings above."
                    ) from problem
            else:
                yield from (dict(item) for _ in range(1 + owed))
                owed = 0

    def _pass_over(self, error: Exception) -> bool:
        """webdataset asks: whether to go on after this error."""
        self._note(" ".join(str(part) for part in error.args if isinstance(part, str)))
        return True

    def _note(self, text: str) -> None:
        self.skipped += 1
        warnings.warn(f"{text}: passed over", stacklevel=2)


def stream_loader(
    dataset: IterableDataset,
    batch_size: int,
    *,
    rank: int,
    world_size: int,
    start_batch: int,
    collate: Callable | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of a stream, from number `start_batch` on of those of process `rank`.

    Raises:
        TypeError: for a stream that cannot be told where to begin.
    """
    if not isinstance(dataset, StreamedImages):
        raise TypeError(
            f"the data set is a {type(dataset).__name__}, a stream that cannot be told where to "
            "go on; use StreamedImages, or a map-style data set."
        )
    dataset.place(rank, world_size, start_batch, batch_size)
    return DataLoader(
        dataset, batch_size, collate_fn=collate, num_workers=num_workers, pin_memory=pin_memory
    )
