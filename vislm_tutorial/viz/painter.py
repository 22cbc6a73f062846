"""A mask painted by hand over a small picture: a notebook widget whose `.mask` is a tensor."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import to_pil
from .html import data_uri


def mask_painter(
    image: Tensor,
    mask: Tensor | None = None,
    brush: int | None = None,
    label: str = "Picture on which a mask is painted",
):
    """A picture to paint a mask on, with mouse, finger, pen or keys.

    `painter.mask` is (H, W) bool, True where painted: what `vislm_tutorial.editing.inpaint` draws
    anew. It can be set too, and the picture in the notebook follows.

    Args:
        image: (3, H, W) in [-1, 1]; values beyond are clipped.
        mask: (H, W), bool or numbers; painted at first where True or above 0.5. Default: nowhere.
        brush: diameter in pixels of the picture, from 1 to its shorter side. Default: an eighth of
            that side.
        label: what a screen reader calls the picture.

    Returns:
        An `anywidget.AnyWidget`; as the last line of a cell it shows itself.

    Raises:
        ImportError: if anywidget is not installed.
        ValueError: for a picture, mask or brush of another shape, kind or size.
    """
    picture = to_pil(image)
    shape = [picture.height, picture.width]
    if brush is None:
        brush = max(1, min(shape) // 8)
    if isinstance(brush, bool) or not isinstance(brush, int) or not 1 <= brush <= min(shape):
        raise ValueError(f"brush is {brush!r}; expected whole pixels from 1 to {min(shape)}.")
    return _painter_class()(
        picture=data_uri(picture),
        shape=shape,
        runs=_encode(torch.zeros(shape) if mask is None else mask, shape),
        brush=brush,
        label=label,
    )


@cache
def _painter_class() -> type:
    """The widget's class, made on first use: its base is an optional package."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            "mask_painter needs anywidget; install it with: pip install anywidget. "
            "Without it, set parts of a mask yourself: "
            "mask = torch.zeros(H, W); mask[top:bottom, left:right] = 1."
        ) from error

    class MaskPainter(anywidget.AnyWidget):
        _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
        picture = traitlets.Unicode().tag(sync=True)  # a data URI
        shape = traitlets.List(traitlets.Int()).tag(sync=True)  # [H, W]
        runs = traitlets.List(traitlets.Int()).tag(sync=True)  # the mask, see _encode
        brush = traitlets.Int(min=1).tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)

        @property
        def mask(self) -> Tensor:
            """(H, W) bool, True where painted. Setting it takes what `mask_painter` takes."""
            return _decode(self.runs, self.shape)

        @mask.setter
        def mask(self, value: Tensor) -> None:
            self.runs = _encode(value, self.shape)

        def __repr__(self) -> str:  # a notebook stores it: no address of one run in it
            return f"<mask painter, {self.mask.sum()} of {self.mask.numel()} pixels painted>"

    return MaskPainter


def _encode(mask: Tensor, shape: list[int]) -> list[int]:
    """(H, W) -> lengths of its runs, row by row: False, True, False, ...; the first may be 0.

    Numbers in a list pass through every version of the widget protocol, where bytes do not.
    """
    mask = torch.as_tensor(mask)
    if list(mask.shape) != shape:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; expected that of the picture, {tuple(shape)}."
        )
    painted = (mask > 0.5).flatten().int().cpu()  # (H, W) -> (H W,)
    changes = torch.diff(painted, prepend=torch.zeros(1, dtype=torch.int)).nonzero()
    return [end - start for start, end in pairwise([0, *changes.flatten().tolist(), len(painted)])]


def _decode(runs: list[int], shape: list[int]) -> Tensor:
    """What `_encode` made -> (H, W) bool."""
    painted = torch.arange(len(runs)) % 2 == 1
    return painted.repeat_interleave(torch.tensor(runs)).reshape(shape)  # (H W,) -> (H, W)
