"""Strokes follow the picture, draw at any size, and landscapes obey their captions."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from vislm_tutorial.painting import BRUSHES, Painting, Stroke, landscape, paint, understand


@pytest.fixture(scope="module")
def picture():
    """Left half red, right half blue, with a slanted yellow band across."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    image = torch.where(x < 0.5, torch.tensor([0.8, -0.6, -0.6])[:, None, None],
                        torch.tensor([-0.6, -0.5, 0.8])[:, None, None])  # fmt: skip
    band = ((x + y - 1).abs() < 0.12)[None]
    return torch.where(band, torch.tensor([0.9, 0.8, -0.7])[:, None, None], image)


@pytest.mark.parametrize("brush", BRUSHES)
def test_a_painting_resembles_its_picture(picture, brush):
    painting = paint(picture, brush=brush)
    error = (painting.draw(64) - picture).abs().mean()
    nothing = (picture - picture.mean((1, 2), keepdim=True)).abs().mean()
    assert error < 0.4 * nothing


def test_finer_strokes_lie_where_the_picture_changes(picture):
    strokes = paint(picture).strokes
    finest = min(stroke.radius for stroke in strokes)
    assert finest < max(stroke.radius for stroke in strokes)
    fine = [stroke.points[0] for stroke in strokes if stroke.radius == finest]
    near = [min(abs(x - 0.5), abs(x + y - 1 - 0.12), abs(x + y - 1 + 0.12)) < 0.08 for x, y in fine]
    assert len(fine) > 20 and np.mean(near) > 0.8


def test_strokes_run_along_an_edge():
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    stripes = torch.sin(6 * (x + y) * np.pi)[None].repeat(3, 1, 1)  # lines along (1, -1)
    ways = [np.subtract(s.points[-1], s.points[0]) for s in paint(stripes).strokes]
    ways = np.array([w / np.linalg.norm(w) for w in ways if np.linalg.norm(w) > 0.02])
    assert len(ways) > 50
    assert np.abs(ways @ np.array([1, -1]) / 2**0.5).mean() > 0.85


def test_the_same_seed_paints_the_same(picture):
    assert paint(picture, seed=3) == paint(picture, seed=3)
    assert paint(picture, seed=3) != paint(picture, seed=4)


def test_a_painting_draws_at_any_size_and_shape(picture):
    painting = paint(picture[:, :32])
    small, large = painting.draw(64), painting.draw(256)
    assert small.shape == (3, 32, 64) and large.shape == (3, 128, 256)
    assert large.min() >= -1 and large.max() <= 1
    shrunk = torch.nn.functional.interpolate(large[None], (32, 64), mode="area")[0]
    assert (shrunk - small).abs().mean() < 0.06


def test_a_stroke_has_its_place_width_colour_and_smooth_edges():
    stroke = Stroke(((0.25, 0.5), (0.75, 0.5)), 0.1, (1.0, 0.0, 0.0))
    image = Painting((stroke,), (1.0, 1.0, 1.0)).draw(50)
    assert image[:, 25, 25].tolist() == [1, -1, -1]
    assert image[:, 5, 25].tolist() == [1, 1, 1] and image[:, 25, 3].tolist() == [1, 1, 1]
    red = (image[1] < 0).sum(0)[25]  # height of the stroke in the middle
    assert 9 <= red <= 11
    assert ((image[1] > -0.9) & (image[1] < 0.9)).any()


def test_svg_holds_every_stroke(picture):
    painting = paint(picture)
    root = ElementTree.fromstring(painting.to_svg(300))
    lines = [element for element in root if element.tag.endswith("polyline")]
    assert len(lines) == len(painting.strokes)
    assert root.get("width") == "300"


# --- landscapes ----------------------------------------------------------------------------------

BASE = "a landscape in warm sunlight"
animals = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("resvg_py", "emoji")) and not os.environ.get("CI"),
    reason="animals are OpenMoji's: pip install 'vislm-tutorial[drawings]'",
)


def test_a_caption_is_understood():
    meaning = understand("an impressionist landscape with a puppy and warm sunlight")
    assert meaning.light == "warm sunlight" and meaning.animals == ("dog",)
    assert meaning.parts == {"sun", "hills", "meadow"} and meaning.unknown == ()


@pytest.mark.parametrize("part", ["mountains", "lake", "trees", "flowers", "clouds"])
def test_a_part_is_there_exactly_when_the_caption_says_so(part):
    plain, more = landscape(BASE, 96), landscape(f"{BASE} with {part}", 96)
    changed = ((plain - more).abs().amax(0) > 0.1).float()
    assert 0.004 < changed.mean() < 0.7
    above = changed[:48].sum() > changed[48:].sum()
    assert above == (part in ("mountains", "clouds", "trees"))


@animals
def test_an_animal_stands_in_the_meadow():
    plain, more = landscape(BASE, 96), landscape(f"{BASE} with a puppy", 96)
    rows, columns = torch.nonzero((plain - more).abs().amax(0) > 0.2, as_tuple=True)
    assert len(rows) > 200
    assert rows.min() > 96 * 0.4 and columns.float().mean() < 96 * 0.65


def test_light_changes_the_colours():
    warm, moon, grey = (
        landscape(f"a landscape, {light}", 96) for light in ("sunny", "moonlight", "grey light")
    )
    assert (warm[0] - warm[2]).mean() > (grey[0] - grey[2]).mean() + 0.1
    assert moon.mean() < grey.mean() - 0.5 and moon[2].mean() > moon[0].mean()


def test_painting_keeps_the_part():
    """What the strokes change lies where the scene changed."""
    captions = ("a landscape in grey light", "a landscape with flowers and sun in grey light")
    plain, more = (landscape(caption, 64) for caption in captions)
    place = (plain - more).abs().amax(0) > 0.3
    change = (paint(plain).draw(64) - paint(more).draw(64)).abs().amax(0)
    assert change[place].mean() > 2 * change[~place].mean()


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="does not know 'dragon'.*lake"):
        landscape("a landscape with a dragon", 96)
    known = landscape("a landscape", 96)
    assert torch.equal(landscape("a landscape with a dragon", 96, ignore_unknown=True), known)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: paint(torch.zeros(1, 64, 64)), r"\(1, 64, 64\)"),
        (lambda: paint(torch.zeros(3, 64, 64), brush="mop"), "'mop'; choose one of impressionist"),
        (lambda: landscape("a landscape", 8), "image_size is 8"),
        (lambda: Painting((), (0, 0, 0)).draw(0), "image_size is 0"),
    ],
)
def test_bad_options_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
