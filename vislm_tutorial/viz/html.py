"""Small parts of HTML figures: a string that shows itself, data URIs, ids, one card style.

The card is white with dark ink wherever it lies, like the matplotlib figures, so a page's dark
mode can neither hide its text nor tint its pictures.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools

from PIL import Image

CARD_STYLE = (
    "box-sizing:border-box;max-width:100%;padding:12px;border-radius:8px;background:#fff;"
    "color:#1a1a1a;color-scheme:light;font:15px/1.4 system-ui,sans-serif"
)
_numbers = itertools.count(1)


class HTMLFigure(str):
    """HTML as a string; as the last line of a notebook cell it shows itself."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:  # a notebook stores this too: the whole string would double it
        return f"<HTML figure, {len(self):,} characters>"


def new_id(content: str) -> str:
    """An id that no other figure on the page has, the same each time the notebook runs in order."""
    return f"vislm-{hashlib.sha256(content.encode()).hexdigest()[:8]}-{next(_numbers)}"


def data_uri(picture: Image.Image) -> str:
    """The picture as a data URI: PNG, or JPEG where that is clearly smaller (photographs)."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    picture.save(jpeg, "JPEG", quality=90, subsampling=0)
    kind, content = ("png", png) if png.tell() < 1.2 * jpeg.tell() else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
