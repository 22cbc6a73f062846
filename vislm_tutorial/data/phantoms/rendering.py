"""Phantom -> slice in Hounsfield units -> picture: signed distances, a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ..rendering import covered
from . import anatomy as body
from .anatomy import FIELD_OF_VIEW_MM, FISSURES, Anatomy, anatomy

if TYPE_CHECKING:
    from .world import Phantom

WINDOW_HU = (-1000.0, 400.0)  # what -1 and 1 stand for: wider than a lung window, so bone is seen

# Hounsfield units: air is -1000 and water 0 by definition.
AIR, LUNG, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -850.0, -100.0, 45.0, 40.0, 60.0
MEDIASTINUM, MARROW, BONE, CANAL = -50.0, 190.0, 350.0, 25.0
VESSEL = 410.0  # a lung vessel over the lung: thinner than the slice, so only in part blood
FISSURE, FISSURE_MM = 280.0, 1.0
TEXTURE, GRAVITY = 20.0, 30.0  # how unevenly lung is aired, and how much denser its lowest part is
NODULE_HU = (30.0, 60.0)
CORTEX_MM = 2.2  # thickness of the hard shell of ribs and vertebrae

# What is laid over the lungs and the chest wall, in this order.
PAINTED = {
    "heart": BLOOD,
    "liver": LIVER,
    "right hilum": BLOOD,
    "left hilum": BLOOD,
    "aorta": BLOOD,
    "vein": BLOOD,
    "descending aorta": BLOOD,
    "trachea": AIR,
    "sternum": MARROW,
    "right scapula": BONE,
    "left scapula": BONE,
}


def nodule_hu(phantom: Phantom) -> float:
    """Density of a phantom's nodule, somewhere in `NODULE_HU`: the patient decides."""
    low, high = NODULE_HU
    return low + (high - low) * (phantom.seed * 0.618034 % 1)


def hounsfield(phantoms: Sequence[Phantom], image_size: int = 128, noise: float = 0.0) -> Tensor:
    """Draw slices.

    Args:
        phantoms: B phantoms.
        image_size: side in pixels, 64 or more, over `FIELD_OF_VIEW_MM`.
        noise: standard deviation in HU of the scanner's noise; a patient's is always the same.

    Returns:
        (B, H, W) float32 in HU.

    Raises:
        ValueError: for a smaller side or negative noise.
    """
    if image_size < 64:
        raise ValueError(f"image_size is {image_size}; a nodule needs 64 pixels or more a side.")
    if noise < 0:
        raise ValueError(f"noise is {noise} HU; expected 0 or more.")
    slices = torch.empty(len(phantoms), image_size, image_size)
    for level in body.LEVELS:  # one level at a time, since each has other parts to draw
        found = [i for i, p in enumerate(phantoms) if p.level == level]
        for first in range(0, len(found), 32):
            index = found[first : first + 32]
            slices[index] = _draw([phantoms[i] for i in index], image_size)
    if noise:
        for image, phantom in zip(slices, phantoms, strict=True):
            generator = torch.Generator().manual_seed(phantom.seed)
            image += noise * torch.randn(image.shape, generator=generator)
    return slices


def render(phantoms: Sequence[Phantom], image_size: int = 128, noise: float = 0.0) -> Tensor:
    """Draw slices as grey pictures, `WINDOW_HU` over [-1, 1]. Arguments as in `hounsfield`.

    Returns:
        (B, 3, H, W) float32 in [-1, 1], the same in all three channels.
    """
    return to_images(hounsfield(phantoms, image_size, noise))


def to_images(slices: Tensor) -> Tensor:
    """(B, H, W) in HU -> (B, 3, H, W) in [-1, 1], clipped to `WINDOW_HU`."""
    low, high = WINDOW_HU
    grey = (slices.clamp(low, high) - low) / (high - low) * 2 - 1
    return grey[:, None].expand(-1, 3, -1, -1).contiguous()


def to_hounsfield(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W) in HU: the inverse of `to_images`, inside the window.

    The channels of a generated picture may differ a little; their mean counts.
    """
    low, high = WINDOW_HU
    return (images.mean(dim=1).clamp(-1, 1) + 1) / 2 * (high - low) + low


# --- drawing -------------------------------------------------------------------------------------


def _draw(phantoms: Sequence[Phantom], image_size: int) -> Tensor:
    slices = [anatomy(p.level, p.seed) for p in phantoms]
    parts = body.stack(slices)
    pixel = FIELD_OF_VIEW_MM / image_size
    line = (torch.arange(image_size) + 0.5) * pixel - FIELD_OF_VIEW_MM / 2
    x, y = line[None, None, :], line[None, :, None]
    canvas = torch.full((len(phantoms), image_size, image_size), AIR)

    def paint(distance: Tensor, value: float | Tensor) -> None:
        canvas.lerp_(torch.as_tensor(value).expand_as(canvas), covered(distance / pixel))

    def ellipse(name: str) -> Tensor:
        return body.ellipse_distance(x, y, parts[name])

    paint(ellipse("skin"), FAT)
    paint(ellipse("muscle"), MUSCLE)
    paint(ellipse("cavity"), MEDIASTINUM)
    for name, value in PAINTED.items():
        if name in parts:
            paint(ellipse(name), value)
    bones = ellipse("vertebra")
    for name in parts:
        if " rib " in name:
            bones = torch.minimum(bones, ellipse(name))
    paint(bones, BONE)
    paint(bones + CORTEX_MM, MARROW)
    _paint_arch(paint, ellipse("canal"), x, y, parts["canal"])
    lung = body.lung_distance(x, y, parts)
    paint(lung, _lung(phantoms, slices, parts, x, y, pixel))
    for i, phantom in enumerate(phantoms):
        if phantom.nodule is not None:
            n = phantom.nodule
            distance = torch.hypot(x[0] - n.x_mm, y[0] - n.y_mm) - n.diameter_mm / 2
            canvas[i].lerp_(torch.tensor(nodule_hu(phantom)), covered(distance / pixel))
    return canvas


def _paint_arch(paint, canal: Tensor, x: Tensor, y: Tensor, place: Tensor) -> None:
    """The bony ring around the spinal canal, with its three processes."""
    u, v = (x - place[0]).abs(), y - place[1]
    spine = torch.maximum(u - 2.8, (v - 14).abs() - 9)
    across = torch.maximum((v - 0.25 * u).abs() - 3.5, u - 27)
    paint(torch.minimum(torch.minimum(canal - 4.5, spine), across), BONE - 60)
    paint(canal, CANAL)


def _lung(
    phantoms: Sequence[Phantom],
    slices: Sequence[Anatomy],
    parts: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    pixel: float,
) -> Tensor:
    """(B, H, W) HU of lung wherever it may be: unevenly aired, with fissures and vessels."""
    _, centre_y, _, half_depth, _ = parts["cavity"]
    air = LUNG + GRAVITY * (y - centre_y) / half_depth + TEXTURE * _clouds(phantoms, x.shape[-1])
    for i, slice_ in enumerate(slices):
        if slice_.level in FISSURES:
            cavity = parts["cavity"][:, i : i + 1]
            fissure = body.fissure_distance(x, y, slice_.level, cavity)[0]
            air[i] += FISSURE * _band(fissure.abs(), FISSURE_MM / 2, pixel)
    return air + VESSEL * _vessels(slices, x.shape[-1], pixel)


def _clouds(phantoms: Sequence[Phantom], image_size: int) -> Tensor:
    """(B, H, W) smooth noise of about unit size, a patient's own."""
    coarse = [
        torch.randn(1, 14, 14, generator=torch.Generator().manual_seed(p.seed)) for p in phantoms
    ]
    size = (image_size, image_size)
    return functional.interpolate(torch.stack(coarse), size, mode="bicubic")[:, 0]


def _band(distance: Tensor, half_width: Tensor | float, pixel: float) -> Tensor:
    """Part of a pixel under a line that may be thinner than it; unsigned distances in mm."""
    return covered((distance - half_width) / pixel) - covered((distance + half_width) / pixel)


def _vessels(slices: Sequence[Anatomy], image_size: int, pixel: float) -> Tensor:
    """(B, H, W) coverage by vessels. Only a window around each is touched."""
    lines = torch.tensor([s.vessels for s in slices])  # (B, V, 6)
    image = torch.arange(len(slices)).repeat_interleave(lines.shape[1])
    start_x, start_y, end_x, end_y, wide, thin = lines.flatten(0, 1).T[:, :, None, None]
    along_x, along_y = end_x - start_x, end_y - start_y
    length = torch.hypot(along_x, along_y)

    half = math.ceil((float(length.max()) / 2 + float(wide.max())) / pixel) + 1
    steps = torch.arange(-half, half + 1)
    to_pixel = image_size / 2
    column = ((start_x + along_x / 2) / pixel + to_pixel).floor().long() + steps[None, None, :]
    row = ((start_y + along_y / 2) / pixel + to_pixel).floor().long() + steps[None, :, None]
    u, v = ((index + 0.5 - to_pixel) * pixel for index in (column, row))
    u, v = u - start_x, v - start_y
    share = ((u * along_x + v * along_y) / length.clamp_min(1e-6).square()).clamp(0, 1)
    distance = torch.hypot(u - share * along_x, v - share * along_y)
    coverage = _band(distance, torch.lerp(wide, thin, share), pixel)  # (B * V, window, window)

    inside = (column >= 0) & (column < image_size) & (row >= 0) & (row < image_size)
    n, i, j = (inside & (coverage > 0)).nonzero(as_tuple=True)
    target = (image[n] * image_size + row[n, i, 0]) * image_size + column[n, 0, j]
    canvas = torch.zeros(len(slices) * image_size**2)
    canvas.scatter_reduce_(0, target, coverage[n, i, j], reduce="amax")
    return canvas.reshape(len(slices), image_size, image_size)
