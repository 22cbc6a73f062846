"""The further words: none is held out, none is said of two things, and captions use them all."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vislm_tutorial.data.captions import caption, plural
from vislm_tutorial.data.scenes import COLOURS, SHAPES, sample_scenes
from vislm_tutorial.data.words import (
    HELD_OUT_WORDS,
    OTHER_COLOURS,
    OTHER_SHAPES,
    OTHER_WORDS,
)
from vislm_tutorial.training.datasets import DataConfig, SceneImages


def test_each_thing_has_as_many_and_none_is_held_out():
    assert OTHER_COLOURS.keys() == COLOURS.keys() and OTHER_SHAPES.keys() == set(SHAPES)
    assert {len(words) for words in OTHER_COLOURS.values()} == {12}
    assert {len(words) for words in OTHER_SHAPES.values()} == {10}
    held = {part for words in HELD_OUT_WORDS.values() for word in words for part in word.split()}
    held |= {"gold", "rose", "disk", "rhomboid"}  # a letter or two from a held-out word
    said = {part for words in OTHER_WORDS.values() for word in words for part in word.split()}
    assert not said & held


def test_no_word_is_said_of_two_things():
    every = [word for words in OTHER_WORDS.values() for word in words]
    assert max(Counter([*every, *OTHER_WORDS]).values()) == 1
    for words in OTHER_SHAPES.values():
        assert not any(plural(word) in every for word in words)


def test_captions_say_the_first_words_as_often_as_the_plain_one():
    others = {"red": ("ruby", "cherry", "tomato")}
    scenes = [s for s in sample_scenes(3000, 3) if [o.colour for o in s.objects] == ["red"]]
    rng = random.Random(0)
    said = " ".join(caption(s, rng, others=others) for s in scenes).split()
    counts = [said.count(word) for word in ("red", *others["red"])]
    assert min(counts) > 5 and max(counts) < 4 * min(counts), counts


def test_a_data_set_asks_for_them_and_others_stay_as_they_were():
    plain, some = SceneImages(60, seed=4), SceneImages(60, seed=4, words=2)
    assert plain.things == some.things and plain.captions != some.captions
    text = " ".join(some.captions)
    used = {word for words in OTHER_WORDS.values() for word in words if word in text}
    allowed = {word for words in OTHER_WORDS.values() for word in words[:2]}
    assert len(used & allowed) > 10 and not any(f" {w} " in text for w in used - allowed)
    rng = random.Random(5)
    assert plain.captions == [caption(s, rng) for s in plain.things]


@pytest.mark.parametrize("config", [{"words": -1}, {"words": 2, "source": "openmoji"}])
def test_what_cannot_be_is_refused(config):
    with pytest.raises(ValueError, match="DataConfig.words=.*expected how many other"):
        DataConfig(**config)


@pytest.mark.parametrize("wrong", [{"alike": 1.5}, {"alike": 0.2, "source": "openmoji"}])
def test_a_wrong_share_of_alike_scenes_is_refused(wrong):
    with pytest.raises(ValueError, match="DataConfig.alike=.*expected a share in"):
        DataConfig(**wrong)
