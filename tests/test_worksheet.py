"""No pupil gets a wrong answer key: every answer is checked against the pictures, read back."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vislm_tutorial.data.images import to_tensor
from vislm_tutorial.data.parsing import parse
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import (
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
    SceneObject,
    place,
    relations,
    sample_scenes,
)
from vislm_tutorial.worksheet import Claim, Group, one_word_apart, sentences, worksheet

COUNTS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
GROUP = re.compile(rf"\b({'|'.join(COUNTS)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?:s|es)?\b")
RELATION = re.compile(r"\b(left of|right of|above|below)\b")


def scenes_with_objects(n, seed):
    return [s for s in sample_scenes(2 * n, seed) if s.objects][:n]


def is_true(text: str, scene: Scene) -> bool:
    """The sentence understood anew, from its words alone; of a caption nothing may be left out."""
    text = text[0].lower() + text[1:].rstrip(".")
    said = [(COUNTS[count], colour, shape) for count, colour, shape in GROUP.findall(text)]
    assert said, text
    found = [
        [o for o in scene.objects if (o.colour, o.shape) == (colour, shape)]
        for _, colour, shape in said
    ]
    if any(len(f) < count for f, (count, _, _) in zip(found, said, strict=True)):
        return False
    if "exactly" in text and len(found[0]) != said[0][0]:
        return False
    if relation := RELATION.search(text):
        return any(relation[0] in relations(a, b) for a in found[0] for b in found[1])
    where = [where for where in PLACES if where in text]
    return not where or any(place(o) == where[0] for o in found[0])


def pictures_of(html: str) -> list[Scene]:
    """Reads the pictures of a page back."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    pictures = [to_tensor(Image.open(io.BytesIO(base64.b64decode(f)))) for f in found]
    return parse(torch.stack(pictures))


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_right_when_the_pictures_are_read_back(seed):
    sheet = worksheet(scenes_with_objects(8, 100 + seed), seed=seed)
    shown = dict(enumerate(pictures_of(sheet.html), 1))
    matches = sheet.answers.matches
    assert sorted(matches.values()) == list(sheet.sentences) and matches.keys() == shown.keys()
    for number, scene in shown.items():
        own = sheet.sentences[matches[number]]
        assert is_true(own, scene)
        assert sum(COUNTS[count] for count, *_ in GROUP.findall(own)) == len(scene.objects)
        assert [letter for letter, s in sheet.sentences.items() if is_true(s, scene)] == [
            matches[number]
        ]
    statements = sheet.answers.statements
    assert sorted(s.picture for s in statements) == sorted(shown)
    assert abs(sum(s.true for s in statements) - len(statements) / 2) <= 0.5
    for s in statements:
        assert is_true(s.text, shown[s.picture]) == s.true
        assert is_true(s.correct, shown[s.picture])
        assert (s.text == s.correct) if s.true else one_word_apart(s.text, s.correct)


def test_every_kind_of_change_is_used():
    changed = set()
    for seed in range(10):
        for s in worksheet(scenes_with_objects(8, seed), seed=seed).answers.statements:
            changed |= set(s.text.rstrip(".").split()) - set(s.correct.rstrip(".").split())
    kinds = (set(COLOURS), set(SHAPES), set(COUNTS), {"left", "right", "above", "below"}, {"top"})
    assert all(kind & changed for kind in kinds)


def test_the_same_seed_makes_the_same_sheet():
    scenes = scenes_with_objects(6, 1)
    assert worksheet(scenes, seed=3).html == worksheet(scenes, seed=3).html
    assert worksheet(scenes, seed=3).html != worksheet(scenes, seed=4).html


# --- pictures that a model drew ------------------------------------------------------------------


def test_wrong_pictures_are_dropped_and_named():
    scenes = scenes_with_objects(8, 5)
    wanted = sentences(scenes, seed=2)
    first = scenes[0].objects[0]
    other = next(c for c in COLOURS if c not in {o.colour for o in scenes[0].objects})
    drawn = [
        Scene(scenes[0].background, (replace(first, colour=other), *scenes[0].objects[1:])),
        *scenes[1:],
    ]
    images = render(drawn, 64)
    images[3] = torch.rand(3, 64, 64) * 2 - 1  # a mess
    sheet = worksheet(scenes, images, seed=2)
    dropped = {d.index: d for d in sheet.dropped}
    assert {0, 3} <= dropped.keys() and dropped[0].sentence == wanted[0]
    assert other in dropped[0].reason
    assert len(sheet.images) == len(scenes) - len(dropped)
    assert set(sheet.sentences.values()).isdisjoint(d.sentence for d in sheet.dropped)


def test_what_was_drawn_decides_not_what_was_asked():
    """The same sentence holds, but things stand elsewhere: the statements must follow."""
    circle = SceneObject("circle", "red", "large", "solid", 0.25, 0.25)
    square = SceneObject("square", "blue", "large", "solid", 0.75, 0.25)
    star = Scene("white", (SceneObject("star", "pink", "large", "solid", 0.5, 0.5),))
    asked = Scene("white", (circle, square, replace(circle, y=0.75)))
    drawn = Scene("white", (replace(circle, x=0.75), replace(square, x=0.25), asked.objects[2]))
    for seed in range(20):
        sheet = worksheet([asked, star], render([drawn, star], 64), seed)
        assert not sheet.dropped
        for s in sheet.answers.statements:
            assert is_true(s.text, (drawn, star)[s.picture - 1]) == s.true


def test_of_two_pictures_that_one_sentence_fits_the_first_stays():
    one, two = (scenes_with_objects(2, seed)[0] for seed in (0, 3))
    sheet = worksheet([one, one, two])
    assert [d.index for d in sheet.dropped] == [1] and "scene 0" in sheet.dropped[0].reason


def test_what_one_can_argue_about_is_neither_true_nor_false():
    circle = SceneObject("circle", "red", "small", "solid", 0.25, 0.25)
    star = SceneObject("star", "blue", "small", "solid", 0.375, 0.75)  # below, and a bit right
    red, blue = Group(1, "red", "circle"), Group(1, "blue", "star")
    scene = Scene("white", (circle, star))
    assert Claim((red, blue), "above").holds(scene) is True
    assert Claim((red, blue), "left of").holds(scene) is None
    assert Claim((red, blue), "right of").holds(scene) is False
    assert Claim((red,)).describes(scene) is None  # true, but it leaves the star out
    assert Claim((Group(2, "red", "circle"),)).describes(scene) is False


# --- the page ------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_hides_no_answer_in_its_alt_texts():
    sheet = worksheet(scenes_with_objects(8, 6), title="Red & round")
    assert '<html lang="en">' in sheet.html and "<h1>Red &amp; round</h1>" in sheet.html
    assert not re.search(r"https?://|<script|<link", sheet.html)
    alts = re.findall(r'alt="([^"]*)"', sheet.html)
    assert len(alts) == len(sheet.images) and len(set(alts)) == len(alts)
    for alt in alts:
        assert not set(re.findall(r"\w+", alt)) & {*COLOURS, *SHAPES}
    before_answers = sheet.html[: sheet.html.index("<details")]
    assert all(f"<b>{word}</b>" not in before_answers for word in (*sheet.sentences, "true"))


@pytest.mark.parametrize("n", [0, 1, 27])
def test_too_few_and_too_many_scenes(n):
    with pytest.raises(ValueError, match="expected 2 to 26"):
        worksheet(scenes_with_objects(30, 0)[:n])


def test_errors():
    scenes = scenes_with_objects(4, 0)
    with pytest.raises(ValueError, match="Scene 1 has no objects"):
        worksheet([scenes[0], Scene("white"), scenes[1]])
    with pytest.raises(ValueError, match="3 images for 4 scenes"):
        worksheet(scenes, torch.zeros(3, 3, 64, 64))
    with pytest.raises(ValueError, match="expected \\(B, 3, H, W\\)"):
        worksheet(scenes, torch.zeros(4, 1, 64, 64))
    with pytest.raises(ValueError, match="0 of 4 pictures can be used.*something else \\(nothing"):
        worksheet(scenes, torch.ones(4, 3, 64, 64))
