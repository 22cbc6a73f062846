"""Styled drawings: things with right names, styles that differ, a split without leaks, reading."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("resvg_py")
pytest.importorskip("emoji")

from vislm_tutorial.data.styles import (
    OWN_COLOURS,
    STYLES,
    StyleIndex,
    caption,
    held_out_style,
    load_styles,
    read,
    subjects,
)
from vislm_tutorial.data.styles.redrawing import rasterise, restyle


@pytest.fixture(scope="module")
def few():
    return load_styles(limit=12)


@pytest.fixture(scope="module")
def index(few):
    return StyleIndex(few)


def test_subjects_are_many_things_with_names_of_their_own():
    names = [drawing.caption for drawing in subjects()]
    assert 600 <= len(names) <= 1_100
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and 1 <= len(name.split()) <= 3 for name in names)
    assert {"dog", "apple", "castle", "bicycle", "cactus", "violin", "car"} <= set(names)


@pytest.mark.parametrize(
    "unwanted", ["flag:", "button", "o'clock", "person", "man", "woman", "hand", "sign"]
)
def test_no_sign_flag_person_or_clock_face_is_a_subject(unwanted):
    found = [d.caption for d in subjects() if unwanted in d.caption.split()]
    assert found == (["stop sign"] if unwanted == "sign" else [])


def test_no_name_says_a_colour_that_a_style_would_contradict():
    colours = {"red", "green", "blue", "yellow", "orange", "purple", "black", "white", "grey"}
    assert not [d.caption for d in subjects() if colours & set(d.caption.split())]


@pytest.mark.parametrize(
    "subject, style, expected",
    [
        ("dog", OWN_COLOURS, "a dog"),
        ("owl", "outline only", "an owl, outline only"),
        ("ewe", "in red", "a ewe, in red"),
        ("unicorn", "in blue", "a unicorn, in blue"),
        ("grapes", "in grey", "grapes, in grey"),
        ("bus", "in grey", "a bus, in grey"),
        ("wine glass", "in grey", "a wine glass, in grey"),
        ("glass of milk", "in grey", "a glass of milk, in grey"),
        ("bread", "as a blueprint", "bread, as a blueprint"),
        ("ear of corn", "in green", "an ear of corn, in green"),
    ],
)
def test_captions_are_english(subject, style, expected):
    assert caption(subject, style) == expected


def test_captions_of_all_pictures_differ():
    captions = load_styles().captions
    assert len(set(captions)) == len(captions) == len(STYLES) * len(subjects())


def test_split_holds_out_one_style_of_every_subject():
    train, test, everything = (load_styles(split=split) for split in ("train", "test", "all"))
    assert len(test) == len(subjects()) and len(train) == 11 * len(test)
    pairs = [{(i.emoji, i.style) for i in part.items} for part in (train, test, everything)]
    assert not pairs[0] & pairs[1] and pairs[0] | pairs[1] == pairs[2]
    shares = [sum(i.style == style for i in test.items) / len(test) for style in STYLES]
    assert min(shares) > 0.04 and max(shares) < 0.14


def test_split_never_moves():
    """A trained model's test set must stay its test set."""
    assert [held_out_style(emoji) for emoji in "🐢🚢🍎"] == [
        "in pastel colours",
        OWN_COLOURS,
        "in neon on black",
    ]


def test_a_smaller_limit_is_part_of_a_larger_one():
    few, many = load_styles(limit=5), load_styles(limit=9)
    assert len(few) == 60 and set(few.captions) < set(many.captions)


def test_pictures_arrive_as_a_data_set_gives_them(few):
    image = few[3]["image"]
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1
    assert few[3]["caption"] == few.captions[3]
    assert torch.equal(few.images([3])[0], image)


def test_every_style_of_every_subject_differs_from_every_other(few):
    images = few.images().reshape(12, len(STYLES), -1)
    for subject in images:
        apart = torch.cdist(subject, subject) / subject.shape[1] ** 0.5
        assert (apart + 9 * torch.eye(len(STYLES))).min() > 0.04


@pytest.mark.parametrize("style", STYLES)
def test_no_drawing_is_empty_in_any_style(few, style):
    """Something of each drawing stands out from its background."""
    places = [i for i, item in enumerate(few.items) if item.style == style]
    for image in few.images(places):
        ink = (image - image[:, :1, :1]).abs().amax(0) > 0.3
        assert ink.float().mean() > 0.02


SVG = """<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">
  <g id="color" fill="#ff0000"><rect width="72" height="36"/>
    <rect y="36" width="72" height="36" style="fill: #0000ff; stroke:none"/></g>
  <g id="line" stroke="#000" stroke-width="2" fill="none"><path d="M10 10H60"/></g></svg>"""


def test_groups_and_style_attributes_are_understood(tmp_path):
    path = tmp_path / "two.svg"
    path.write_text(SVG)
    own = rasterise(restyle(path, OWN_COLOURS), 72)
    assert own[:, 30, 30].tolist() == [255, 0, 0] and own[:, 60, 30].tolist() == [0, 0, 255]
    assert own[:, 10, 30].tolist() == [0, 0, 0]
    outline = rasterise(restyle(path, "outline only"), 72)
    assert outline[:, 30, 30].tolist() == outline[:, 60, 30].tolist() == [255, 255, 255]
    assert outline[:, 10, 30].max() < 40
    blue = rasterise(restyle(path, "in blue"), 72)
    assert all(blue[2, row, 30] > blue[0, row, 30] + 40 for row in (30, 60))
    thick = ElementTree.fromstring(restyle(path, "with thick lines"))
    widths = [float(e.get("stroke-width")) for e in thick.iter() if e.tag.endswith("path")]
    assert widths == [pytest.approx(2 * STYLES["with thick lines"].width)]


def _worn(images, noise=0.1):
    """Slightly blurred, moved by a pixel, and noisy."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    moved = torch.roll(blurred, (1, -1), (2, 3))
    return (moved + noise * torch.randn(images.shape)).clamp(-1, 1)


def test_worn_pictures_are_read_right(few, index):
    readings = read(_worn(few.images()), index)
    right = [
        (r.subject, r.style) == (i.subject, i.style)
        for r, i in zip(readings, few.items, strict=False)
    ]
    assert sum(r.style == i.style for r, i in zip(readings, few.items, strict=True)) >= 0.99 * len(
        few
    )
    assert sum(right) >= 0.95 * len(few)


def test_distance_tells_copies_from_pictures_of_something_else(few, index):
    copies = read(few.images(range(0, 144, 7)), index)
    assert max(reading.distance for reading in copies) < 0.01
    assert [reading.index for reading in copies] == list(range(0, 144, 7))
    noise = read(torch.rand(4, 3, 64, 64) * 2 - 1, index)
    assert min(reading.distance for reading in noise) > 0.3


def test_style_is_read_of_subjects_the_index_does_not_know(few):
    places = [i for i in range(len(few)) if i >= 4 * len(STYLES)]
    readings = read(_worn(few.images(range(4 * len(STYLES)))), StyleIndex(few, places))
    right = [r.style == i.style for r, i in zip(readings, few.items, strict=False)]
    assert sum(right) >= 0.8 * len(right)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"split": "validation"}, "'validation'; choose one of all, train, test"),
        ({"limit": 0}, "limit is 0"),
        ({"image_size": -1}, "image_size is -1"),
    ],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        load_styles(**options)


def test_bad_pictures_and_styles_are_named(index):
    with pytest.raises(ValueError, match=r"shape \(3, 64, 64\)"):
        read(torch.zeros(3, 64, 64), index)
    with pytest.raises(ValueError, match="'in plaid'; choose one of"):
        caption("dog", "in plaid")
