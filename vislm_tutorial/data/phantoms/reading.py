"""Picture of a chest slice -> level, and nodules with side, lobe and size; nothing is learned.

The lungs are the large pieces of air inside the body. A nodule is a dense, round island in them:
what is joined to the chest wall, the heart or the liver is none, and vessels are too thin and too
long. Its size comes from the density that it adds to the lung, summed over the pixels around, so
it is finer than a pixel and blur does not change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..images import check_square
from .anatomy import FIELD_OF_VIEW_MM, FISSURES, lobe_names
from .rendering import NODULE_HU, to_hounsfield
from .world import Phantom

AIR_BELOW_HU = -500.0  # halfway between lung and tissue
# From which density a pixel belongs to an island: the first that gives a nodule. A vessel stays
# below the first; a small nodule that a generator has blurred is below it too.
ISLAND_HU = (-300.0, -400.0)
LUNG_MM2 = 1000.0  # smaller pieces of air are the trachea and the bowel; an apex has 4000
DIAMETERS_MM = (4.8, 40.0)  # below lie sections of vessels, above the dome of the liver
LONGEST = 1.8  # length / width from which an island is a vessel
REACH_MM = 4.2  # the density of an island is summed up to this far from it
RING_MM = 9.0  # and compared with the mean of the lung from there to here
SURROUNDED = 0.55  # the share of the pixels around an island that must be lung
NARROW, SPARSE = 0.71, 0.58  # see `level_of`
SIZE_MM, SIZE_SHARE = 2.0, 0.15  # a size is right within the larger of the two


@dataclass(frozen=True)
class Finding:
    """A nodule that was read; the fields of `phantoms.Nodule`, but any diameter may come up."""

    side: str
    lobe: str
    diameter_mm: float
    x_mm: float
    y_mm: float


@dataclass(frozen=True)
class Reading:
    """What one picture shows. `level` is None where no lungs are seen; the largest nodule first."""

    level: str | None
    nodules: tuple[Finding, ...] = ()

    @property
    def nodule(self) -> Finding | None:
        """The largest nodule, or None."""
        return self.nodules[0] if self.nodules else None


@dataclass(frozen=True)
class _Lungs:
    """`mask` (H, W) of the lungs; `body` (H, W) of the patient; the lungs' box in mm."""

    mask: np.ndarray
    body: np.ndarray
    left: float
    right: float
    front: float
    back: float

    @property
    def level(self) -> str:
        """The apex is narrow in a wide body; heart and liver leave little lung in its box."""
        columns = np.flatnonzero(self.body.any(axis=0))
        pixel = FIELD_OF_VIEW_MM / len(self.mask)
        width = self.right - self.left
        if width / ((np.ptp(columns) + 1) * pixel) < NARROW:
            return "upper"
        ellipse = math.pi / 4 * width * (self.back - self.front)
        return "middle" if self.mask.sum() * pixel**2 / ellipse > SPARSE else "lower"


def read(images: Tensor) -> list[Reading]:
    """Read slices.

    Args:
        images: (B, 3, H, W) float in [-1, 1] as from `phantoms.render`, square, 64 or more a side.

    Returns:
        B readings. A picture without lungs is read as (None, no nodules).

    Raises:
        ValueError: for another shape or integers.
    """
    check_square(images, least=64)
    pixels = images.detach().to("cpu", torch.float32).nan_to_num()
    return [_read_slice(hu) for hu in to_hounsfield(pixels).numpy()]


def level_of(images: Tensor) -> list[str | None]:
    """The level of each slice, from the lungs' outline alone. Arguments as in `read`."""
    return [reading.level for reading in read(images)]


def judge(asked: Phantom, reading: Reading) -> dict[str, bool]:
    """Which parts of what a caption of `asked` says are true of a picture.

    "nodule": exactly one is there, or none where none was asked for. "side", "lobe" and "size" are
    of the largest nodule, all False where it is missing; where none was asked for they are as
    "nodule". The lobe is of a side, so on the wrong side it is wrong too.
    """
    wanted, found = asked.nodule, reading.nodule
    if wanted is None or found is None:
        return dict.fromkeys(("nodule", "side", "lobe", "size"), wanted is None and found is None)
    side = found.side == wanted.side
    allowed = max(SIZE_MM, SIZE_SHARE * wanted.diameter_mm)
    return {
        "nodule": len(reading.nodules) == 1,
        "side": side,
        "lobe": side and found.lobe == wanted.lobe,
        "size": abs(found.diameter_mm - wanted.diameter_mm) <= allowed,
    }


def size_error_mm(asked: Phantom, reading: Reading) -> float | None:
    """Read less asked diameter in mm; None where there is no nodule to compare."""
    if asked.nodule is None or reading.nodule is None:
        return None
    return reading.nodule.diameter_mm - asked.nodule.diameter_mm


# --- one slice -----------------------------------------------------------------------------------


def _read_slice(hu: np.ndarray) -> Reading:
    lungs = _find_lungs(hu)
    if lungs is None:
        return Reading(None)
    level = lungs.level
    for threshold in ISLAND_HU:
        found = _islands(hu, threshold, lungs, level)
        if found:
            break
    return Reading(level, tuple(sorted(found, key=lambda f: -f.diameter_mm)))


def _find_lungs(hu: np.ndarray) -> _Lungs | None:
    """The large pieces of air that do not reach the edge of the picture."""
    pixel = FIELD_OF_VIEW_MM / len(hu)
    labels, count = ndimage.label(hu < AIR_BELOW_HU)
    edge = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    area = np.bincount(labels.ravel(), minlength=count + 1) * pixel**2
    area[0] = 0  # what is dense
    area[edge] = 0
    mask = (area > LUNG_MM2)[labels]
    if not mask.any():
        return None
    body = ~(np.isin(labels, edge) & (labels > 0))
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = [v * pixel - FIELD_OF_VIEW_MM / 2 for v in (columns[0], columns[-1] + 1)]
    box += [v * pixel - FIELD_OF_VIEW_MM / 2 for v in (rows[0], rows[-1] + 1)]
    return _Lungs(mask, body, *box)


def _islands(hu: np.ndarray, threshold: float, lungs: _Lungs, level: str) -> list[Finding]:
    """The nodules among the pieces of (H, W) that are denser than `threshold`."""
    pixel = FIELD_OF_VIEW_MM / len(hu)
    reach = math.ceil(RING_MM / pixel) + 1
    labels, count = ndimage.label(hu > threshold)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    largest = DIAMETERS_MM[1] ** 2 * math.pi / 4 / pixel**2
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if area[label] > largest:
            continue
        window = tuple(slice(max(0, s.start - reach), min(len(hu), s.stop + reach)) for s in box)
        own = labels[window] == label
        others = (labels[window] > 0) & ~own
        finding = _measure(hu[window], own, others, lungs.mask[window], pixel)
        if finding is None:
            continue
        diameter, row, column = finding
        x, y = (
            (v + w.start + 0.5) * pixel - FIELD_OF_VIEW_MM / 2
            for v, w in zip((column, row), window[::-1], strict=True)
        )
        side = "right" if x < (lungs.left + lungs.right) / 2 else "left"
        lobe = _lobe(x, y, level, side, lungs)
        found.append(Finding(side, lobe, *(round(v, 2) for v in (diameter, x, y))))
    return found


def _measure(
    hu: np.ndarray, own: np.ndarray, others: np.ndarray, lung: np.ndarray, pixel: float
) -> tuple[float, float, float] | None:
    """Diameter in mm, row and column of the island `own` in a window; None if it is no nodule."""
    distance = ndimage.distance_transform_edt(~own) * pixel
    edge = (distance > 1.2 * pixel) & (distance < 2.3 * pixel)
    if lung[edge].sum() < SURROUNDED * edge.sum():
        return None
    # Half way to what else is dense, the island's part of the picture ends.
    room = np.inf if not others.any() else ndimage.distance_transform_edt(~others) * pixel
    near = (distance <= REACH_MM) & (distance < room)
    ring = (distance > REACH_MM) & (distance <= RING_MM) & (distance < room) & lung
    if not ring.any():
        return None
    # The mean, not the median: as many vessels cross the ring as the sum, and so they cancel out.
    background = hu[ring].mean()
    excess = np.where(near, hu - background, 0.0)
    contrast = sum(NODULE_HU) / 2 - background
    area = excess.sum() / contrast * pixel**2
    if area <= 0:
        return None
    diameter = 2 * math.sqrt(area / math.pi)
    if not DIAMETERS_MM[0] <= diameter <= DIAMETERS_MM[1]:
        return None
    weight = np.where(distance <= 1.5 * pixel, excess.clip(min=0), 0.0)
    rows, columns = np.indices(hu.shape)
    total = weight.sum()
    row, column = (weight * rows).sum() / total, (weight * columns).sum() / total
    moments = np.cov(np.stack((rows.ravel(), columns.ravel())), aweights=weight.ravel())
    narrow, wide = np.linalg.eigvalsh(moments)
    if wide > LONGEST**2 * max(narrow, 1e-6):
        return None
    return diameter, float(row), float(column)


def _lobe(x: float, y: float, level: str, side: str, lungs: _Lungs) -> str:
    """The lobe around a point in mm: the fissure lies at a fixed height of the lungs' box."""
    front, *behind = lobe_names(level, side)
    if not behind:
        return front
    height, rise = FISSURES[level]
    half_depth, half_width = (lungs.back - lungs.front) / 2, (lungs.right - lungs.left) / 2
    across = abs(x - (lungs.left + lungs.right) / 2) / half_width
    fissure = (lungs.back + lungs.front) / 2 + half_depth * (height + rise * (across - 0.5))
    return behind[0] if y > fissure else front
