"""Pictures have the areas, boxes, colours and shades that their scenes say, and cost little."""

from __future__ import annotations

import math
import time

import pytest
import torch

from vislm_tutorial.data.rendering import render, signed_distance
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    EXTENTS,
    SHAPES,
    SIZES,
    STRIPE_SHADE,
    STROKE,
    Scene,
    SceneObject,
    sample_scenes,
)

SIN36, COS36 = math.sin(math.radians(36)), math.cos(math.radians(36))
STAR_EDGE = math.hypot(1.2 - 0.55 * COS36, 0.55 * SIN36)
# Distance from the centre to each (extended) edge, in radii, and the area at that distance.
EDGE = {
    "circle": 1.0,
    "square": 0.88,
    "triangle": 0.6,
    "diamond": 1.18 * math.sqrt(0.5),
    "star": 1.2 * 0.55 * SIN36 / STAR_EDGE,
}
AREA = {
    "circle": math.pi,
    "square": 4 * 0.88**2,
    "triangle": 3 * math.sqrt(3) * 0.6**2,
    "diamond": 2 * 1.18**2,
    "star": 5 * 1.2 * 0.55 * SIN36,
    "cross": 8 * 1.06 * 0.42 - 4 * 0.42**2,
}


def _hole(shape: str) -> float:
    """Area of a hollow shape's hole, in squared radii: every edge moves in by STROKE."""
    if shape == "cross":
        long, short = 1.06 - STROKE, 0.42 - STROKE
        return 8 * long * short - 4 * short**2
    return AREA[shape] * (1 - STROKE / EDGE[shape]) ** 2


def _rgb(values: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(values) / 127.5 - 1


def _one(shape: str, size: str = "large", fill: str = "solid", x: float = 0.5, y: float = 0.5):
    return Scene("white", (SceneObject(shape, "blue", size, fill, x, y),))


def _coverage(image: torch.Tensor) -> torch.Tensor:
    """How much of each pixel is blue rather than white: (3, H, W) -> (H, W)."""
    white, blue = _rgb(BACKGROUNDS["white"]), _rgb(COLOURS["blue"])
    towards = blue - white
    return ((image - white[:, None, None]) * towards[:, None, None]).sum(0) / towards.dot(towards)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", ["solid", "hollow"])
def test_coverage_is_the_analytic_area(shape, fill):
    for size, radius in SIZES.items():
        # The mean over sub-pixel positions is what an ideal anti-aliased picture would show.
        scenes = [_one(shape, size, fill, 0.5 + i / 640, 0.5 + i / 1111) for i in range(10)]
        found = torch.stack([_coverage(image).sum() for image in render(scenes, 128)]).mean()
        expected = (AREA[shape] - _hole(shape) * (fill == "hollow")) * (radius * 128) ** 2
        assert float(found) == pytest.approx(expected, rel=0.01), size


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_negative_exactly_inside_the_box(shape):
    line = torch.linspace(-1.5, 1.5, 601)
    inside = signed_distance(shape, line[None, :], line[:, None], torch.tensor(1.0)) < 0
    for axis, half in enumerate(EXTENTS[shape]):
        reached = line[inside.any(dim=axis)]
        assert float(reached.max()) == pytest.approx(half, abs=0.02)
        assert float(reached.min()) == pytest.approx(-half, abs=0.02)


def test_colours_and_stripes():
    solid, striped = render([_one("square"), _one("square", fill="striped")], 128)
    blue = _rgb(COLOURS["blue"])
    torch.testing.assert_close(solid[:, 64, 64], blue)
    torch.testing.assert_close(solid[:, 2, 2], _rgb(BACKGROUNDS["white"]))
    column = striped[2, 64 - 18 : 64 + 18, 64] + 1  # brightness down the middle of the square
    torch.testing.assert_close(column.max(), blue[2] + 1)
    torch.testing.assert_close(column.min(), (blue[2] + 1) * STRIPE_SHADE)
    assert column[18] == column.max(), "a light band lies over the centre"


def test_objects_land_where_the_scene_says():
    image = render([_one("circle", "small", x=0.25, y=0.75)], 64)[0]
    cover = _coverage(image)
    middle = torch.arange(64) + 0.5
    assert float((cover.sum(0) * middle).sum() / cover.sum()) == pytest.approx(16, abs=0.05)
    assert float((cover.sum(1) * middle).sum() / cover.sum()) == pytest.approx(48, abs=0.05)


def test_a_scene_looks_the_same_alone_and_in_a_batch():
    scenes = sample_scenes(40, seed=8)
    together = render(scenes, 32)
    assert together.shape == (40, 3, 32, 32) and together.dtype == torch.float32
    assert together.min() >= -1 - 1e-6 and together.max() <= 1 + 1e-6
    for scene, image in zip(scenes, together, strict=True):
        torch.testing.assert_close(render([scene], 32)[0], image)


def test_large_pictures_average_to_small_ones():
    scenes = sample_scenes(50, seed=9)
    shrunk = torch.nn.functional.avg_pool2d(render(scenes, 128), 2)
    assert (shrunk - render(scenes, 64)).square().mean() < 1e-3


def test_rendering_is_fast():
    """The bar is 800 images/s at 64 px. Processor time is not disturbed by what else runs."""
    scenes = sample_scenes(200, seed=1)
    render(scenes[:50], 64)
    speeds = []
    for _ in range(5):
        start = time.process_time()
        for i in range(0, 200, 50):
            render(scenes[i : i + 50], 64)
        speeds.append(200 / (time.process_time() - start))
    assert max(speeds) >= 800, f"{max(speeds):.0f} images/s"


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="8"):
        render([_one("circle")], 8)
