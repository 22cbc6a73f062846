"""Encoder states on disk: each caption goes through the language model once a machine.

A cache is a folder of shards named by the encoder's fingerprint. A shard is a safetensors file
that is written whole or not at all and never changed:

    states   (T, D_lm) float16   the real tokens of n captions, one after another
    offsets  (n + 1,)  int64     caption i has the rows offsets[i] : offsets[i + 1]
    keys     (n, 16)   uint8     the start of each caption's sha256

States stay in the file and are mapped into memory, so a cache may be larger than the memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from .._files import remove_leftovers, replaced_when_complete
from ..registry import cache_dir
from ..types import TextStates
from .base import TextEncoder, check_captions

SHARD_CAPTIONS = 1024  # what a kill can lose: 5 seconds of MiniLM on two slow cores
SMALL_SHARD = 128  # captions; shards below it come from single calls to encode
MOST_SMALL_SHARDS = 64  # and are joined when there are so many
LARGEST_FLOAT16 = torch.finfo(torch.float16).max


class CachedEncoder:
    """An encoder that remembers on disk; the same interface as the one it wraps.

    The states it returns were rounded to float16 (a relative error below 0.0005), whether they
    were just computed or read. Several processes may share a folder.

    Args:
        encoder: the encoder that computes what is missing; one that nothing was taught.
        folder: where the shards are kept, in a subfolder named by the encoder's fingerprint;
            None: `states` in the package's cache folder.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | str | None = None) -> None:
        _check_untaught(encoder)
        self.encoder = encoder
        base = cache_dir() / "states" if folder is None else Path(folder)
        self.folder = base / encoder.fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[bytes, Tensor] = {}  # key -> mapped states (tokens, D_lm)
        self._seen: set[Path] = set()
        self._small: dict[Path, dict[bytes, Tensor]] = {}  # shard -> its captions' mapped states
        remove_leftovers(self.folder)
        self._read_new_shards()

    def __getattr__(self, name: str):
        """All else (name, layers, width, fingerprint, device, ...) is the wrapped encoder's."""
        if name == "encoder":  # not set yet, while a copy is being made
            raise AttributeError(name)
        return getattr(self.encoder, name)

    def __len__(self) -> int:
        """The number of captions in the cache."""
        return len(self._places)

    def encode(self, captions: Sequence[str]) -> TextStates:
        """As `TextEncoder.encode`; captions not seen before are encoded and kept."""
        captions = check_captions(captions)
        self.encode_many(captions, progress=False)
        rows = [self._places[_key(caption)] for caption in captions]
        lengths = torch.tensor([len(tokens) for tokens in rows])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]  # (B, L)
        states = torch.zeros(*mask.shape, self.width)
        for row, tokens in enumerate(rows):
            states[row, : len(tokens)] = tokens
        return TextStates(states, mask).to(self.device)

    def encode_many(
        self, captions: Sequence[str], batch_size: int = 64, progress: bool = True
    ) -> int:
        """Fill the cache, shortest captions first so that little is spent on padding.

        Every 1,024 captions are on disk before the next are begun; after a kill, calling it
        again goes on from there.

        Args:
            captions: strings, repetitions allowed; they may be many.
            batch_size: captions per pass of the model.
            progress: show a bar.

        Returns:
            The number of captions that were not in the cache and now are.

        Raises:
            TypeError, ValueError: for captions that `TextEncoder.encode` would refuse.
            OverflowError: if a state is too large for float16.
            ValueError: if the encoder was taught since the cache was opened.
        """
        _check_untaught(self.encoder)
        missing = self._missing(check_captions(captions))
        if missing:
            self._read_new_shards()  # another process may have encoded them meanwhile
            missing = self._missing(missing)
        if not missing:
            return 0
        ids = self.encoder.tokenize(missing)
        order = sorted(range(len(missing)), key=lambda row: len(ids[row]))
        with tqdm(total=len(order), unit="caption", disable=not progress) as bar:
            for start in range(0, len(order), SHARD_CAPTIONS):
                rows = order[start : start + SHARD_CAPTIONS]
                states = self.encoder.encode_ids([ids[row] for row in rows], batch_size)
                keys = [_key(missing[row]) for row in rows]
                self._write_shard(dict(zip(keys, _flattened(states), strict=True)))
                bar.update(len(rows))
        self._join_small_shards()
        return len(missing)

    def _missing(self, captions: Sequence[str]) -> list[str]:
        return [c for c in dict.fromkeys(captions) if _key(c) not in self._places]

    def _write_shard(self, rows: Mapping[bytes, Tensor]) -> None:
        """Write captions' states, key -> (tokens, D_lm) float16, and read them back mapped."""
        lengths = torch.tensor([0] + [len(tokens) for tokens in rows.values()])
        shard = {
            "states": torch.cat(list(rows.values())),
            "offsets": lengths.cumsum(0),
            "keys": torch.tensor([list(key) for key in rows], dtype=torch.uint8),
        }
        path = self.folder / f"{hashlib.sha256(b''.join(rows)).hexdigest()[:32]}.safetensors"
        with replaced_when_complete(path) as temporary:
            save_file(shard, temporary)
        self._read_shard(path)

    def _read_new_shards(self) -> None:
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._seen):
            self._read_shard(path)

    def _read_shard(self, path: Path) -> None:
        """Map a shard and note its captions; one that is torn is passed over."""
        self._seen.add(path)
        try:
            with safe_open(path, framework="pt") as file:
                states, offsets, keys = (file.get_tensor(k) for k in ("states", "offsets", "keys"))
        except (OSError, SafetensorError):
            return
        bounds = offsets.tolist()
        if len(bounds) != len(keys) + 1 or states.shape != (bounds[-1], self.width):
            return
        pairs = zip(keys.numpy(), bounds[:-1], bounds[1:], strict=True)
        rows = {key.tobytes(): states[start:stop] for key, start, stop in pairs}
        self._places.update(rows)
        if len(rows) < SMALL_SHARD:
            self._small[path] = rows

    def _join_small_shards(self) -> None:
        """Replace many small shards by one, so that the number of open files stays small."""
        if len(self._small) < MOST_SMALL_SHARDS:
            return
        joined, self._small = self._small, {}
        self._write_shard({key: rows for shard in joined.values() for key, rows in shard.items()})
        for path in joined:
            with suppress(OSError):  # another process may have removed it, or still use it
                path.unlink()


def _check_untaught(encoder: TextEncoder) -> None:
    if encoder.tuning is not None:
        raise ValueError(
            f"{encoder.tuning} is attached to the encoder {encoder.name!r}, so its states are "
            "not those that its fingerprint stands for; use it without a cache."
        )


def _key(caption: str) -> bytes:
    return hashlib.sha256(caption.encode("utf-8")).digest()[:16]


def _flattened(states: TextStates) -> list[Tensor]:
    """The real tokens of each caption as float16: (B, L, D_lm) -> B tensors (tokens, D_lm)."""
    hidden = states.encoder_hidden_states.cpu()
    largest = hidden.abs().max().item()
    if not largest <= LARGEST_FLOAT16:
        raise OverflowError(
            f"a state has the size {largest:.3g}, more than float16's {LARGEST_FLOAT16:.3g}; "
            'such layers cannot be cached. Choose layers="mean" or "last".'
        )
    lengths = states.encoder_attention_mask.sum(dim=1).tolist()
    return [hidden[row, :length].half() for row, length in enumerate(lengths)]
