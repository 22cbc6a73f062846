"""Prompts of k concepts: k + 1 questions each, in English, about scenes that there can be."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

import vislm_tutorial.evaluation.prompts as prompts
from vislm_tutorial.data.captions import NUMBERS, PHRASES, TEMPLATES, plural
from vislm_tutorial.data.parsing import Reading
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    FILLS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    held_out_pairs,
)
from vislm_tutorial.evaluation import (
    CONCEPT_TASKS,
    TASKS,
    Clause,
    Prompt,
    ceiling,
    evaluate,
    judge,
    prompts_for,
    scene_for,
)
from vislm_tutorial.evaluation.concepts import _choices
from vislm_tutorial.evaluation.prompts import chosen_tasks
from vislm_tutorial.evaluation.scores import PromptResult

WORDS = {  # of a caption's body, by the kind of concept that they name
    "size": set(SIZES),
    "fill": set(FILLS),
    "colour": set(COLOURS),
    "number": set(NUMBERS.values()),
    "relation": {*RELATIONS, *PHRASES.values()},
}
NOUNS = {word: shape for shape in SHAPES for word in (shape, plural(shape))}


def _every_prompt(n: int = 100, seed: int = 0) -> list[tuple[int, Prompt]]:
    return [(k, p) for k, t in enumerate(CONCEPT_TASKS, 1) for p in prompts_for(t, n, seed)]


def _reading(scene: Scene) -> Reading:
    return Reading(scene.background, scene.objects, (0.01,) * len(scene.objects))


def _body(text: str) -> str:
    """The caption without the sentence around it."""
    for template in sorted(TEMPLATES, key=len, reverse=True):
        before, after = template.split("{}")
        if text.startswith(before) and text.endswith(after):
            return text[len(before) : len(text) - len(after)]
    raise AssertionError(text)


def _named(text: str) -> Counter:
    """What a caption names, by kind, read with nothing but its words."""
    body, found = _body(text), Counter()
    body, found["background"] = re.subn(rf" on an? ({'|'.join(BACKGROUNDS)}) background$", "", body)
    for phrase in sorted(WORDS["relation"], key=len, reverse=True):
        if f" {phrase} " in body:
            body, found["relation"] = body.replace(f" {phrase} ", " | "), 1
            break
    for part in re.split(r" \| | and ", body):
        first, *adjectives, noun = part.split()
        assert noun in NOUNS and first in {"a", "an", *NUMBERS.values()}, text
        assert (noun in SHAPES) == (first in ("a", "an")), f"singular and plural in {text!r}"
        found["number"] += first in WORDS["number"]
        for word in adjectives:
            (kind,) = (k for k in ("size", "fill", "colour") if word in WORDS[k])
            found[kind] += 1
        found["object"] += 1
    return found


def test_they_are_asked_only_by_name():
    assert CONCEPT_TASKS == tuple(f"concepts_{k}" for k in range(1, 8))
    assert not set(CONCEPT_TASKS) & set(TASKS)
    assert chosen_tasks("concepts") == CONCEPT_TASKS
    assert chosen_tasks(["colours", "geneval", "paraphrases"])[:2] == ("colours", "single_object")


def test_a_caption_names_the_object_and_k_concepts():
    for k, prompt in _every_prompt():
        named = _named(prompt.text)
        assert named.total() == k + 1, prompt
        asked = Counter(kind for c in prompt.include for kind in c.attributes)
        asked["object"] = len(prompt.include)
        asked["number"] = len(prompt.exclude)
        asked["relation"] = sum(c.position is not None for c in prompt.include)
        asked["background"] = prompt.background is not None
        assert +asked == +named, prompt


def test_captions_differ_and_are_repeatable():
    for task in CONCEPT_TASKS:
        own = prompts_for(task, 100, seed=1)
        assert len({p.text for p in own}) == 100
        assert own == prompts_for(task, 100, seed=1) != prompts_for(task, 100, seed=2)
    assert len(prompts_for("concepts_1", 3000)) == 3000, "captions may repeat when they run out"


def test_a_and_an():
    for _, prompt in _every_prompt():
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", prompt.text), prompt.text


def test_every_category_is_asked_for_at_every_k():
    for k in range(1, 8):
        kinds = {kind for chosen in _choices(k) for kind, _ in chosen}
        missing = {"size", "fill", "colour", "number", "second object", "background"} - kinds
        assert not missing and ("relation" in kinds or k == 1)


def test_the_training_grammar_could_show_them():
    groups = {(1,), (2,), (3,), (4,), (1, 1), (1, 2), (1, 3), (2, 2)}
    for _, prompt in _every_prompt():
        clauses = prompt.include
        assert tuple(sorted(c.count for c in clauses)) in groups
        assert held_out_pairs().isdisjoint((c.colour, c.shape) for c in clauses)
        colours = [c.colour for c in clauses if c.colour]
        assert len({c.shape for c in clauses}) == len(clauses)
        assert len(set(colours)) == len(colours), "two groups never share a colour"


def test_there_is_a_scene_for_each_and_both_rules_call_it_right(monkeypatch):
    monkeypatch.setattr(prompts, "MOST_TRIES", prompts.MOST_TRIES // 5)
    rng = random.Random(0)
    for k, prompt in _every_prompt(60) + _every_prompt(20, seed=5):
        scene = scene_for(prompt, rng)
        assert prompt.background in (None, scene.background)
        assert len(scene.objects) == sum(c.count for c in prompt.include)
        checks = judge(prompt, _reading(scene))
        assert len(checks) == k + 1 and all(check.holds for check in checks), prompt
        assert all(c.holds for c in judge(replace(prompt, task="by hand"), _reading(scene)))


def test_a_scene_that_cannot_be_is_refused(monkeypatch):
    monkeypatch.setattr(prompts, "MOST_TRIES", 50)
    crowd = Prompt("", (Clause("star", 3, size="large"), Clause("cross", 3)), (), "by hand")
    with pytest.raises(ValueError, match="no scene in 50"):
        scene_for(crowd, random.Random(0))


ASKED = Prompt(
    "two small red stars left of a striped square on a white background",
    (
        Clause("square", fill="striped"),
        Clause("star", 2, "red", ("left of", 0), size="small"),
    ),
    (Clause("star", 3),),
    "concepts_7",
    "white",
)
STARS_LEFT = scene_for(ASKED, random.Random(1))
SQUARE, *STARS = STARS_LEFT.objects
BETWEEN = (STARS[0], replace(STARS[1], x=0.98))  # one star left of the square, one right


@pytest.mark.parametrize(
    ("background", "objects", "wrong"),
    [
        ("white", (SQUARE, *STARS), []),
        ("black", (SQUARE, *STARS), ["background"]),
        ("white", (replace(SQUARE, fill="hollow"), *STARS), ["fill"]),
        ("white", (SQUARE, STARS[0], replace(STARS[1], colour="blue")), ["colour"]),
        ("white", (SQUARE, STARS[0], replace(STARS[1], size="large")), ["size"]),
        ("white", (SQUARE, STARS[0]), ["count"]),  # the one star is small, red, and left
        ("white", (SQUARE, *STARS, STARS[0]), ["count"]),
        ("white", (replace(SQUARE, x=0.0), *STARS), ["position"]),
        ("white", (SQUARE, *BETWEEN), ["position"]),
        ("white", STARS, ["objects", "fill", "position"]),
        ("white", (SQUARE,), ["objects", "count", "colour", "size", "position"]),
        ("white", (), ["objects", "fill", "objects", "count", "colour", "size", "position"]),
    ],
)
def test_each_concept_is_judged_by_itself(background, objects, wrong):
    checks = judge(ASKED, Reading(background, tuple(objects), (0.01,) * len(objects)))
    assert len(checks) == 8
    assert [c.kind for c in checks if not c.holds] == wrong
    assert all(c.reason for c in checks)


def test_both_rules_agree_on_the_full_mark():
    """A picture of another caption: each rule sees other things wrong, or none."""
    rng, found = random.Random(0), Counter()
    every = [p for _, p in _every_prompt(30)]
    scenes = [scene_for(p, rng) for p in every]
    for i, prompt in enumerate(every):
        for scene in (scenes[i], scenes[i - 1], scenes[i - 2]):
            each, geneval = (
                all(c.holds for c in judge(p, _reading(scene)))
                for p in (prompt, replace(prompt, task="by hand"))
            )
            assert each == geneval
            found[each] += 1
    assert found[True] >= len(every) and found[False] > len(every)


def test_size_fill_and_background_count_outside_concepts_too():
    prompt = replace(ASKED, task="by hand")
    wrong = (replace(SQUARE, fill="solid"), *STARS)
    checks = judge(prompt, Reading("grey", wrong, (0.01,) * 3))
    failed = [c.reason for c in checks if not c.holds]
    assert failed[0] == "expected striped square>=1, found solid"
    assert failed[-1] == "expected white background, found grey"


def test_ceiling_of_concepts_is_near_one():
    result = ceiling("concepts", n=40)
    assert tuple(result.scores) == CONCEPT_TASKS
    assert all(score.value >= 0.95 for score in result.scores.values())
    assert all(score.value >= 0.99 for score in result.fractions.values())


def test_full_mark_and_fraction_are_both_shown():
    result = evaluate(lambda c, s: -torch.ones(len(c), 3, 32, 32), ("concepts_1", "colours"), n=30)
    black = sum("on a black background" in p.text for p in prompts_for("concepts_1", 30))
    assert black > 0, "a black picture has that concept right, and nothing else"
    assert result.scores["concepts_1"].value == 0
    fraction = result.fractions["concepts_1"]
    assert fraction.value == pytest.approx(black / 60) and fraction.low < fraction.value
    assert set(result.fractions) == {"concepts_1"}
    table = result.markdown()
    assert "| concepts 1, fraction" in table and f"{fraction.value:.3f}" in table
    assert "background" in table.splitlines()[0] and "background" in result.breakdown["concepts_1"]


def test_fraction_is_a_mean_over_pictures():
    half = PromptResult("concepts_1", "", (("objects", True), ("colour", False)))
    whole = PromptResult("concepts_1", "", (("objects", True), ("colour", True)))
    assert (half.fraction, whole.fraction) == (0.5, 1.0)
    assert whole.correct and not half.correct
