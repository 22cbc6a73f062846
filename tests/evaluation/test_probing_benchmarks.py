"""benchmarks/probing.py and interventions.py: no word is in two parts, no choice by the judged."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from vislm_tutorial.chapter_weights import stored_results
from vislm_tutorial.data.captions import COLOUR_SYNONYMS, PHRASES, SHAPE_SYNONYMS, TEMPLATES
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.evaluation.control import Look
from vislm_tutorial.evaluation.probes import word_states

ROOT = Path(__file__).parents[2]


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # for dataclasses
    spec.loader.exec_module(module)
    return module


probing, interventions = loaded("probing"), loaded("interventions")


@pytest.mark.parametrize("attribute", ["colour", "shape"])
def test_no_word_is_seen_and_asked_about(attribute):
    whole = probing.split(attribute, max(probing.WORDS))
    seen, validation, held_out = (
        {word for word, _ in part} for part in (whole.seen, whole.validation, whole.held_out)
    )
    assert not seen & validation and not seen & held_out and not validation & held_out
    assert len(validation) > 8
    near = [(w, s) for w in validation for s in seen if w in s or s in w]
    assert not near, "a validation word that a probe knows by its spelling"


@pytest.mark.parametrize("k", probing.WORDS)
@pytest.mark.parametrize("attribute", ["colour", "shape"])
def test_what_is_asked_does_not_depend_on_k(attribute, k):
    parts, whole = probing.split(attribute, k), probing.split(attribute, max(probing.WORDS))
    assert parts.validation == whole.validation and parts.held_out == whole.held_out
    names = list(probing.ATTRIBUTES[attribute][1])
    assert Counter(i for _, i in parts.seen) == {i: k + 1 for i in range(len(names))}
    assert parts.seen[:: k + 1] == tuple((name, i) for i, name in enumerate(names))
    assert set(parts.seen) <= set(whole.seen)


def test_held_out_words_are_those_of_the_captions():
    for attribute, synonyms in (("colour", COLOUR_SYNONYMS), ("shape", SHAPE_SYNONYMS)):
        expected = {(w, i) for i, words in enumerate(synonyms.values()) for w in words}
        assert set(probing.split(attribute, 3).held_out) == expected


def test_more_words_than_are_kept_for_learning_are_refused():
    with pytest.raises(ValueError, match="k is 9; expected 0 to 8"):
        probing.split("colour", 9)


def test_a_word_stands_in_each_frame_beside_other_things():
    captions = probing.captions_of("colour", "crimson")
    assert captions == probing.captions_of("colour", "crimson")
    assert len(set(captions)) == len(probing.FRAMES) == len(captions)
    assert set(probing.FRAMES) <= set(TEMPLATES)
    assert all("crimson" in caption for caption in captions)
    assert len({next(s for s in SHAPE_SYNONYMS if s in c) for c in captions}) == len(captions)


def test_a_layer_is_chosen_by_validation_alone():
    assert probing.best([3, 5, 5, 4], [1.0, 1.2, 1.1, 0.1]) == 2
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    good = torch.nn.functional.one_hot(labels, 3) * 4.0
    bad = torch.randn(12, 3, generator=noise)
    layers = torch.stack([bad, good, bad], dim=1)  # (n, layers, D): layer 1 tells, others do not
    wrong = torch.stack([good, bad, bad], dim=1)  # the judged words would prefer layer 0
    asked = {"validation": (layers, labels), "held_out": (wrong, labels)}
    row = probing.by_layer((layers, labels), asked, classes=3, each=1)
    assert row["validation"][1] == 12 and row["chosen"] == 1
    assert row["n_validation"] == row["n_held_out"] == 12 and len(row["doubt"]) == 3


def test_a_word_has_one_answer_of_all_its_captions():
    sure, unsure = [9.0, 0.0], [0.0, 1.0]
    answers = torch.tensor([sure, unsure, unsure, unsure])
    right, doubt = probing.judged(answers, torch.tensor([0, 1]), each=2)
    assert right == 2
    logs = answers.log_softmax(dim=1)
    assert doubt == pytest.approx(-(logs[:2, 0].sum() + logs[2:, 1].sum()).item() / 4)


def test_the_nearest_word_is_seen_from_the_middle():
    names = [word for word, _ in probing.split("shape", 0).seen]
    states = {
        word: 100 + 5 * torch.nn.functional.one_hot(torch.tensor([[i]] * 4), 6).float()
        for i, word in enumerate(names)  # (4 captions, 1 layer, 6)
    }
    whole = probing.split("shape", 8)
    for word, label in whole.validation + whole.held_out:
        states[word] = states[names[label]] * 1.01
    states["disc"] = states["star"]
    row = probing.nearest(states, "shape")
    assert row["words"]["disc"] == "star" and row["words"]["ball"] == "circle"
    assert row["held_out"] == [11] and row["n_held_out"] == 12


@pytest.mark.parametrize("k", probing.WORDS)
@pytest.mark.parametrize("attribute", ["colour", "shape"])
def test_what_is_stored_is_of_these_words_and_chosen_by_validation(attribute, k):
    parts = probing.split(attribute, k)
    for model in probing.MODELS:
        (row,) = [
            row
            for row in stored_results("probing")["probes"]
            if (row["model"], row["attribute"], row["words"]) == (model, attribute, k)
        ]
        assert row["n_validation"] == len(parts.validation)
        assert row["n_held_out"] == len(parts.held_out)
        assert row["chosen"] == probing.best(row["validation"], row["doubt"])


def test_the_smallest_piece_gives_what_is_stored():
    encoder, parts = load_encoder("minilm"), probing.split("shape", 0)
    states = {}
    for word, _ in parts.seen + parts.validation + parts.held_out:
        captions = probing.captions_of("shape", word)
        found = word_states(encoder, captions, [word] * len(captions))
        states[word] = probing.with_mean(found)
    again = probing.nearest(states, "shape")
    (stored,) = [
        row
        for row in stored_results("probing")["nearest"]
        if (row["model"], row["attribute"]) == ("minilm", "shape")
    ]
    for part in ("validation", "held_out"):  # a near tie may fall otherwise on another machine
        pairs = zip(again[part], stored[part], strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 1


def test_relations_are_asked_in_other_phrases():
    phrases = [
        {p for group in part.values() for p in group}
        for part in (probing.PLAIN_PHRASES, probing.OTHER_PHRASES, probing.HELD_OUT_PHRASES)
    ]
    assert sum(map(len, phrases)) == len(set.union(*phrases))
    rows = probing.relation_captions(probing.HELD_OUT_PHRASES, 3, seed=0)
    assert Counter(row[3] for row in rows) == dict.fromkeys(range(4), 6)
    for caption, a, b, label in rows:
        phrase = next(p for p in probing.HELD_OUT_PHRASES[list(PHRASES)[label]] if p in caption)
        assert a != b and caption.split(phrase)[0].strip().endswith(a) and caption.endswith(b)


def test_captions_that_are_exchanged_have_one_form():
    looks = interventions.asked_looks(6)
    words = {len(look.caption(interventions.TOLD).split()) for look in looks}
    assert len(looks) == 6 and words == {interventions.LENGTH - 2}  # without start and end
    together = [t for tokens in interventions.TOKENS.values() for t in tokens]
    assert together == list(range(interventions.LENGTH))
    split = looks[0].caption(interventions.TOLD).split()
    for name in interventions.NAMING:
        (token,) = interventions.TOKENS[name]
        assert split[token - 1] == getattr(looks[0], name)


def test_drawings_are_counted_as_they_are_asked():
    red = Look("red", "star", "large", "solid", 1, "in the centre", "white")
    blue = Look("blue", "star", "small", "solid", 1, "in the centre", "white")
    moved = Look("blue", "cross", "small", "solid", 1, None, "white")
    row = interventions.counts([red] * 3, [blue] * 3, [red, blue, moved], "colour")
    assert (row["n"], row["old"], row["new"], row["rest kept"]) == (3, 1, 2, 2)
    assert row["told"] == {"colour": 1, "shape": 2, "place": 2, "background": 3, "count": 3}
