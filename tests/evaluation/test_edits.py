"""A perfect edit scores, an unchanged picture keeps and disobeys, and each fault is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, SceneObject, held_out_pairs, relations
from vislm_tutorial.evaluation.edits import CHANGES, Edit, counted, judge, sample_edits

CIRCLE = SceneObject("circle", "red", "large", "solid", x=0.25, y=0.25)
SQUARE = SceneObject("square", "blue", "small", "hollow", x=0.75, y=0.75)
SCENE = Scene("white", (CIRCLE, SQUARE))
EDIT = Edit(SCENE, changed=0, attribute="colour", value="green", first=0, relation="left of")


def picture(*objects: SceneObject, background: str = "white") -> torch.Tensor:
    return render([Scene(background, objects)])[0]


def test_captions_differ_in_the_word_that_changes():
    assert EDIT.source_caption == (
        "a large solid red circle left of a small hollow blue square on a white background"
    )
    assert EDIT.target_caption == EDIT.source_caption.replace("red", "green")
    assert EDIT.words == ("large solid red circle", "large solid green circle")


def test_edits_are_clear_and_repeat_with_their_seed():
    edits = sample_edits(40, seed=3)
    assert edits == sample_edits(40, seed=3) != sample_edits(40, seed=4)
    assert [e.attribute for e in edits] == list(CHANGES) * 20
    assert {e.changed for e in edits} == {e.first for e in edits} == {0, 1}
    for edit in edits:
        old, new = edit.source_caption.split(), edit.target_caption.split()
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
        assert all(w in edit.source_caption for w in edit.words[0].split())
        for thing in (edit.before, edit.after):
            assert thing.colour != edit.other.colour and thing.shape != edit.other.shape
        assert (edit.after.colour, edit.after.shape) not in held_out_pairs()
        for scene in (edit.source, edit.target):
            pair = scene.objects[edit.first], scene.objects[1 - edit.first]
            assert edit.relation in relations(*pair)


def test_none_are_refused():
    with pytest.raises(ValueError, match="n is 0; expected 1 or more"):
        sample_edits(0)
    with pytest.raises(ValueError, match="no scores"):
        counted([])


def test_the_perfect_edit_scores_and_the_unchanged_picture_only_keeps():
    edits = sample_edits(30, seed=1)
    targets, sources = (render([getattr(e, k) for e in edits]) for k in ("target", "source"))
    perfect = counted([judge(e, i) for e, i in zip(edits, targets, strict=True)])
    assert perfect == {
        "n": 30,
        "obeyed": 30,
        "kept": 30,
        "both": 30,
        "dressed": 30,
        "outside": 0.0,
    }
    unchanged = counted([judge(e, i) for e, i in zip(edits, sources, strict=True)])
    assert (unchanged["obeyed"], unchanged["kept"], unchanged["both"]) == (0, 30, 0)


@pytest.mark.parametrize(
    "objects",
    [
        (replace(CIRCLE, colour="pink"), SQUARE),  # another colour than was asked for
        (replace(CIRCLE, colour="green", shape="star"), SQUARE),  # another shape beside
        (SQUARE,),  # it is gone
        (replace(CIRCLE, colour="green"), replace(CIRCLE, x=0.75), SQUARE),  # added, not changed
    ],
)
def test_what_does_not_obey(objects):
    assert not judge(EDIT, picture(*objects)).obeyed


GREEN = replace(CIRCLE, colour="green")


@pytest.mark.parametrize(
    "image",
    [
        picture(GREEN, replace(SQUARE, colour="cyan")),
        picture(GREEN, replace(SQUARE, fill="solid")),
        picture(GREEN, replace(SQUARE, size="medium")),
        picture(GREEN, replace(SQUARE, x=0.6)),
        picture(replace(GREEN, y=0.375), SQUARE),  # it moved by a step of the grid
        picture(GREEN),
        picture(GREEN, SQUARE, replace(SQUARE, y=0.2, colour="pink")),  # something new
        picture(GREEN, SQUARE, background="beige"),
    ],
)
def test_what_is_not_kept(image):
    score = judge(EDIT, image)
    assert score.obeyed and not score.kept and not score.both


def test_a_little_to_the_side_is_kept_and_other_dress_is_told():
    score = judge(EDIT, picture(replace(GREEN, x=0.3), replace(SQUARE, y=0.7)))
    assert score.both and score.dressed
    score = judge(EDIT, picture(replace(GREEN, fill="striped"), SQUARE))
    assert score.both and not score.dressed


def test_change_is_measured_outside_the_box_alone():
    original = render([SCENE])[0]
    box = EDIT.box(64)
    assert box[16, 16] and not box[48, 48] and not box[:, 40:].any()
    inside = torch.where(box, torch.zeros(()), original)
    assert judge(EDIT, inside, original).outside == 0.0
    outside = torch.where(box, original, original - 0.25)
    assert judge(EDIT, outside, original).outside == pytest.approx(0.25, abs=1e-5)
    with pytest.raises(ValueError, match=r"\(3, 64, 64\) and the original \(3, 32, 32\)"):
        judge(EDIT, original, render([SCENE], 32)[0])


def test_a_drawing_has_places_of_its_own_and_must_be_right():
    moved = replace(CIRCLE, x=0.3), replace(SQUARE, y=0.6)
    drawn = EDIT.seen_in(picture(*moved))
    assert drawn.source_caption == EDIT.source_caption
    assert drawn.before.x == pytest.approx(0.3, abs=0.02)
    assert drawn.other.y == pytest.approx(0.6, abs=0.02)
    assert judge(drawn, picture(replace(moved[0], colour="green"), moved[1])).both
    for wrong in (
        picture(replace(CIRCLE, x=0.75), replace(SQUARE, x=0.25)),  # on the wrong side
        picture(CIRCLE, replace(SQUARE, fill="solid")),
        picture(CIRCLE, SQUARE, background="black"),
        picture(CIRCLE),
        picture(CIRCLE, SQUARE, replace(SQUARE, y=0.2)),
    ):
        assert EDIT.seen_in(wrong) is None
