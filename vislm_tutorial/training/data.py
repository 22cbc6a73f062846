"""The order of the data: a batch is a function of (seed, number of the batch) and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed mixed from `parts`: near numbers give unrelated seeds."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class StepSampler(Sampler[list[int]]):
    """A batch sampler whose k-th batch depends on (seed, k) only: a run can resume at any k.

    The epochs' permutations, each drawn from (seed, epoch), form one endless row of indices.
    Batch k of all processes together is the k-th slice of batch_size * world_size of it, and
    process `rank` takes the rank-th part of that slice. So each item comes once an epoch, no two
    processes share one, and two batches in a row are one batch of double size.

    Args:
        n: items in the data set.
        batch_size: items a process takes.
        start_step: number of the first batch to give.
        steps: number of the batch to stop before.

    Raises:
        ValueError: for an empty data set or sizes that make no sense.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        start_step: int,
        steps: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if n < 1:
            raise ValueError("the data set is empty; training needs at least 1 item.")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_size={batch_size}, rank={rank}, world_size={world_size}; "
                "expected batch_size >= 1 and 0 <= rank < world_size."
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.start_step, self.steps = start_step, steps
        self.rank, self.world_size = rank, world_size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> list[int]:
        """The indices of batch `step` of this process: batch_size numbers in [0, n)."""
        position = (step * self.world_size + self.rank) * self.batch_size
        end = position + self.batch_size
        indices: list[int] = []
        while position < end:  # a batch may run over the end of an epoch, a tiny set over several
            epoch, offset = divmod(position, self.n)
            part = self._permutation(epoch)[offset : offset + end - position].tolist()
            indices += part
            position += len(part)
        return indices

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed("epoch", self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self.n, generator=generator)
        return self._order


class _Numbered(Sampler[tuple[int, list[int]]]):
    """The batches of a StepSampler, each with the number it has in the run."""

    def __init__(self, sampler: StepSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return zip(range(self.sampler.start_step, self.sampler.steps), self.sampler, strict=True)


class _Seeded(Dataset):
    """Sets the global seeds before each batch is read, so that random augmentation resumes exactly.

    Works alike in the training process and in workers, whatever they loaded before.
    """

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __getitems__(self, numbered: tuple[int, list[int]]) -> list:
        number, indices = numbered
        seed_everything(derive_seed("data", self.seed, number, self.rank))
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(indices)
        return [self.dataset[index] for index in indices]


def seed_everything(seed: int) -> None:
    """Seeds the global generators of torch (all devices), random and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def make_loader(
    dataset: Dataset,
    sampler: StepSampler,
    *,
    collate: Callable | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """A plain DataLoader over `sampler`'s batches, the global seeds set before each of them."""
    return DataLoader(
        _Seeded(dataset, sampler.seed, sampler.rank),
        batch_sampler=_Numbered(sampler),
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
