"""Pictures with their captions as HTML: the browser's fonts, so every script can be read."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..data.images import to_pils
from .html import CARD_STYLE, HTMLFigure, data_uri


def gallery(
    images,
    captions: Sequence[str],
    columns: int = 4,
    title: str | None = None,
    credit: str | None = None,
    language: str | None = None,
) -> HTMLFigure:
    """Pictures in rows with a caption below each; fewer columns where the page is narrow.

    Args:
        images: (B, 3, H, W) in [-1, 1], or a list of B PIL pictures.
        captions: B strings in any script; each is also its picture's alt text.
        columns: at most so many pictures in a row.
        title: a line above.
        credit: a line below, such as `openmoji.ATTRIBUTION`.
        language: of the captions, such as "zh", for screen readers and the choice of font.
    """
    pictures = to_pils(images)
    if len(captions) != len(pictures) or not pictures:
        raise ValueError(f"Got {len(captions)} captions for {len(pictures)} images; needs 1 each.")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1.")
    spoken = f' lang="{escape(language)}"' if language else ""
    gap = 10
    widest = f"calc((100% - {gap * (columns - 1)}px) / {columns})"
    cells = "".join(_cell(p, c, spoken) for p, c in zip(pictures, captions, strict=True))
    head = f'<div style="font-weight:600;margin-bottom:8px">{escape(title)}</div>' if title else ""
    foot = f'<div style="font-size:12px;margin-top:8px">{escape(credit)}</div>' if credit else ""
    return HTMLFigure(
        f'<div style="{CARD_STYLE}">{head}'
        f'<div style="display:grid;gap:{gap}px;'
        f'grid-template-columns:repeat(auto-fill,minmax(max(84px,{widest}),1fr))">{cells}</div>'
        f"{foot}</div>"
    )


def _cell(picture, caption: str, spoken: str) -> str:
    text = escape(caption)
    return (
        f'<div style="text-align:center;font-size:13px;overflow-wrap:anywhere"{spoken}>'
        f'<img src="{data_uri(picture.convert("RGB"))}" alt="{text}" '
        f'style="width:100%;max-width:{2 * picture.width}px;height:auto;display:block;'
        f'margin:0 auto 4px"><span aria-hidden="true">{text}</span></div>'
    )
