"""Mirrored pictures: the words for the side, and which rows of a doubled set are for training."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from vislm_tutorial.data.captions import caption
from vislm_tutorial.data.mirror import Mirrored, mirror, mirror_caption
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, sample_scenes
from vislm_tutorial.training.datasets import DataConfig, SceneImages, load_images, split_rows


@pytest.mark.parametrize(
    ("said", "mirrored"),
    [
        ("a red circle left of a star", "a red circle right of a star"),
        ("a star to the right of a cross", "a star to the left of a cross"),
        ("Left and RIGHT", "Right and LEFT"),
        ("a star above a cross", "a star above a cross"),
        ("a bright leftover", "a bright leftover"),  # not the words, only their letters
        ("", ""),
    ],
)
def test_the_words_for_the_sides_are_exchanged(said, mirrored):
    assert mirror_caption(said) == mirrored
    assert mirror_caption(mirrored) == said


def test_a_mirrored_caption_is_true_of_the_mirrored_scene():
    """The picture of the mirrored scene is the mirrored picture, but for slanted stripes."""
    scenes = [s for s in sample_scenes(60, 3) if all(o.fill != "striped" for o in s.objects)]
    mirrored = [
        Scene(s.background, tuple(replace(o, x=1 - o.x) for o in s.objects)) for s in scenes
    ]
    difference = (mirror(render(scenes, 32)) - render(mirrored, 32)).abs().amax(dim=(1, 2, 3))
    assert (difference < 0.02).all()
    checked = 0
    for before, after in zip(scenes, mirrored, strict=True):
        for seed in range(20):
            said = caption(before, random.Random(seed))
            if "left" in said.split() or "right" in said.split():
                # The same choices of words, made for the scene that the mirror shows.
                assert mirror_caption(said) == caption(after, random.Random(seed))
                checked += 1
    assert checked > 100, "hardly a caption says left or right"


def test_mirrored_pictures_follow_the_others():
    pictures = SceneImages(6, 0, 16)
    for flips in ("blind", "words"):
        doubled = Mirrored(pictures, flips)
        assert len(doubled) == len(doubled.captions) == 12
        for i in range(6):
            first, second = doubled[i], doubled[6 + i]
            assert torch.equal(first["image"], pictures[i]["image"])
            assert torch.equal(second["image"], pictures[i]["image"].flip(-1))
            right = pictures.captions[i]
            right = mirror_caption(right) if flips == "words" else right
            assert second["caption"] == doubled.captions[6 + i] == right
    together = doubled.__getitems__([7, 0])
    assert torch.equal(together[0]["image"], doubled[7]["image"])
    with pytest.raises(ValueError, match="flips is 'both'"):
        Mirrored(pictures, "both")


def test_no_picture_is_trained_on_whose_mirror_is_kept_apart():
    config = DataConfig(size=40, image_size=16, validation=4, flips="words")
    pictures = load_images(config)
    assert isinstance(pictures, Mirrored) and len(pictures) == 80
    rows, held = split_rows(len(pictures), config)
    assert held == [0, 1, 2, 3]
    assert {row % 40 for row in rows} == set(range(4, 40)) and len(rows) == 72
    plain = replace(config, flips="none")
    assert split_rows(40, plain) == (list(range(4, 40)), held)


def test_a_limit_keeps_the_first_and_their_mirrors():
    config = DataConfig(size=40, image_size=16, validation=4, limit=5)
    assert split_rows(40, config) == ([4, 5, 6, 7, 8], [0, 1, 2, 3])
    assert split_rows(80, replace(config, flips="blind"))[0] == [4, 5, 6, 7, 8, 44, 45, 46, 47, 48]
    assert len(split_rows(40, replace(config, limit=1000))[0]) == 36
    with pytest.raises(ValueError, match="limit=-1"):
        replace(config, limit=-1)
