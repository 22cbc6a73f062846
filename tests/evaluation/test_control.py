"""A look says what can be moved, moves one thing at a time, and differences are counted fairly."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from vislm_tutorial.data.captions import caption
from vislm_tutorial.data.scenes import Scene, SceneObject, held_out_pairs, sample_scenes
from vislm_tutorial.evaluation.control import MIXED, VALUES, Look, entropy, share

RED = SceneObject("circle", "red", "large", "solid", 0.5, 0.5)
LOOK = Look("red", "circle", "large", "solid", 1, "in the centre", "white")


def test_a_look_is_read_from_a_scene():
    assert Look.of(Scene("white", (RED,))) == LOOK
    assert Look.of(Scene("white", (replace(RED, x=0.35, y=0.5),))) == replace(LOOK, place=None)
    beside = replace(RED, colour="blue", x=0.9)
    assert Look.of(Scene("white", (RED, beside))) == replace(
        LOOK, colour=MIXED, count=2, place=None
    )
    assert Look.of(Scene("grey")) == Look(None, None, None, None, 0, None, "grey")


@pytest.mark.parametrize(
    ("look", "told", "said"),
    [
        (LOOK, tuple(VALUES), "a large solid red circle in the centre on a white background"),
        (LOOK, ("colour",), "a red circle"),
        (LOOK, (), "a circle"),
        (replace(LOOK, colour="orange"), ("colour",), "an orange circle"),
        (replace(LOOK, place=None), ("place", "size"), "a large circle"),
        (
            replace(LOOK, shape="cross", count=3, place=None),
            ("background", "fill"),
            "three solid crosses on a white background",
        ),
    ],
)
def test_a_caption_tells_what_it_is_to_tell(look, told, said):
    assert look.caption(told) == said


def test_captions_are_those_of_training():
    """Each way to tell, for one object, is among what the training captions say of that scene."""
    scene, rng = Scene("white", (RED,)), random.Random(0)
    heard = {caption(scene, rng) for _ in range(20_000)}
    for told in ((), ("colour",), ("size", "fill"), ("place",), tuple(VALUES)):
        assert LOOK.caption(told) in heard


@pytest.mark.parametrize("look", [replace(LOOK, count=0), replace(LOOK, colour=MIXED)])
def test_what_has_no_caption_is_refused(look):
    with pytest.raises(ValueError, match="has no caption"):
        look.caption()


@pytest.mark.parametrize("attribute", VALUES)
def test_moving_changes_one_attribute(attribute):
    rng, reached = random.Random(0), set()
    for scene in sample_scenes(60, seed=0, count=1):
        look = Look.of(scene)
        moved = look.moved(attribute, rng)
        assert look.differs(moved) - {"place"} == {attribute} - {"place"}
        assert attribute == "count" or look.differs(moved) == {attribute}
        assert (moved.colour, moved.shape) not in held_out_pairs()
        reached.add(getattr(moved, attribute))
    assert reached == set(VALUES[attribute]) - ({1} if attribute == "count" else set())


def test_a_moved_count_has_no_place():
    assert LOOK.moved("count", random.Random(0)).place is None


def test_an_unknown_attribute_is_named():
    with pytest.raises(ValueError, match="attribute is 'mood'; choose one of colour, shape"):
        LOOK.moved("mood", random.Random(0))


def test_shares_have_wilsons_interval():
    half = share([True] * 10 + [False] * 10)
    assert (half.value, half.n) == (0.5, 20)
    assert (half.low, half.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    all_right, none = share([True] * 20), share([False] * 20)
    assert (all_right.low, all_right.high) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=1e-4)
    for n in range(1, 40):  # no interval leaves [0, 1] or its own value out
        for k in range(n + 1):
            s = share([True] * k + [False] * (n - k))
            assert 0 <= s.low <= s.value <= s.high <= 1


def test_entropy_in_bits():
    assert entropy("aabc") == pytest.approx(1.5)
    assert entropy(range(8)) == pytest.approx(3)
    assert math.copysign(1, entropy(["same"] * 5)) == 1 and entropy(["same"] * 5) == 0
    assert entropy([None, "left"]) == pytest.approx(1)


@pytest.mark.parametrize("function", [share, entropy])
def test_nothing_has_no_share_and_no_entropy(function):
    with pytest.raises(ValueError, match="expected at least one"):
        function([])
