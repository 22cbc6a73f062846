"""Pixels survive the way from picture to tensor and back; squares and sheets are as described."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vislm_tutorial.data.images import fit_square, grid, to_pil, to_tensor


def _ramp() -> Image.Image:
    """16 x 16 with all 256 levels of red, and something else in green and blue."""
    red = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return Image.fromarray(np.stack([red, red[::-1], red.T], axis=-1))


def test_round_trip_is_exact_over_all_levels():
    tensor = to_tensor(_ramp())
    assert tensor.shape == (3, 16, 16) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(np.asarray(to_pil(tensor)), np.asarray(_ramp()))


def test_channels_and_rows_stay_where_they_are():
    picture = Image.new("RGB", (3, 2), "black")
    picture.putpixel((2, 0), (255, 0, 0))  # right, top
    tensor = to_tensor(picture)
    assert tensor.shape == (3, 2, 3)
    assert tensor[0, 0, 2] == 1 and tensor[1, 0, 2] == -1 and tensor[0, 1, 2] == -1


def test_values_beyond_the_range_are_clipped():
    image = torch.tensor([-7.0, 0.0, 7.0]).reshape(3, 1, 1)
    assert to_pil(image).getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize(
    "bad, match",
    [
        (torch.zeros(1, 3, 4, 4), r"grid\(images\)"),
        (torch.zeros(4, 4, 3), r"\(3, H, W\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "floating"),
        (torch.full((3, 4, 4), float("nan")), "NaN"),
    ],
)
def test_to_pil_refuses_what_it_would_falsify(bad, match):
    with pytest.raises(ValueError, match=match):
        to_pil(bad)


def test_center_crop_takes_the_middle_and_pad_keeps_all():
    wide = Image.new("RGB", (40, 10), "red")
    wide.paste("blue", (15, 0, 25, 10))
    cropped = np.asarray(fit_square(wide, 10))
    assert (cropped == (0, 0, 255)).all()
    padded = fit_square(wide, 40, "pad")
    assert padded.size == (40, 40)
    assert padded.getpixel((20, 14)) == (255, 255, 255)
    assert padded.getpixel((0, 15)) == (255, 0, 0) and padded.getpixel((20, 24)) == (0, 0, 255)


@pytest.mark.parametrize("crop", ["center", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_proportions_still_give_a_square(size, crop):
    assert fit_square(Image.new("RGB", size), 16, crop).size == (16, 16)


def test_unknown_crop_is_named():
    with pytest.raises(ValueError, match="'centre'.*center, pad"):
        fit_square(Image.new("RGB", (2, 2)), 8, "centre")


def test_grid_places_images_row_by_row():
    images = torch.stack([torch.full((3, 4, 4), v) for v in (-1.0, 0.0, 1.0)])
    sheet = grid(images, columns=2, gap=2, background="red")
    assert sheet.size == (10, 10)
    assert [sheet.getpixel(p)[1] for p in ((0, 0), (6, 0), (0, 6))] == [0, 128, 255]
    assert sheet.getpixel((4, 0)) == (255, 0, 0)  # gap
    assert sheet.getpixel((7, 7)) == (255, 0, 0)  # empty place


def test_grid_takes_pictures_and_drops_unneeded_columns():
    assert grid([Image.new("RGB", (4, 6))], columns=5).size == (4, 6)


@pytest.mark.parametrize(
    "images, error",
    [
        (torch.zeros(3, 4, 4), ValueError),
        ([], ValueError),
        ([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))], ValueError),
        (Image.new("RGB", (2, 2)), TypeError),
    ],
)
def test_grid_says_what_is_wrong(images, error):
    with pytest.raises(error, match="got"):
        grid(images)


def test_data_package_is_lazy():
    code = (
        "import sys, vislm_tutorial.data as data\n"
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules, 'heavy import'\n"
        "assert 'load_folder' in dir(data)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
