"""PIL pictures <-> tensors: the one place where pixel ranges and square sides are decided."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CROPS = ("center", "pad")


def check_image_size(image_size: int) -> int:
    """`image_size` itself if it is a whole number of at least 1 pixel.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise ValueError(
            f"image_size is {image_size!r}; expected a whole number of pixels, say 64."
        )
    return image_size


def check_square(images: Tensor, least: int) -> None:
    """Raise a ValueError unless these are square pictures, (B, 3, H, W) floats, `least` a side."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; expected (B, 3, H, W) with H = W."
        )
    if images.shape[-1] < least:
        raise ValueError(f"The side is {images.shape[-1]} pixels; expected {least} or more.")
    check_floats(images)


def check_floats(images: Tensor) -> None:
    """Raise a ValueError for pictures that are whole numbers: their range would be another one."""
    if not images.is_floating_point():
        raise ValueError(
            f"images is {images.dtype}; expected floats in [-1, 1]. "
            "Bytes become them by images / 127.5 - 1."
        )


def fit_square(picture: Image.Image, image_size: int, crop: str = "center") -> Image.Image:
    """Resize an RGB picture to a square.

    Args:
        picture: mode RGB, any size.
        image_size: side of the result in pixels.
        crop: "center" keeps the largest central square; "pad" keeps all and fills up with white.

    Returns:
        An RGB picture of image_size x image_size.
    """
    if crop not in CROPS:
        raise ValueError(f"crop is {crop!r}; choose one of {', '.join(CROPS)}.")
    width, height = picture.size
    if crop == "center":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return _resize(picture, (image_size, image_size), (left, top, left + side, top + side))
    scale = image_size / max(width, height)
    size = tuple(max(1, round(scale * length)) for length in (width, height))
    square = Image.new("RGB", (image_size, image_size), "white")
    corner = tuple((image_size - length) // 2 for length in size)
    square.paste(_resize(picture, size, (0, 0, width, height)), corner)
    return square


def _resize(picture: Image.Image, size: tuple[int, int], box: tuple) -> Image.Image:
    # reducing_gap first shrinks by a whole factor: much faster on photographs, equal to the eye.
    return picture.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_pixels(picture: Image.Image) -> Tensor:
    """A picture as (3, H, W) uint8 in 0..255."""
    array = np.array(picture.convert("RGB"))  # (H, W, 3), a copy: torch wants writable memory
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def pixels_to_tensor(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 of any shape -> float32 in [-1, 1]."""
    return pixels.to(torch.float32).div(127.5).sub(1)


def to_tensor(picture: Image.Image) -> Tensor:
    """A picture as (3, H, W) float32 in [-1, 1]; `to_pil` gives back the same pixels."""
    return pixels_to_tensor(to_pixels(picture))


def to_pil(image: Tensor) -> Image.Image:
    """One image (3, H, W), floating point in [-1, 1], as a PIL picture; values beyond are clipped.

    Raises:
        ValueError: for another shape or dtype, and for NaN.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(
            f"to_pil got {image.dtype} of shape {tuple(image.shape)}; expected one floating-point "
            "image of shape (3, H, W) in [-1, 1]. Of a batch take images[0], or use grid(images)."
        )
    image = image.detach().to("cpu", torch.float32)
    if image.isnan().any():
        raise ValueError("to_pil got NaN pixels; the model or the step that made them diverged.")
    pixels = image.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)


def to_pils(images: Tensor | Iterable[Image.Image]) -> list[Image.Image]:
    """A batch (B, 3, H, W) in [-1, 1], or PIL pictures, as a list of PIL pictures."""
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(
            f"Expected a batch of images (B, 3, H, W), got shape {tuple(images.shape)}. "
            "Make a batch of one image with image[None]."
        )
    if isinstance(images, Image.Image):
        raise TypeError("Expected several pictures, got a single one; pass [picture].")
    return [to_pil(image) if isinstance(image, Tensor) else image for image in images]


def grid(
    images: Tensor | Sequence[Image.Image],
    columns: int = 4,
    gap: int = 2,
    background: str = "white",
) -> Image.Image:
    """Images side by side, row by row, in one picture.

    Args:
        images: (B, 3, H, W) in [-1, 1], or a list of B PIL pictures of one size; B at least 1.
        columns: images in a row.
        gap: pixels between two images; none around the outside.
        background: colour of the gaps and of empty places, as PIL names it.
    """
    pictures = to_pils(images)
    if not pictures or columns < 1:
        raise ValueError(f"grid got {len(pictures)} images in {columns} columns; needs 1 or more.")
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"grid got pictures of sizes {sorted(sizes)}; expected one size.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    width, height = pictures[0].size
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, background)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    return sheet


class PictureDataset:
    """Map-style data set of pictures with captions; a subclass sets `items` and gives `_pixels`."""

    items: Sequence  # each item has a .caption

    def _pixels(self, index: int) -> Tensor:
        """Picture number `index` as (3, H, W) uint8."""
        raise NotImplementedError

    @property
    def captions(self) -> list[str]:
        """One caption a picture, in the order of the pictures."""
        return [item.caption for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        """{"image": (3, H, W) float32 in [-1, 1], "caption": str}: torch batches these."""
        index = self._position(index)
        return {
            "image": pixels_to_tensor(self._pixels(index)),
            "caption": self.items[index].caption,
        }

    def images(self, indices: Iterable[int] | None = None) -> Tensor:
        """The pictures at `indices` (default: all) as (B, 3, H, W) float32 in [-1, 1]."""
        indices = range(len(self)) if indices is None else indices
        pixels = [self._pixels(self._position(index)) for index in indices]
        if not pixels:
            raise ValueError("images() got no indices; expected at least one, say images([0]).")
        return pixels_to_tensor(torch.stack(pixels))

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"Index {position} is outside this data set of {len(self)} pictures.")
        return position % len(self)
