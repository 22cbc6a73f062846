"""Panoramas keep their promises: what is said, what is drawn and what is read are the same."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch.nn import functional

from vislm_tutorial.data.panoramas import (
    COLOURS,
    GROUNDS,
    HEADINGS,
    KINDS,
    LIGHTS,
    Landmark,
    Panorama,
    caption,
    held_out_pairs,
    judge,
    read,
    render,
    sample_panoramas,
    seam,
)
from vislm_tutorial.data.panoramas.rendering import landscape
from vislm_tutorial.data.panoramas.world import TEMPLATES, angle_between, training_pairs

HOUSE, TENT = Landmark("house", "red", "north"), Landmark("tent", "blue", "southeast")
ASKED = Panorama("meadow", "sunset", (HOUSE, TENT))


@pytest.fixture(scope="module")
def panoramas() -> list[Panorama]:
    return sample_panoramas(120, seed=5)


@pytest.fixture(scope="module")
def images(panoramas) -> torch.Tensor:
    return render(panoramas)


def _share_read(panoramas: list[Panorama], images: torch.Tensor) -> float:
    readings = zip(panoramas, read(images), strict=True)
    return sum(all(judge(*pair).values()) for pair in readings) / len(panoramas)


# --- world ---


def test_samples_are_drawable_spread_and_without_the_held_out_pairs():
    many = sample_panoramas(2000, seed=1)
    for panorama in many:
        panorama.check_drawable()
        for a, b in combinations(panorama.landmarks, 2):
            assert angle_between(a.heading, b.heading) >= 90
    assert {(m.kind, m.colour) for p in many for m in p.landmarks} == set(training_pairs())
    assert {p.ground for p in many} == set(GROUNDS) and {p.light for p in many} == set(LIGHTS)
    headings = Counter(m.heading for p in many for m in p.landmarks)
    assert len(headings) == 8 and max(headings.values()) < 1.3 * min(headings.values())
    assert {len(p.landmarks) for p in many} == {1, 2, 3}


def test_held_out_pairs_are_a_few_and_can_be_asked_for():
    held_out = held_out_pairs()
    assert len(held_out) == len({k for k, _ in held_out}) == len({c for _, c in held_out}) == 4
    assert held_out.isdisjoint(training_pairs())
    assert len(training_pairs()) == len(KINDS) * len(COLOURS) - 4
    asked = sample_panoramas(100, seed=0, held_out=True)
    assert {(m.kind, m.colour) for p in asked for m in p.landmarks} == held_out


def test_the_same_seed_gives_the_same_panoramas_and_json_keeps_them(panoramas):
    assert sample_panoramas(50, seed=5) == panoramas[:50]
    assert sample_panoramas(50, seed=6) != panoramas[:50]
    for panorama in panoramas[:50]:
        assert Panorama.from_dict(json.loads(json.dumps(panorama.to_dict()))) == panorama


def test_angles_go_the_shorter_way_round():
    assert angle_between("northwest", "north") == angle_between("north", "northwest") == 45
    assert angle_between("west", "northeast") == 135
    assert angle_between("south", "north") == 180


def test_landmarks_are_in_one_order():
    assert Panorama("sea", "noon", (TENT, HOUSE)) == Panorama("sea", "noon", (HOUSE, TENT))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Landmark("castle", "red", "north"), "'castle'"),
        (lambda: Landmark("house", "mauve", "north"), "'mauve'"),
        (lambda: Landmark("house", "red", "up"), "'up'"),
        (lambda: Panorama("moon", "noon"), "'moon'"),
        (lambda: Panorama("sea", "dawn"), "'dawn'"),
        (lambda: Panorama("sea", "noon", (HOUSE, HOUSE)), "both stand in the north"),
        (lambda: render([Panorama("sea", "noon")]), "not 0"),
        (
            lambda: render([Panorama("sea", "noon", (HOUSE, replace(TENT, heading="northwest")))]),
            "would overlap",
        ),
        (lambda: render([ASKED], image_size=30), "30"),
        (lambda: read(torch.zeros(1, 3, 128, 128)), r"\(1, 3, 128, 128\)"),
        (lambda: read(torch.zeros(1, 3, 128, 256, dtype=torch.uint8)), "uint8"),
        (lambda: read(torch.zeros(1, 3, 32, 64)), "32 rows"),
        (lambda: seam(torch.zeros(3, 128, 256)), r"\(3, 128, 256\)"),
    ],
)
def test_errors_name_the_value(make, named):
    with pytest.raises(ValueError, match=named):
        make()


# --- words ---


def test_captions_say_all_that_is_judged(panoramas):
    rng = random.Random(0)
    ground_words = {"meadow": "meadow", "desert": "desert", "sea": "sea", "snow": "snow"}
    for panorama in panoramas:
        words = caption(panorama, rng)
        assert ground_words[panorama.ground] in words and f"at {panorama.light}" in words
        for mark in panorama.landmarks:
            assert words.count(f"{mark.colour} {mark.kind} ") == sum(
                (m.kind, m.colour) == (mark.kind, mark.colour) for m in panorama.landmarks
            )
            where = [f"{mark.colour} {mark.kind} {w} the {mark.heading}" for w in ("in", "to")]
            assert any(w in words for w in where), words


def test_captions_vary_and_are_repeatable():
    some = {caption(ASKED, random.Random(seed)) for seed in range(60)}
    assert len(some) >= len(set(TEMPLATES))
    assert "a meadow at sunset with a red house in the north and a blue tent in the southeast" in (
        some | {caption(ASKED, random.Random(seed)) for seed in range(60, 200)}
    )
    assert caption(ASKED, random.Random(3)) == caption(ASKED, random.Random(3))
    orange = Panorama("sea", "noon", (Landmark("tree", "orange", "west"),))
    assert "an orange tree" in caption(orange, random.Random(0))
    assert "nothing in sight" in caption(Panorama("sea", "noon"), random.Random(0))


@pytest.mark.parametrize(
    ("reading", "wrong"),
    [
        (ASKED, set()),
        (replace(ASKED, ground="snow"), {"ground"}),
        (replace(ASKED, light="noon"), {"light"}),
        (replace(ASKED, landmarks=(HOUSE,)), {"landmarks", "colours"}),
        (replace(ASKED, landmarks=(HOUSE, replace(TENT, kind="tree"))), {"landmarks"}),
        (replace(ASKED, landmarks=(HOUSE, replace(TENT, colour="red"))), {"colours"}),
        (
            replace(ASKED, landmarks=(HOUSE, replace(TENT, heading="east"))),
            {"landmarks", "colours"},
        ),
        (
            replace(ASKED, landmarks=(HOUSE, TENT, Landmark("tree", "red", "northeast"))),
            {"landmarks"},
        ),
    ],
)
def test_the_judge_by_hand(reading, wrong):
    verdict = judge(ASKED, reading)
    assert list(verdict) == ["ground", "light", "landmarks", "colours"]
    assert {name for name, right in verdict.items() if not right} == wrong


# --- pictures ---


def test_pictures_have_the_shape_and_range(images):
    assert images.shape == (120, 3, 128, 256) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1 and images.std() > 0.2
    assert render(sample_panoramas(2, 0), 64).shape == (2, 3, 64, 128)
    assert render([]).shape == (0, 3, 128, 256)


@pytest.mark.parametrize(("heading", "column"), [("north", 128), ("east", 192), ("south", 0)])
def test_a_landmark_stands_where_its_heading_is(heading, column):
    picture = render([Panorama("sea", "noon", (Landmark("gate", "red", heading),))])[0]
    changed = (picture - (2 * landscape("sea", "noon", 128) - 1)).abs().amax(dim=(0, 1)) > 0.05
    columns = changed.roll(128 - column).nonzero()[:, 0].float()
    assert columns.mean() == pytest.approx(127.5, abs=1.0)
    assert 25 <= len(columns) <= 45


def test_pictures_are_alike_at_every_size():
    some = sample_panoramas(6, seed=2)
    small = functional.avg_pool2d(render(some, 128), 2)
    assert (small - render(some, 64)).abs().mean() < 0.02


def test_every_look_is_bold_in_every_landscape():
    """A landmark that hardly differs from what is behind it could not be read when soft."""
    for ground in GROUNDS:
        for light in LIGHTS:
            bare = 2 * landscape(ground, light, 128) - 1
            marks = [Landmark(KINDS[i], c, "north") for i, c in enumerate(COLOURS)]
            drawn = render([Panorama(ground, light, (mark,)) for mark in marks])
            contrast = (drawn - bare).square().sum(dim=1)[:, 30:66].sqrt().amax(dim=(1, 2))
            assert contrast.min() > 0.6


def test_nothing_jumps_at_the_seam(images):
    assert seam(images).max() < 1.8
    bare = torch.stack([landscape(g, k, 128) for g in GROUNDS for k in LIGHTS])
    assert seam(bare).max() < 2.2  # calm water: hardly anything differs elsewhere


def test_a_visible_seam_is_found(images):
    """Half of one picture beside half of another light, and a picture whose edges do not match."""
    noon, night = (render([replace(ASKED, light=light)]) for light in ("noon", "night"))
    assert seam(torch.cat([noon[..., :128], night[..., 128:]], dim=-1)) > 5
    cut = seam(images[:100, :, 32:96, 20:148])  # the edges of a part of the round do not match
    assert cut.median() > 4 and (cut > 1.5).float().mean() > 0.9
    step = torch.zeros(1, 3, 64, 128)
    step[..., 64:] = 1.0  # one step in the middle, and one of the same height at the seam
    assert seam(step).item() == pytest.approx(127.0)
    assert seam(step.roll(32, dims=3)).item() == 0.0


def test_seam_by_hand():
    ramp = torch.arange(128.0).div(128).expand(1, 3, 64, 128)
    assert seam(ramp).item() == pytest.approx(127.0, rel=1e-4)
    wheel = torch.sin(torch.arange(128.0) * 2 * torch.pi / 128).expand(1, 3, 64, 128)
    assert 0.5 < seam(wheel).item() < 2


# --- reading ---


def test_renders_are_read_back_whole(panoramas, images):
    exact = sum(a == b for a, b in zip(panoramas, read(images), strict=True))
    assert exact >= 0.99 * len(panoramas)


def test_held_out_pairs_and_other_sizes_are_read_too():
    some = sample_panoramas(30, seed=8, held_out=True)
    assert _share_read(some, render(some)) == 1.0
    assert _share_read(some[:15], render(some[:15], 96)) == 1.0
    assert _share_read(some[:15], render(some[:15], 64)) == 1.0


def test_soft_noisy_tinted_and_shifted_pictures_are_read(panoramas, images):
    some, drawn = panoramas[:40], images[:40]
    wrapped = functional.pad(drawn, (3, 3, 0, 0), mode="circular")
    soft = functional.avg_pool2d(functional.pad(wrapped, (0, 0, 3, 3), mode="replicate"), 7, 1)
    assert _share_read(some, soft) >= 0.98
    noise = 0.15 * torch.randn(drawn.shape, generator=torch.manual_seed(0))
    assert _share_read(some, drawn + noise) >= 0.98
    cast = torch.tensor([0.06, -0.04, -0.08])[:, None, None]
    assert _share_read(some, 0.9 * drawn + cast) >= 0.98
    assert _share_read(some, drawn.roll(3, dims=3)) >= 0.98


def test_a_turned_picture_is_read_as_turned(panoramas, images):
    """An eighth of a turn: each landmark is found at the next heading, and not at its old one."""
    names = list(HEADINGS)
    for panorama, reading in zip(panoramas[:20], read(images[:20].roll(32, dims=3)), strict=True):
        right = {(names[(names.index(m.heading) + 1) % 8], m.kind) for m in panorama.landmarks}
        assert {(m.heading, m.kind) for m in reading.landmarks} <= right
        assert not judge(panorama, reading)["landmarks"]


def test_empty_landscapes_and_noise_hold_no_landmarks():
    pairs = [(g, k) for g in GROUNDS for k in LIGHTS]
    bare = torch.stack([2 * landscape(*pair, 128) - 1 for pair in pairs])
    assert read(bare) == [Panorama(*pair) for pair in pairs]
    noise = torch.randn(4, 3, 128, 256, generator=torch.manual_seed(1))
    assert all(not reading.landmarks for reading in read(noise))
    assert len(read(torch.full((1, 3, 128, 256), float("nan")))) == 1
    assert read(torch.zeros(0, 3, 128, 256)) == []


def test_reading_is_fast(images):
    """Processor time, which what else runs hardly disturbs; at most 30 ms a picture."""
    read(images[:30])
    start = time.process_time()
    read(images[:30])
    assert (time.process_time() - start) / 30 < 0.03
