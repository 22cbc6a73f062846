"""The grammar keeps its promises: what is held out, what may overlap, what the words mean."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import combinations, permutations

import pytest

from vislm_tutorial.data.scenes import (
    COLOURS,
    COUNT_WEIGHTS,
    GAP,
    MARGIN,
    SHAPES,
    Scene,
    SceneObject,
    held_out_pairs,
    place,
    relations,
    sample_scene,
    sample_scenes,
    training_pairs,
)

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_scenes(4000, seed=3)


def _at(x: float, y: float, shape: str = "circle", size: str = "small") -> SceneObject:
    return SceneObject(shape, "red", size, "solid", x, y)


def test_held_out_pairs_are_spread_and_never_sampled(scenes):
    held_out = held_out_pairs()
    assert len(held_out) == 5
    assert len({c for c, _ in held_out}) == len({s for _, s in held_out}) == 5
    assert held_out.isdisjoint(training_pairs())
    assert len(training_pairs()) == len(COLOURS) * len(SHAPES) - 5
    seen = {(o.colour, o.shape) for scene in scenes for o in scene.objects}
    assert seen == set(training_pairs()), "training shows every other pair, and none of these"


def test_asking_for_held_out_pairs_gives_only_them():
    scenes = sample_scenes(100, seed=0, count=2, pairs=held_out_pairs())
    assert {(o.colour, o.shape) for s in scenes for o in s.objects} == held_out_pairs()


def test_boxes_keep_their_distance(scenes):
    rounding = 1e-4  # of the stored centres
    for scene in scenes:
        for o in scene.objects:
            for centre, half in zip((o.x, o.y), o.half_extent, strict=True):
                assert half + MARGIN - rounding <= centre <= 1 - half - MARGIN + rounding, scene
        for a, b in combinations(scene.objects, 2):
            free_x = abs(a.x - b.x) - a.half_extent[0] - b.half_extent[0]
            free_y = abs(a.y - b.y) - a.half_extent[1] - b.half_extent[1]
            assert max(free_x, free_y) >= GAP - rounding, scene


def test_the_same_seed_gives_the_same_scenes(scenes):
    assert sample_scenes(50, seed=3) == scenes[:50]
    assert sample_scenes(50, seed=4) != scenes[:50]


def test_counts_follow_their_weights(scenes):
    counts = Counter(len(scene.objects) for scene in scenes)
    for count, weight in enumerate(COUNT_WEIGHTS):
        spread = (weight * (1 - weight) / len(scenes)) ** 0.5
        assert abs(counts[count] / len(scenes) - weight) < 5 * spread
    fixed = sample_scenes(20, seed=0, count=4)
    assert all(len(scene.objects) == 4 for scene in fixed)


def test_some_scenes_may_be_of_one_kind_to_learn_counting_from(scenes):
    alike = sample_scenes(300, seed=0, alike=1.0)
    assert all(len({o.shape for o in scene.objects}) == 1 for scene in alike)
    counts = Counter(len(scene.objects) for scene in alike)
    assert counts.keys() == {2, 3, 4} and min(counts.values()) > 60
    some = sample_scenes(1000, seed=0, alike=0.4)

    def single(scene):
        return len(scene.objects) > 1 and len({o.shape for o in scene.objects}) == 1

    usual = sum(map(single, scenes)) / len(scenes)
    expected = 0.4 + 0.6 * usual
    assert abs(sum(map(single, some)) / 1000 - expected) < 0.06
    assert sample_scenes(50, seed=3, alike=0.0) == scenes[:50]


def test_scenes_survive_json(scenes):
    for scene in scenes[:200]:
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (_at(0.2, 0.5), _at(0.8, 0.5), {"left of"}),
        (_at(0.8, 0.5), _at(0.2, 0.5), {"right of"}),
        (_at(0.5, 0.2), _at(0.5, 0.8), {"above"}),
        (_at(0.5, 0.8), _at(0.5, 0.2), {"below"}),
        # slack is 0.1 * (0.22 + 0.22) = 0.044; (0.4 - 0.044) / (0.4 * sqrt 2) = 0.629
        (_at(0.3, 0.3), _at(0.7, 0.7), {"left of", "above"}),
        # (0.2 - 0.044) / hypot(0.2, 0.28) = 0.453 does not count, (0.28 - 0.044) / 0.344 does
        (_at(0.3, 0.3), _at(0.5, 0.58), {"above"}),
        # near each other: (0.08 - 0.044) / 0.08 = 0.45
        (_at(0.5, 0.5), _at(0.58, 0.5), set()),
        (_at(0.5, 0.5), _at(0.5, 0.5), set()),
        # a wider pair has more slack: 0.1 * 2 * 0.36 = 0.072; (0.14 - 0.072) / 0.14 = 0.486
        (_at(0.5, 0.5, size="large"), _at(0.64, 0.5, size="large"), set()),
        (_at(0.5, 0.5), _at(0.64, 0.5), {"left of"}),
    ],
)
def test_relations_by_hand(a, b, expected):
    assert set(relations(a, b)) == expected


def test_relations_turn_round(scenes):
    for scene in scenes[:1000]:
        for a, b in permutations(scene.objects, 2):
            assert {OPPOSITE[r] for r in relations(a, b)} == set(relations(b, a))


def test_places_by_hand():
    assert place(_at(0.2, 0.2)) == "in the top left corner"
    assert place(_at(0.8, 0.25)) == "in the top right corner"
    assert place(_at(0.3, 0.7)) == "in the bottom left corner"
    assert place(_at(0.75, 0.75)) == "in the bottom right corner"
    assert place(_at(0.45, 0.55)) == "in the centre"
    assert place(_at(0.5, 0.2)) is None


def test_every_place_is_common_enough_to_be_learned():
    places = Counter(place(s.objects[0]) for s in sample_scenes(1000, seed=1, count=1))
    assert len(places) == 6 and min(places.values()) >= 50  # of a training set's 22,000: 1,100


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SceneObject("blob", "red", "small", "solid", 0.5, 0.5), "'blob'"),
        (lambda: SceneObject("star", "mauve", "small", "solid", 0.5, 0.5), "'mauve'"),
        (lambda: _at(1.5, 0.5), "1.5"),
        (lambda: Scene("plaid"), "'plaid'"),
        (lambda: Scene("white", (_at(0.5, 0.5),) * 5), "5"),
        (lambda: sample_scene(random.Random(0), count=7), "7"),
    ],
)
def test_errors_name_the_value(make, named):
    with pytest.raises(ValueError, match=named):
        make()
