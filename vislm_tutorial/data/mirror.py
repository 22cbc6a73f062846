"""Mirrored pictures, and what a mirror does to their captions.

A mirrored circle is a circle, so mirroring doubles a data set for nothing; but what was left of
something is right of it in the mirror, and a caption that says so has become false.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.utils.data import Dataset

Flips = Literal["none", "blind", "words"]
_OTHER = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def mirror_caption(caption: str) -> str:
    """The caption of the mirrored picture: the words left and right exchanged, their case kept.

    It reads words, not meaning: "the right answer" becomes "the left answer".
    """
    return _SIDE.sub(lambda found: _in_case_of(found[0], _OTHER[found[0].lower()]), caption)


def _in_case_of(pattern: str, word: str) -> str:
    if pattern.isupper():
        return word.upper()
    return word.capitalize() if pattern[0].isupper() else word


def mirror(images: Tensor) -> Tensor:
    """(..., H, W) pictures with left and right exchanged; rows keep their order."""
    return images.flip(-1)


class Mirrored(Dataset):
    """N pictures, and behind them the N mirrored ones: item N + i is the mirror of item i.

    Args:
        pictures: items `{"image": (3, H, W), "caption": str}` and a list `captions`.
        flips: "words" says the captions of mirrored pictures anew; "blind" leaves them as they
            are, and so teaches that left is right as often as it is left.

    Raises:
        ValueError: for another `flips`.
    """

    def __init__(self, pictures: Dataset, flips: Flips):
        if flips not in ("blind", "words"):
            raise ValueError(f"flips is {flips!r}; expected 'blind' or 'words'.")
        self.pictures = pictures
        captions = list(pictures.captions)
        mirrored = map(mirror_caption, captions) if flips == "words" else captions
        self.captions = [*captions, *mirrored]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        n = len(self.pictures)
        rows = [index % n for index in indices]
        if hasattr(self.pictures, "__getitems__"):
            items = self.pictures.__getitems__(rows)
        else:
            items = [self.pictures[row] for row in rows]
        return [
            {
                "image": mirror(item["image"]) if index >= n else item["image"],
                "caption": self.captions[index],
            }
            for index, item in zip(indices, items, strict=True)
        ]
