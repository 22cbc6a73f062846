"""Words of captions: translated, and understood as ExactEval judges them."""

from __future__ import annotations

import random

import pytest

from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS, caption
from vislm_tutorial.data.scenes import sample_scenes
from vislm_tutorial.evaluation import Clause, prompts_for
from vislm_tutorial.serving.wording import translate, understood, words_of

SYNONYMS = {
    new: known
    for table in (COLOUR_SYNONYMS, SHAPE_SYNONYMS)
    for known, options in table.items()
    for new in options
}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a crimson disc", "a red circle"),
        ("Draw A Crimson DISC!", "Draw a red circle!"),
        ("an azure box", "a blue square"),
        ("a tangerine star", "an orange star"),
        ("two discs and three boxes", "two circles and three squares"),
        ("a small crimson plus sign", "a small red cross"),
        ("four plus signs", "four crosses"),
        ("a crimsonish disco", "a crimsonish disco"),  # whole words only
        ("nothing", "nothing"),
    ],
)
def test_translation(typed, meant):
    done = translate(typed, SYNONYMS)
    assert done.text == meant
    rebuilt, last = "", 0
    for start, end, put_start, put_end in done.edits:
        rebuilt += typed[last:start] + done.text[put_start:put_end]
        last = end
    assert rebuilt + typed[last:] == done.text


def test_labels_may_have_capitals_and_must_have_words():
    assert translate("a crimson disc", {"Crimson": "red"}).text == "a red disc"
    assert understood("a Crimson disc", {"CRIMSON": "Red", "disc": "circle"}).include == (
        Clause("circle", 1, "red"),
    )
    for empty in ({"crimson": ""}, {" ": "red"}):
        with pytest.raises(ValueError, match="one of the two is empty"):
            translate("a crimson disc", empty)


def test_translation_without_words_changes_nothing():
    assert translate("a crimson disc", {}).text == "a crimson disc"


@pytest.mark.parametrize(
    "task", ["single_object", "two_objects", "counting", "colours", "position"]
)
def test_exact_evals_own_prompts_are_understood(task):
    for prompt in prompts_for(task, 60):
        found = understood(prompt.text)
        assert found is not None, prompt.text
        assert set(found.include) == set(prompt.include) and found.exclude == prompt.exclude


def test_new_words_are_understood_through_their_labels():
    for prompt in prompts_for("synonyms", 60):
        assert understood(prompt.text) is None
        assert understood(prompt.text, SYNONYMS).include == prompt.include


def test_captions_of_the_training_are_understood_or_left_alone():
    rng = random.Random(0)
    scenes = sample_scenes(200, seed=1)
    found = [understood(caption(scene, rng)) for scene in scenes]
    assert sum(prompt is not None for prompt in found) > 100
    for scene, prompt in zip(scenes, found, strict=True):
        for clause in prompt.include if prompt else ():
            shown = sum(o.shape == clause.shape for o in scene.objects)
            assert shown >= clause.count and clause.count <= 4


@pytest.mark.parametrize(
    "typed",
    ["", "a dog", "a red circle and a dog", "a red circle or a square", "red", "not a circle",
     "a red circle and a blue circle", "a circle left of a square and a star"],
)  # fmt: skip
def test_what_is_not_understood_is_not_judged(typed):
    assert understood(typed) is None


def test_sizes_places_and_grounds_are_read_over():
    asked = "a large striped red circle in the top left corner on a grey background"
    assert understood(asked).include == (Clause("circle", 1, "red"),)


def test_words_are_letters_only():
    assert words_of("Two 3D-boxes, café & 你好!") == ["two", "d", "boxes", "café", "你好"]
