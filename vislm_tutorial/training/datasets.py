"""What the stages of a run learn from: pictures, then prepared ones with their captions' states."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..data.captions import caption
from ..data.images import pixels_to_tensor
from ..data.mirror import Flips, Mirrored
from ..data.rendering import render
from ..data.scenes import sample_scenes
from ..data.words import OTHER_WORDS
from ..generators.base import Generator

# Worlds whose pictures are drawn by a program: modules of `data` that have sample_NAME(n, seed),
# caption(item, rng) and render(items, image_size).
WORLDS = ("panoramas", "phantoms", "products")
DRAWINGS = ("openmoji", "styles")  # OpenMoji as it is, and restyled
SOURCES = ("scenes", *WORLDS, *DRAWINGS)


@dataclass(frozen=True)
class DataConfig:
    """What is drawn and said."""

    source: str = "scenes"  # a name of SOURCES, or a folder of pictures or tar shards
    size: int = 80_000  # of worlds, scenes among them: how many; other sources give what they have
    image_size: int = 64  # side in pixels; of wide pictures the height
    seed: int = 0  # of worlds: which; other sources: which are kept apart
    validation: int = 512  # items kept apart from training, at most a tenth of all; 0: none
    limit: int = 0  # the most pictures to train on, before mirroring; 0: all that are left
    flips: Flips = "none"  # mirrored pictures besides; "words" says left and right anew
    synonyms: float = 0.0  # scenes: share of captions in words that are held out otherwise
    words: int = 0  # scenes: other words that captions have for each colour and shape, at most 12
    alike: float = 0.0  # scenes: share that show two to four of one kind, to learn counting from

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"DataConfig.limit={self.limit!r}; expected 0 (all) or more.")
        if self.words < 0 or (self.words and self.source != "scenes"):
            raise ValueError(
                f"DataConfig.words={self.words!r} of {self.source!r}; expected how many other "
                "words captions of 'scenes' have for each colour and shape, or 0."
            )
        if not 0 <= self.synonyms <= 1 or (self.synonyms and self.source != "scenes"):
            raise ValueError(
                f"DataConfig.synonyms={self.synonyms!r} of {self.source!r}; expected a share in "
                "[0, 1] of the captions of 'scenes', or 0."
            )
        if not 0 <= self.alike <= 1 or (self.alike and self.source != "scenes"):
            raise ValueError(
                f"DataConfig.alike={self.alike!r} of {self.source!r}; expected a share in [0, 1] "
                "of the pictures of 'scenes', or 0."
            )


def load_images(config: DataConfig) -> Dataset:
    """The data set that a recipe names; items are `{"image", "caption"}`, and it has `.captions`.

    With `flips` the mirrored pictures follow (`data.mirror.Mirrored`).
    Shards are read by position; a recipe holds what it prepares of all pictures in memory, so a
    set too large for that takes a `StreamedImages` and a call of `train` by hand.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError, ImportError: as the source's own loader.
    """
    if config.flips != "none":
        return Mirrored(load_images(replace(config, flips="none")), config.flips)
    if config.source == "scenes":
        return SceneImages(
            config.size,
            config.seed,
            config.image_size,
            synonyms=config.synonyms,
            words=config.words,
            alike=config.alike,
        )
    if config.source in WORLDS:
        return world_images(config.source, config.size, config.seed, config.image_size)
    if config.source == "openmoji":
        from ..data.openmoji import load_openmoji

        return load_openmoji(image_size=config.image_size)
    if config.source == "styles":
        from ..data.styles import load_styles

        return load_styles(image_size=config.image_size, split="train")
    from ..data.shards import load_shards, shard_paths

    if shard_paths(config.source):
        return load_shards(config.source, image_size=config.image_size)
    from ..data.folder import load_folder

    return load_folder(config.source, image_size=config.image_size)


def split_rows(n: int, config: DataConfig) -> tuple[list[int], list[int]]:
    """Which of `n` items are for training, and which are kept apart for validation.

    With `flips` the second half of the items are the mirrored ones. Those of pictures that are for
    training are so too; those of the pictures kept apart are used for nothing.

    Raises:
        ValueError: if too few are left for training.
    """
    mirrored = config.flips != "none"
    n = n // 2 if mirrored else n
    held = min(config.validation, max(1, n // 10))
    if n - held < 1:
        raise ValueError(
            f"{config.source!r} has {n} picture(s), of which {held} are for validation; "
            "training needs at least 1 more. Add pictures."
        )
    if config.source in ("scenes", *WORLDS):  # are in random order already
        order = list(range(n))
    else:  # are sorted by name: a folder's first pictures may all show the same
        generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(n, generator=generator).tolist()
    rows = order[held:][: config.limit or n]
    return rows + [n + row for row in rows if mirrored], order[:held]


class DrawnImages(Dataset):
    """Things of a world with a caption each; pictures are drawn when asked for.

    Items are `{"image": (3, H, W) in [-1, 1], "caption": str}`.

    Args:
        things: N of them.
        captions: N of them.
        draw: (things, image_size) -> (B, 3, H, W) in [-1, 1].
        image_size: in pixels.
        keep: once drawn, a picture stays in memory, a byte a value: for worlds that take longer to
            draw than to learn from.
    """

    def __init__(
        self,
        things: Sequence,
        captions: Sequence[str],
        draw: Callable[[Sequence, int], Tensor],
        image_size: int,
        keep: bool = False,
    ):
        self.things, self.captions = list(things), list(captions)
        self.draw, self.image_size = draw, image_size
        self._kept: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.things)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        return [
            {"image": image, "caption": self.captions[i]}
            for image, i in zip(self._images(indices), indices, strict=True)
        ]

    def _images(self, indices: Sequence[int]) -> Sequence[Tensor]:
        if self._kept is None:
            return self.draw([self.things[i] for i in indices], self.image_size)
        new = sorted(set(indices) - self._kept.keys())
        if new:
            images = self.draw([self.things[i] for i in new], self.image_size)
            self._kept |= zip(new, images.add(1).mul(127.5).round().byte().unbind(), strict=True)
        return [pixels_to_tensor(self._kept[i]) for i in indices]


def world_images(name: str, n: int, seed: int, image_size: int) -> DrawnImages:
    """`n` things of one of `WORLDS`; the same seed gives the same things and captions."""
    world = import_module(f"..data.{name}", __package__)
    things = getattr(world, f"sample_{name}")(n, seed)
    rng = random.Random(seed + 1)
    captions = [world.caption(thing, rng) for thing in things]
    return DrawnImages(things, captions, world.render, image_size, keep=True)


class SceneImages(DrawnImages):
    """`n` scenes of the training grammar with a caption each.

    Args:
        synonyms: share of the captions that name colours and shapes by the words which are held
            out otherwise.
        words: how many of `data.words.OTHER_WORDS` the captions have for each colour and shape.
        alike: share of the pictures that show two to four objects of one kind.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        image_size: int = 64,
        *,
        synonyms: float = 0.0,
        words: int = 0,
        alike: float = 0.0,
    ):
        scenes = sample_scenes(n, seed, alike=alike)
        others = {name: more[:words] for name, more in OTHER_WORDS.items()} if words else None
        rng, coin = random.Random(seed + 1), random.Random(seed + 2)
        captions = [caption(s, rng, coin.random() < synonyms, others=others) for s in scenes]
        super().__init__(scenes, captions, render, image_size)


class PreparedCaptions(Dataset):
    """Pictures as a generator's loss sees them, with the encoder's states of their captions.

    A batch is `{"pictures": as_batch(...), "states": TextStates}`, assembled whole by
    `__getitems__` (use `collate=first`), because captions of a batch are padded together.

    Args:
        pictures: N of them, from `prepare_pictures`.
        captions: N of them.
        encoder: usually a `CachedEncoder`.
        drop: how often a caption is replaced by "", which teaches the unconditional answer that
            classifier-free guidance needs (Ho & Salimans 2022, algorithm 1).
    """

    def __init__(self, pictures: Tensor, captions: Sequence[str], encoder, drop: float = 0.1):
        if len(pictures) != len(captions):
            raise ValueError(
                f"{len(pictures)} pictures but {len(captions)} captions; one each is needed."
            )
        self.pictures, self.captions = pictures, captions
        self.encoder, self.drop = encoder, drop

    def __len__(self) -> int:
        return len(self.captions)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        captions = ["" if torch.rand(()).item() < self.drop else self.captions[i] for i in indices]
        return [
            {
                "pictures": as_batch(self.pictures[list(indices)]),
                "states": self.encoder.encode(captions),
            }
        ]


def first(items: list) -> dict:
    """The collate function of a data set whose items are whole batches."""
    return items[0]


def stack_images(items: Sequence[dict]) -> dict[str, Tensor]:
    """The collate function of the autoencoder's stage: B items -> `{"image": (B, 3, H, W)}`."""
    return {"image": torch.stack([item["image"] for item in items])}


def picture_batches(dataset: Dataset, batch_size: int = 128) -> Iterator[Tensor]:
    """All pictures in order, (B, 3, H, W) in [-1, 1] at a time."""
    for start in range(0, len(dataset), batch_size):
        indices = list(range(start, min(start + batch_size, len(dataset))))
        if hasattr(dataset, "__getitems__"):
            items = dataset.__getitems__(indices)
        else:
            items = [dataset[i] for i in indices]
        yield stack_images(items)["image"]


@torch.no_grad()
def prepare_pictures(
    dataset: Dataset, generator: Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """All pictures as the generator's loss sees them, on the CPU, as small as they can be kept.

    Args:
        generator: behind its autoencoder, which is on `device`.

    Returns:
        (N, 3, H, W) uint8 pixels, (N, C, h, w) float16 latents, or (N, h, w) int16 codes.
    """
    parts = []
    for images in tqdm(picture_batches(dataset), "pictures", leave=False, disable=None):
        prepared = generator.prepare(images.to(device))
        if prepared.shape == images.shape:
            kept = prepared.add(1).mul(127.5).round().byte()
        else:
            kept = prepared.half() if prepared.is_floating_point() else prepared.short()
        parts.append(kept.cpu())
    return torch.cat(parts)


def as_batch(pictures: Tensor) -> Tensor:
    """Some of what `prepare_pictures` gave, as `Generator.prepared_loss` takes it.

    Pixels become float32 in [-1, 1], latents float32, codes int64.
    """
    if pictures.dtype == torch.uint8:
        return pictures.float().div(127.5).sub(1)
    return pictures.long() if pictures.dtype == torch.int16 else pictures.float()
