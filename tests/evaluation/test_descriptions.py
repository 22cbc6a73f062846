"""Descriptions mean what they say, are told apart, and their examples give nothing away."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from vislm_tutorial.data import Scene, SceneObject, render
from vislm_tutorial.data.parsing import read
from vislm_tutorial.data.scenes import held_out_pairs
from vislm_tutorial.evaluation.descriptions import (
    DESCRIPTIONS,
    DEVELOPMENT,
    EXAMPLES,
    by_rules,
    instruction,
    instructions,
)

BOTH = DEVELOPMENT + DESCRIPTIONS
# Centres from which a small shape stands in each place.
CENTRES = {
    "": [(0.5, 0.25), (0.25, 0.75), (0.75, 0.75)],
    "in the centre": [(0.5, 0.5)],
    "in the top left corner": [(0.2, 0.2)],
    "in the top right corner": [(0.8, 0.2)],
    "in the bottom left corner": [(0.2, 0.8)],
    "in the bottom right corner": [(0.8, 0.8)],
}


def scene_of(meant) -> Scene:
    """A scene that shows what a description means."""
    centres = CENTRES[meant.place][: meant.count]
    objects = [SceneObject(meant.shape, meant.colour, "medium", "solid", *c) for c in centres]
    return Scene("white", tuple(objects))


def test_what_is_meant_is_recognised_and_a_change_of_it_is_not():
    readings = read(render([scene_of(d) for d in BOTH]))
    for meant, reading in zip(BOTH, readings, strict=True):
        assert meant.shown_by(reading), meant.text
        others = [
            replace(meant, colour="cyan" if meant.colour != "cyan" else "red"),
            replace(meant, shape="cross" if meant.shape != "cross" else "star"),
            replace(meant, count=meant.count + 1),
        ]
        if meant.place:
            other = "in the centre" if "corner" in meant.place else "in the top left corner"
            others.append(replace(meant, place=other))
        assert not any(other.shown_by(reading) for other in others), meant.text


def test_each_kind_has_as_many_and_none_needs_a_pair_that_training_never_showed():
    assert Counter(d.kind for d in DESCRIPTIONS) == {"plain": 10, "synonyms": 10, "described": 10}
    assert not {(d.colour, d.shape) for d in BOTH} & held_out_pairs()


def test_nothing_that_was_tuned_on_is_measured_on():
    assert len({d.text for d in BOTH}) == len(DEVELOPMENT) + len(DESCRIPTIONS) == 54


def test_every_caption_is_among_the_instructions():
    known = instructions()
    assert len(known) == len(set(known)) == 8 * 6 * (6 + 3)
    assert {d.caption for d in BOTH} <= set(known)
    assert {caption for _, caption in EXAMPLES} <= set(known)
    assert instruction("orange", "star") == "an orange star"
    assert instruction("red", "cross", 3) == "three red crosses"


def test_the_examples_give_no_word_away():
    def words(text):
        return set(re.findall("[a-z]+", text.lower()))

    in_captions = set().union(*(words(caption) for caption in instructions()))
    shown = set().union(*(words(text) for text, _ in EXAMPLES))
    telling = {"ball", "box", "round", "corners", "twinkles", "sides", "sign", "tomato", "grass"}
    telling |= {"crimson", "emerald", "golden", "azure", "violet", "rosy", "turquoise", "scarlet"}
    telling |= {"pentagram", "discs", "wedge", "lozenge", "plus", "blocks", "peas", "flamingo"}
    fresh = (
        "aqua disc salmon box wedges block moon points rose tile chessboard mark aid wheels frogs "
        "die canary suit cards hearts treasure pirate map slice pizza plum"
    )
    telling |= set(fresh.split())
    assert not (telling - in_captions) & shown


@pytest.mark.parametrize("meant", [d for d in BOTH if d.kind != "described"])
def test_rules_know_the_words_of_their_lists(meant):
    assert by_rules(meant.text) == meant.caption


def test_rules_know_no_others():
    described = [d for d in BOTH if d.kind == "described"]
    assert sum(by_rules(d.text) == d.caption for d in described) == 0
    assert by_rules("something round") == "something round"
    assert by_rules("A star!") == "a star"
