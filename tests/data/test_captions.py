"""Captions tell the truth, and training captions never say what is held out."""

from __future__ import annotations

import random
import re

import pytest

from vislm_tutorial.data.captions import (
    COLOUR_SYNONYMS,
    HELD_OUT_TEMPLATES,
    NUMBERS,
    PHRASES,
    SHAPE_SYNONYMS,
    TEMPLATES,
    caption,
    plural,
    with_article,
)
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    FILLS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    held_out_pairs,
    place,
    relations,
    sample_scene,
)


def _alternatives(words) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


SHAPE_OF = {form: shape for shape in SHAPES for form in (shape, plural(shape))}
NUMBER_OF = {"a": 1, "an": 1, **{word: n for n, word in NUMBERS.items()}}
PHRASE = re.compile(
    rf"(?P<number>{_alternatives(NUMBER_OF)})"
    rf"(?: (?P<size>{_alternatives(SIZES)}))?"
    rf"(?: (?P<fill>{_alternatives(FILLS)}))?"
    rf"(?: (?P<colour>{_alternatives(COLOURS)}))?"
    rf" (?P<noun>{_alternatives(SHAPE_OF)})"
)
RELATION_OF = {**{said: meant for meant, said in PHRASES.items()}, **{r: r for r in PHRASES}}
BACKGROUND = re.compile(rf" on an? ({_alternatives(BACKGROUNDS)}) background$")
RELATION = re.compile(rf"(?: is| that is)? ({_alternatives(RELATION_OF)}) ")


def _strip_template(text: str, templates) -> str:
    """The words inside the sentence; the longest template that fits is the one that was used."""
    for template in sorted(set(templates), key=len, reverse=True):
        before, after = template.split("{}")
        if text.startswith(before) and text.endswith(after):
            return text[len(before) : len(text) - len(after)]
    raise AssertionError(f"no template fits {text!r}")


def _matching(phrase: re.Match, scene: Scene) -> list[SceneObject]:
    """The objects a phrase describes; their number must be the number it says."""
    told = {k: v for k, v in phrase.groupdict().items() if v and k not in ("number", "noun")}
    told["shape"] = SHAPE_OF[phrase["noun"]]
    return [o for o in scene.objects if all(getattr(o, k) == v for k, v in told.items())]


def _check_truth(text: str, scene: Scene) -> str:
    """Assert all that a caption states; returns what kind of caption it was."""
    body = _strip_template(text, TEMPLATES)
    if background := BACKGROUND.search(body):
        assert background[1] == scene.background
        body = body[: background.start()]
    if body == "nothing":
        assert not scene.objects and background
        return "empty"
    phrases = list(PHRASE.finditer(body))
    groups = [_matching(phrase, scene) for phrase in phrases]
    for phrase, group in zip(phrases, groups, strict=True):
        assert len(group) == NUMBER_OF[phrase["number"]], phrase[0]
        assert phrase["noun"] == (SHAPE_OF[phrase["noun"]] if len(group) == 1 else phrase["noun"])
    assert sum(map(len, groups)) == len(scene.objects), "every object is told once"
    rest = PHRASE.sub("#", body)
    if relation := RELATION.search(rest):
        assert rest == f"#{relation[0]}#"
        assert RELATION_OF[relation[1]] in relations(groups[0][0], groups[1][0])
        return "relation"
    if rest[2:] in PLACES:
        assert place(scene.objects[0]) == rest[2:]
        return "place"
    assert re.fullmatch(r"(#, )*(# and )?#", rest), rest
    return "count" if any(len(group) > 1 for group in groups) else "list"


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, Scene]]:
    """20,000 training captions with their scenes."""
    rng = random.Random(12)
    scenes = (sample_scene(rng) for _ in range(20_000))
    return [(caption(scene, rng), scene) for scene in scenes]


def test_every_statement_holds(pairs):
    kinds = {}
    for text, scene in pairs:
        try:
            kind = _check_truth(text, scene)
        except AssertionError as error:
            raise AssertionError(f"{text!r} is not true of {scene}: {error}") from error
        kinds[kind] = kinds.get(kind, 0) + 1
    assert set(kinds) == {"empty", "relation", "place", "count", "list"}
    assert min(kinds.values()) >= 100, kinds


def test_the_check_of_truth_can_fail():
    red, blue = (SceneObject("circle", c, "small", "solid", x, 0.5) for c, x in _RED_LEFT)
    scene = Scene("white", (red, blue))
    assert _check_truth("a red circle left of a blue circle", scene) == "relation"
    for lie in (
        "a red circle right of a blue circle",
        "three circles",
        "a red circle",
        "a red circle and a blue square",
        "two circles on a grey background",
        "a large red circle and a large blue circle",
    ):
        with pytest.raises(AssertionError):
            _check_truth(lie, scene)


_RED_LEFT = (("red", 0.2), ("blue", 0.8))


def test_nothing_held_out_leaks_into_training(pairs):
    synonyms = [
        w for words in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for ws in words.values() for w in ws
    ]
    forms = {form for word in synonyms for form in (word, plural(word))}
    forbidden = re.compile(rf"\b({_alternatives(forms)})\b")
    sentences = [re.escape(t).replace(r"\{\}", ".*") for t in HELD_OUT_TEMPLATES]
    held_out = [f"{c} {form}" for c, s in held_out_pairs() for form in (s, plural(s))]
    for text, scene in pairs:
        assert not forbidden.search(text), text
        assert not any(re.fullmatch(s, text) for s in sentences), text
        assert not any(pair in text for pair in held_out), text
        assert held_out_pairs().isdisjoint((o.colour, o.shape) for o in scene.objects)


def test_synonyms_replace_every_colour_and_shape(pairs):
    plain = re.compile(rf"\b({_alternatives([*COLOURS, *SHAPE_OF])})\b")
    rng = random.Random(5)
    said = [caption(scene, rng, synonyms=True) for _, scene in pairs[:2000]]
    for text in said:
        assert not plain.search(BACKGROUND.sub("", text)), text
    every = {w for words in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for ws in words.values() for w in ws}
    missing = {word for word in every if not any(word in text for text in said)}
    assert not missing


def test_synonyms_are_new_words():
    words = [w for d in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for ws in d.values() for w in ws]
    assert len(words) == len(set(words)), "a synonym means one thing"
    assert set(COLOUR_SYNONYMS) == set(COLOURS) and set(SHAPE_SYNONYMS) == set(SHAPES)
    assert all(len(ws) >= 2 for d in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for ws in d.values())


def test_held_out_templates_are_used_when_asked_for(pairs):
    rng = random.Random(6)
    bodies = [
        _strip_template(caption(scene, rng, held_out_template=True), HELD_OUT_TEMPLATES)
        for _, scene in pairs[:500]
    ]
    assert all(bodies) and set(TEMPLATES).isdisjoint(HELD_OUT_TEMPLATES)


def test_the_same_seed_says_the_same(pairs):
    scene = pairs[0][1]
    said = [caption(scene, random.Random(seed)) for seed in (1, 1, 2, 3, 4)]
    assert said[0] == said[1] and len(set(said)) > 1


def test_a_list_begins_at_the_top_left():
    low = SceneObject("circle", "red", "small", "solid", 0.75, 0.75)
    high = SceneObject("star", "blue", "small", "solid", 0.25, 0.25)
    said = {caption(Scene("white", (low, high)), random.Random(seed)) for seed in range(100)}
    lists = [text for text in said if not any(word in text for word in RELATION_OF)]
    assert len(lists) > 5
    assert all(text.index("star") < text.index("circle") for text in lists)


def test_spelling():
    assert with_article("orange star") == "an orange star"
    assert with_article("red star") == "a red star"
    assert [plural(w) for w in ("cross", "box", "star", "rhombus", "plus sign", "plus")] == [
        "crosses",
        "boxes",
        "stars",
        "rhombuses",
        "plus signs",
        "pluses",
    ]
