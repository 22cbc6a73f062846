"""Styled picture -> subject and style: the nearest of all the drawings, blurred and shifted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import PictureDataset

FINE, COARSE = 32, 16  # sides in pixels at which drawings are compared
CANDIDATES = 48  # how many of the nearest coarse drawings are compared closely
# Two statistics of colour settle the style where no drawing is near: they count this much more.
BACKGROUND_WEIGHT, CHROMA_WEIGHT = 12.0, 4.0
SHIFTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))  # in pixels of the picture


@dataclass(frozen=True)
class Reading:
    """What one picture shows.

    subject, style: of the nearest drawing; index: its place in the drawings of the `StyleIndex`.
    distance: root mean square of the difference to it at 32 pixels, in [0, 2]; real drawings that
        are a little blurred have about 0.05, pictures of nothing known 0.3 and more.
    """

    subject: str
    style: str
    index: int
    distance: float


def _features(images: Tensor, side: int) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] -> (B, 3 * side^2): slightly blurred and shrunk."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return F.interpolate(blurred, (side, side), mode="area").flatten(1)


def _statistics(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 4): the background's colour and how colourful the rest is, weighted."""
    small = F.interpolate(images, (COARSE, COARSE), mode="area")  # noise averages out
    edge = torch.cat([small[..., 0, :], small[..., -1, :], small[..., 0], small[..., -1]], -1)
    background = edge.median(-1).values  # (B, 3)
    other = (small - background[..., None, None]).abs()
    chroma = (other.amax(1) - other.amin(1)).mean((1, 2))  # (B,)
    weights = torch.tensor([BACKGROUND_WEIGHT / 3] * 3 + [CHROMA_WEIGHT]).sqrt()
    return torch.cat([background, chroma[:, None]], 1) * weights


class StyleIndex:
    """All drawings of a data set of styles at low resolution: what `read` compares with.

    Takes 3 kB a drawing. Build it once; drawing every picture is the slow part (about 3 ms each).
    """

    def __init__(self, drawings: PictureDataset, indices: Iterable[int] | None = None):
        """`indices` limits the index to some of the drawings, such as those of one style."""
        self.indices = list(range(len(drawings)) if indices is None else indices)
        if not self.indices:
            raise ValueError("StyleIndex got no drawings; expected at least one.")
        self.items = [drawings.items[i] for i in self.indices]
        fine, coarse, statistics = [], [], []
        for start in range(0, len(self.indices), 256):
            images = drawings.images(self.indices[start : start + 256])
            fine.append(_to_bytes(_features(images, FINE)))
            coarse.append(_features(images, COARSE))
            statistics.append(_statistics(images))
        self._fine, self._coarse = torch.cat(fine), torch.cat(coarse)
        self._statistics = torch.cat(statistics)
        self._coarse_norm = self._coarse.square().mean(1)

    def __len__(self) -> int:
        return len(self.items)

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """For pictures (B, 3, H, W) in [-1, 1]: place in `items` and distance, both (B,)."""
        coarse = _features(images, COARSE)
        unlike = torch.cdist(_statistics(images), self._statistics).square()  # (B, N)
        cross = coarse @ self._coarse.T / coarse.shape[1]
        apart = self._coarse_norm - 2 * cross + unlike  # mean square, but for a term in B
        candidates = apart.topk(min(CANDIDATES, len(self)), largest=False).indices  # (B, K)
        known = _from_bytes(self._fine[candidates])  # (B, K, 3 * FINE^2)
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        height, width = images.shape[-2:]
        best = torch.full(candidates.shape, float("inf"))
        for dy, dx in SHIFTS:
            shifted = padded[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            difference = torch.cdist(_features(shifted, FINE)[:, None], known)[:, 0]  # (B, K)
            best = torch.minimum(best, difference)
        distance = best / known.shape[-1] ** 0.5
        which = (distance.square() + unlike.gather(1, candidates)).argmin(1, keepdim=True)
        return candidates.gather(1, which)[:, 0], distance.gather(1, which)[:, 0]


def _to_bytes(values: Tensor) -> Tensor:
    return values.add(1).mul(127.5).round().to(torch.uint8)


def _from_bytes(values: Tensor) -> Tensor:
    return values.to(torch.float32).div(127.5).sub(1)


def read(images: Tensor, index: StyleIndex, batch_size: int = 32) -> list[Reading]:
    """Which drawing each picture shows.

    An index of the training drawings answers another question too: how near to one of them a
    generated picture is, and to which.

    Args:
        images: (B, 3, H, W) in [-1, 1], at least 32 pixels a side.
        index: the drawings to compare with.
        batch_size: pictures at a time; memory grows with it, results do not change.

    Raises:
        ValueError: for another shape, or smaller pictures.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < FINE:
        raise ValueError(
            f"read got images of shape {tuple(images.shape)}; expected (B, 3, H, W) with sides of "
            f"at least {FINE} pixels."
        )
    readings = []
    for batch in images.detach().to("cpu", torch.float32).split(batch_size):
        places, distances = index.nearest(batch)
        for place, distance in zip(places.tolist(), distances.tolist(), strict=True):
            item = index.items[place]
            readings.append(Reading(item.subject, item.style, index.indices[place], distance))
    return readings
