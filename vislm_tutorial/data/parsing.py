"""Picture -> scene: reads a picture back by analysis, with nothing learned.

Pixels that differ from the background form connected components, and each component is compared
with everything the renderer can draw (`vislm_tutorial.data.templates`). One that fits nothing is
cut at a higher contrast, since blur and noise join what should be apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from .images import check_square
from .scenes import BACKGROUNDS, COLOURS, MAX_OBJECTS, Scene, SceneObject
from .templates import REACH, half_window, match

WORKING_SIZE = 64  # larger pictures are averaged down to this side before they are read
# Each level is the contrast (distance to the background, RGB in [0, 1]) from which a pixel belongs
# to an object: at least a fixed one, and at least a part of the highest contrast nearby.
LEVELS = ((0.08, 0.0), (0.12, 0.3), (0.12, 0.5), (0.12, 0.7))
PEAK = 0.2  # a component without a pixel of this contrast is noise; the faintest object has 0.33
MINIMUM_AREA = 0.005  # of the picture; smaller specks are ignored. The smallest object covers 0.019
GOOD_FIT = 0.05  # a component with a smaller residual is never cut
RESIDUAL_LIMIT = 0.15  # what fits worse resembles no shape


@dataclass(frozen=True)
class Reading:
    """What was found in one picture.

    `objects` may be more than a `Scene` holds. `residuals[i]` is the part of object i's squared
    difference from the background that its template leaves unexplained: 0 for a perfect drawing, up
    to 1. Above `RESIDUAL_LIMIT` the object is a mess that was given its nearest name.
    """

    background: str
    objects: tuple[SceneObject, ...]
    residuals: tuple[float, ...]

    @property
    def clear(self) -> tuple[SceneObject, ...]:
        """The objects that do resemble their template."""
        pairs = zip(self.objects, self.residuals, strict=True)
        return tuple(o for o, residual in pairs if residual <= RESIDUAL_LIMIT)

    @property
    def scene(self) -> Scene:
        """The clear objects as a scene; of too many, those that fit best."""
        order = sorted(zip(self.residuals, range(len(self.objects)), strict=True))
        kept = sorted(i for r, i in order[:MAX_OBJECTS] if r <= RESIDUAL_LIMIT)
        return Scene(self.background, tuple(self.objects[i] for i in kept))


def parse(images: Tensor) -> list[Scene]:
    """The scenes that pictures show; shapes that cannot be made out are left out.

    Args:
        images: (B, 3, H, W) float in [-1, 1], square, side 16 or more.

    Raises:
        ValueError: for another shape or integers.
    """
    return [reading.scene for reading in read(images)]


def read(images: Tensor, batch_size: int = 64) -> list[Reading]:
    """Everything found in pictures, with how well each object fits. Arguments as in `parse`."""
    check_square(images, least=16)
    if len(images) == 0:
        return []
    return [r for chunk in images.split(batch_size) for r in _read_batch(chunk)]


@torch.no_grad()
def _read_batch(images: Tensor) -> list[Reading]:
    pixels = images.detach().to("cpu", torch.float32).nan_to_num().clamp(-1, 1).add(1).div(2)
    if pixels.shape[-1] > WORKING_SIZE:
        pixels = functional.adaptive_avg_pool2d(pixels, WORKING_SIZE)
    edges = (pixels[..., 0, :], pixels[..., -1, :], pixels[..., 0], pixels[..., -1])
    # An object that touches the edge does not move the edge's median: (B, 3, 4 * side) -> (B, 3).
    ground = torch.cat(edges, dim=-1).median(dim=-1).values
    found: list[list[_Piece]] = [[] for _ in pixels]
    for piece in _pieces(pixels - ground[:, :, None, None], ground):
        found[piece.image] += piece.best()
    return [
        Reading(name, tuple(p.item for p in pieces), tuple(p.residual for p in pieces))
        for name, pieces in zip(_nearest(ground, BACKGROUNDS), found, strict=True)
    ]


def _nearest(rgb: Tensor, palette: dict[str, tuple[int, int, int]]) -> list[str]:
    """The palette's name nearest to each of (N, 3) colours in [0, 1]."""
    distance = torch.cdist(rgb, torch.tensor(list(palette.values())) / 255)
    return [list(palette)[i] for i in distance.argmin(dim=1)]


# --- components ----------------------------------------------------------------------------------


@dataclass
class _Piece:
    """A connected component, how it was read, and what it falls into at a higher contrast."""

    image: int
    label: int
    x: float  # middle of its box, then centre, in pixels
    y: float
    oversized: bool  # its box is larger than any object
    item: SceneObject | None = None
    unexplained: float = 0.0
    energy: float = 1.0
    parts: list[_Piece] = field(default_factory=list)

    @property
    def residual(self) -> float:
        if self.oversized or self.energy == 0:
            return 1.0
        return self.unexplained / self.energy

    def best(self) -> list[_Piece]:
        """This piece, or its parts where they fit better."""
        parts = [p for part in self.parts for p in part.best()]
        energy = sum(p.energy for p in parts)
        if parts and sum(p.unexplained for p in parts) < self.residual * energy:
            return parts
        return [self]


def _pieces(difference: Tensor, ground: Tensor) -> list[_Piece]:
    """The components of (B, 3, H, W) differences, read, with the parts of those that fit badly."""
    contrast = difference.norm(dim=1).numpy()
    reach = (1, *(max(3, contrast.shape[-1] // 9),) * 2)
    nearby = ndimage.maximum_filter(contrast, size=reach)
    labels = np.zeros(contrast.shape, dtype=np.int64)
    allowed = np.ones(contrast.shape, dtype=bool)
    roots: list[_Piece] = []
    parents: dict[int, _Piece] = {}
    for fixed, relative in LEVELS:
        mask = allowed & (contrast > np.maximum(fixed, relative * nearby))
        finer, pieces = _label(mask, contrast, first=int(labels.max()) + 1)
        outer = np.where(allowed, labels, 0)
        labels = np.where(allowed, finer, labels)
        _read_pieces(pieces, difference, ground, labels)
        for piece in pieces:
            inside = outer[piece.image][finer[piece.image] == piece.label][0]
            (parents[inside].parts if inside else roots).append(piece)
        parents = {p.label: p for p in pieces if p.residual > GOOD_FIT}
        if not parents:
            break
        allowed = np.isin(labels, list(parents))
    return roots


def _label(mask: np.ndarray, contrast: np.ndarray, first: int) -> tuple[np.ndarray, list[_Piece]]:
    """Number the components of (B, H, W) masks from `first`; specks get a number but no piece."""
    flat = np.zeros((3, 3, 3), dtype=bool)  # neighbours touch inside a picture, never across
    flat[1] = True
    window = 2 * half_window(mask.shape[-1]) + 1
    labels, count = ndimage.label(mask, structure=flat)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    peaks = ndimage.maximum(contrast, labels, index=np.arange(1, count + 1))
    pieces = []
    for i, (batch, rows, columns) in enumerate(ndimage.find_objects(labels)):
        if areas[i + 1] >= MINIMUM_AREA * mask[0].size and peaks[i] >= PEAK:
            x, y = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
            longest = max(columns.stop - columns.start, rows.stop - rows.start)
            pieces.append(_Piece(batch.start, first + i, x, y, longest > window))
    return np.where(labels > 0, labels + (first - 1), 0), pieces


def _read_pieces(
    pieces: list[_Piece], difference: Tensor, ground: Tensor, labels: np.ndarray
) -> None:
    """Fill in what each piece shows. A centre at the rim of the templates' reach is tried again."""
    side, todo = difference.shape[-1], pieces
    for _ in range(3):
        if not todo:
            return
        windows, corners = _windows(todo, difference, labels)
        found = match(windows, ground[torch.tensor([p.image for p in todo])], side)
        again = []
        names = _nearest(found.colour, COLOURS)
        for i, piece in enumerate(todo):
            piece.x, piece.y = (corners[i] + 0.5 + found.shift[i]).tolist()
            x, y = (round(min(max(v / side, 0.0), 1.0), 4) for v in (piece.x, piece.y))
            piece.item = SceneObject(found.shape[i], names[i], found.size[i], found.fill[i], x, y)
            piece.unexplained, piece.energy = float(found.unexplained[i]), float(found.energy[i])
            if found.shift[i].abs().max() > REACH and piece.residual > GOOD_FIT:
                again.append(piece)
        todo = again


def _windows(pieces: list[_Piece], difference: Tensor, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Around each piece: (N, 3, w * w) differences without its neighbours, (N, 2) middle pixels."""
    side, half = difference.shape[-1], half_window(difference.shape[-1])
    pad = (half, half, half, half)
    padded = functional.pad(difference, pad).permute(0, 2, 3, 1)
    owner = functional.pad(torch.from_numpy(labels), pad)
    image, label = (torch.tensor([getattr(p, k) for p in pieces]) for k in ("image", "label"))
    middle = torch.tensor([[p.x, p.y] for p in pieces]).floor().long().clamp(0, side - 1)
    step = torch.arange(2 * half + 1)
    rows, columns = (middle[:, axis, None] + step for axis in (1, 0))
    index = (image[:, None, None], rows[:, :, None], columns[:, None, :])
    own = (owner[index] == 0) | (owner[index] == label[:, None, None])
    windows = padded[index] * own[..., None]  # (N, w, w, 3)
    return windows.flatten(1, 2).transpose(1, 2), middle
