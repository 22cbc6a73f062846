"""OpenMoji drawings of things, each redrawn in twelve styles: pictures named by what and how.

The shapes stay, the style changes their paint. So a caption such as "a dog, in blue" has an exact
picture, and each held-out pair of subject and style asks a model to put together what it has seen
only apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from ..images import PictureDataset, check_image_size
from ..openmoji import SPLITS, Drawing, family, hash_of, load_openmoji
from .redrawing import OWN_COLOURS, STYLES, rasterise, restyle
from .subjects import is_subject, said, subject_name


@dataclass(frozen=True)
class Restyled:
    """One drawing in one style: the characters, what it shows, how, and the SVG it starts from."""

    emoji: str
    subject: str
    style: str
    path: Path

    @property
    def caption(self) -> str:
        """What the picture is called: "a dog, in blue"."""
        return caption(self.subject, self.style)


def caption(subject: str, style: str) -> str:
    """ "dog", "in blue" -> "a dog, in blue"; its own colours go without saying: "a dog".

    Raises:
        ValueError: for a style that is none of `STYLES`.
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; choose one of {', '.join(STYLES)}.")
    return said(subject) if style == OWN_COLOURS else f"{said(subject)}, {style}"


@cache
def _subjects() -> tuple[Drawing, ...]:
    chosen = [drawing for drawing in load_openmoji().items if is_subject(drawing)]
    return tuple(Drawing(d.emoji, subject_name(d.caption), d.path) for d in chosen)


def subjects() -> list[Drawing]:
    """Drawings of animals, plants, food, buildings, vehicles and objects; captions are names.

    Raises:
        ImportError: if the extra `drawings` is not installed.
    """
    return list(_subjects())


def held_out_style(emoji: str) -> str:
    """The one style in which training never shows this subject, by a hash as for OpenMoji."""
    return list(STYLES)[hash_of("style " + family(emoji)) % len(STYLES)]


class StyledDrawings(PictureDataset):
    """Drawings in styles, made by `load_styles`.

    A map-style data set: `drawings[i]` is {"image": (3, H, W) in [-1, 1], "caption": str}. A
    picture is drawn when first asked for and then kept (3 x side^2 bytes each).
    """

    def __init__(self, items: list[Restyled], image_size: int):
        self.items, self.image_size = items, image_size
        self._drawn: dict[int, Tensor] = {}

    def _pixels(self, index: int) -> Tensor:
        if index not in self._drawn:
            item = self.items[index]
            self._drawn[index] = rasterise(restyle(item.path, item.style), self.image_size)
        return self._drawn[index]


def load_styles(
    image_size: int = 64, split: str = "all", limit: int | None = None
) -> StyledDrawings:
    """Load the subjects, each in every style of its split.

    Args:
        image_size: side in pixels.
        split: "train" (eleven styles a subject), "test" (its `held_out_style`) or "all".
        limit: keep this many subjects, a fixed unbiased choice; a smaller one is part of a larger.

    Raises:
        ImportError: if the extra `drawings` is not installed.
        ValueError: for an unknown option.
    """
    check_image_size(image_size)
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1, or None for all.")
    chosen = subjects()
    if limit is not None:
        kept = set(sorted((d.emoji for d in chosen), key=hash_of)[:limit])
        chosen = [drawing for drawing in chosen if drawing.emoji in kept]
    items = [
        Restyled(drawing.emoji, drawing.caption, style, drawing.path)
        for drawing in chosen
        for style in STYLES
        if split == "all" or (split == "test") == (style == held_out_style(drawing.emoji))
    ]
    return StyledDrawings(items, image_size)
