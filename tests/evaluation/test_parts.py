"""evaluation/parts.py: parts judged one by one, the product with its interval, levels reached."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from vislm_tutorial.data.parsing import RESIDUAL_LIMIT, Reading, read
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import SceneObject, held_out_pairs, place, training_pairs
from vislm_tutorial.evaluation.parts import (
    PARTS,
    Wish,
    parts_right,
    patterns,
    reached,
    scene_of,
    skills,
    table_of,
    wishes,
)

WISH = Wish("star", "red", "small", "in the centre")
STAR = SceneObject("star", "red", "small", "striped", 0.5, 0.5)


def reading(*objects, residuals=None):
    return Reading("white", objects, residuals or (0.01,) * len(objects))


def test_a_wish_is_said_with_its_article():
    assert WISH.text == "a small red star in the centre"
    assert replace(WISH, size="large", colour="orange").text.startswith("a large orange star")


def test_wishes_ask_for_the_given_pairs_alone_and_for_everything_before_they_repeat():
    asked = wishes(75, sorted(held_out_pairs()))
    assert len(set(asked)) == 75  # 5 pairs, 3 sizes, 5 places
    assert {(w.colour, w.shape) for w in asked} == held_out_pairs()
    assert wishes(80, sorted(held_out_pairs()))[75:] == asked[:5]
    assert wishes(9, training_pairs()) == wishes(9, training_pairs())
    assert wishes(9, training_pairs()) != wishes(9, training_pairs(), seed=1)


@pytest.mark.parametrize(("n", "pairs"), [(0, [("red", "star")]), (3, [])])
def test_without_anything_to_ask_for_it_says_so(n, pairs):
    with pytest.raises(ValueError, match=f"n is {n}"):
        wishes(n, pairs)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"shape": "circle"}, "shape"),
        ({"colour": "blue"}, "colour"),
        ({"size": "large"}, "size"),
        ({"x": 0.25, "y": 0.25}, "place"),
        ({"x": 0.25}, "place"),  # between places
    ],
)
def test_a_wrong_part_leaves_the_others_right(change, wrong):
    right = parts_right(WISH, reading(replace(STAR, **change)))
    assert dict(zip(PARTS, right, strict=False)) == {part: part != wrong for part in PARTS}
    assert right[-1]


def test_the_object_that_fits_best_is_judged_even_when_it_is_torn():
    circle = replace(STAR, shape="circle", colour="blue")
    both = reading(circle, STAR, residuals=(0.4, 0.3))
    assert parts_right(WISH, both) == (True, True, True, True, False)
    assert 0.3 > RESIDUAL_LIMIT
    assert parts_right(WISH, reading()) == (False,) * 5


def test_scenes_made_for_wishes_are_read_as_right():
    rng, asked = random.Random(0), wishes(20, training_pairs())
    scenes = [scene_of(wish, rng) for wish in asked]
    assert all(place(s.objects[0]) == w.place for s, w in zip(scenes, asked, strict=True))
    judged = [parts_right(w, r) for w, r in zip(asked, read(render(scenes)), strict=True)]
    assert np.mean(judged) > 0.95


def test_patterns_can_be_taken_apart_again():
    right = [(True, False, True), (False, False, True), (True, False, True)]
    counts = patterns(right)
    assert counts == {"001": 1, "101": 2}
    assert table_of(counts).tolist() == sorted(map(list, right))


def with_clear(parts, clear=True):
    return np.column_stack([parts, np.broadcast_to(clear, len(parts))])


def test_independent_parts_leave_no_gap_and_tied_ones_do():
    rng = np.random.default_rng(0)
    free = rng.random((2000, 3)) < 0.7
    tied = np.repeat(rng.random((2000, 1)) < 0.7, 3, axis=1)
    independent, together = skills(with_clear(free)), skills(with_clear(tied))
    assert independent["gap"].low < 0 < independent["gap"].high
    assert independent["product"].value == pytest.approx(0.343, abs=0.04)
    share = tied[:, 0].mean()
    assert together["all"].value == pytest.approx(share)
    assert together["product"].value == pytest.approx(share**3)
    assert together["gap"].low > 0.25


def test_a_common_cause_is_counted_once():
    """Half of the drawings show nothing; in the others the parts do not care for each other."""
    rng = np.random.default_rng(0)
    clear = rng.random(2000) < 0.5
    found = skills(with_clear((rng.random((2000, 3)) < 0.8) & clear[:, None], clear))
    assert found["clear"].value == clear.mean()
    assert found["given clear"].value == pytest.approx(0.5 * 0.8**3, abs=0.03)
    assert found["gap given clear"].low < 0 < found["gap given clear"].high
    assert found["gap"].low > 0.1


def test_a_torn_drawing_is_not_all_right():
    found = skills(with_clear(np.ones((10, 3), dtype=bool), clear=False))
    assert found["all"].value == found["given clear"].value == found["clear"].value == 0
    assert found["product"].value == 1


def test_a_level_is_reached_in_a_line_over_log_steps():
    steps = (100, 400, 1600)
    assert reached(steps, (0.0, 1.0, 1.0), 0.5) == pytest.approx(200)
    assert reached(steps, (0.6, 1.0, 1.0), 0.5) == 100
    assert reached(steps, (0.4, 0.6, 0.3), 0.5) == pytest.approx(200)  # the first time
    assert math.isnan(reached(steps, (0.1, 0.2, 0.3), 0.5))
