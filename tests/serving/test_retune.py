"""The loop: the monitor finds the words, the fusion learns them, the gate decides."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_pipeline import tiny_pipeline

from vislm_tutorial import VisLMPipeline
from vislm_tutorial.encoders import TokenReader, load_encoder
from vislm_tutorial.serving.collect import Typed
from vislm_tutorial.serving.monitor import Known, drawn_right, drifted, missed_words, watch
from vislm_tutorial.serving.population import typed_by_many
from vislm_tutorial.serving.retune import (
    RetuneConfig,
    _aligned,
    _fit,
    corresponding,
    distance,
    lesson,
    retune,
    teach,
)
from vislm_tutorial.serving.wording import translate
from vislm_tutorial.training.datasets import SceneImages
from vislm_tutorial.tuning import AdaLoRA, LoRA
from vislm_tutorial.types import Condition, TextStates

LABELS = {
    **{"crimson": "red", "emerald": "green", "lilac": "purple"},
    **{"disc": "circle", "pyramid": "triangle", "rhombus": "diamond"},
}
QUICK = RetuneConfig(steps=40, captions=80)


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return SceneImages(400, seed=3).captions


@pytest.fixture(scope="module")
def pipe() -> VisLMPipeline:
    pipe = VisLMPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def known(pipe, captions) -> Known:
    return Known(captions, pipe.encoder)


@pytest.fixture(scope="module")
def typed() -> list[Typed]:
    return typed_by_many(200, LABELS)


# --- the monitor --------------------------------------------------------------------------------


def test_the_population_changes_its_words_half_way(typed):
    new = [bool(set(entry.caption.split()) & LABELS.keys()) for entry in typed]
    assert not any(new[:100]) and 30 < sum(new[100:]) < 90
    assert typed == typed_by_many(200, LABELS) != typed_by_many(200, LABELS, seed=1)
    assert [entry.minute for entry in typed] == sorted(entry.minute for entry in typed)


def test_the_monitor_sees_the_change_and_names_the_words(known, typed):
    windows = watch(typed, known, size=50)
    assert [window.first for window in windows] == [0, 50, 100, 150]
    assert windows[0].unknown.value == 0 and not missed_words(windows[:2])
    assert drifted(windows[0].unknown, windows[-1].unknown)
    assert not drifted(windows[0].unknown, windows[1].unknown)
    assert set(missed_words(windows)) == set(LABELS)
    assert windows[0].disliked is None and windows[0].wrong is None


def test_words_of_few_requests_are_not_shown(known):
    # One sender says a name in nine captions of two requests; six senders say "azure" and "for".
    own = [Typed(f"a circle for zoe {'zoe' * (i % 2)}", str(i // 5)) for i in range(9)]
    others = [Typed("an azure circle for me", f"of {i}") for i in range(6)]
    assert missed_words(watch(own, known)) == {}
    for size in (4, 50):  # also where a window ends within a request
        shown = missed_words(watch([*own, *others], known, size))
        assert shown["azure"] == 6 and "zoe" not in shown and shown.get("for", 8) == 8
    assert "azure" not in missed_words(watch(others, known), least=7)


def test_feedback_and_judgements_are_counted(known):
    entries = [Typed("a circle", str(i), right=[True, False, None][i % 3]) for i in range(9)]
    (window,) = watch(entries, known, right=[True, None, False] * 3)
    assert (window.disliked.value, window.disliked.n) == (0.5, 6)
    assert (window.wrong.value, window.wrong.n) == (0.5, 6)
    with pytest.raises(ValueError, match="0 captions"):
        watch([], known)


def test_what_is_far_from_training_is_found(known, captions):
    away = known.distances(["the president signed a law", "how do I cook rice", "import numpy"])
    assert (away > known.far).all()
    fresh = SceneImages(100, seed=99).captions
    assert (known.distances(fresh) > known.far).float().mean() < 0.15
    assert known.distances(captions[:5]).max() < 1e-3
    with pytest.raises(ValueError, match="too few"):
        Known(captions[:3], known.encoder)


# --- lessons ------------------------------------------------------------------------------------


def test_lessons_say_the_same_in_new_words(captions):
    pairs = lesson(captions, LABELS, seed=0)
    assert len(pairs) > 100
    for new, meant in pairs:
        assert set(new.replace(",", "").split()) & {
            w for k in LABELS for w in (k, k + "s", k + "es")
        }
        assert meant.text in captions
    kept = lesson(captions, LABELS, seed=0, without={pairs[0][0]})
    assert len(kept) < len(pairs) and pairs[0][0] not in [new for new, _ in kept]


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"crimson": "mauve"}, "no old caption has 'mauve'"),
        ({"red": "blue"}, "'red' is no new word"),
        ({}, "no labels"),
        ({"Red": "blue"}, "'Red' is no new word"),
        ({"crimson": ""}, "is empty"),
    ],
)
def test_labels_that_cannot_be_taught_are_named(pipe, captions, labels, named):
    with pytest.raises(ValueError, match=named):
        teach(pipe, labels, captions, QUICK)


def test_tokens_find_their_counterparts():
    encoder = load_encoder("minilm", layers="mean")

    def tokens(text):
        return encoder.tokenizer.convert_ids_to_tokens(encoder.tokenize([text])[0])

    new = "we see a crimson pentagram, simple shapes"
    known = translate(new, {"crimson": "red", "pentagram": "star"})
    places, there = corresponding(encoder, new, known), tokens(known.text)
    assert len(places) == len(tokens(new)) > len(there)  # "pentagram" is cut into pieces
    shown = [there[place] for place in places]
    pieces = len(places) - len(there) + 1
    assert shown == [
        *("[CLS]", "we", "see", "a", "red"),
        *["star"] * pieces,
        *(",", "simple", "shapes", "[SEP]"),
    ]


def test_a_decoders_tokens_find_theirs_too():
    encoder = load_encoder("smollm2")
    known = translate("draw an azure box on it", {"azure": "blue", "box": "square"})
    places = corresponding(encoder, "draw an azure box on it", known)
    tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.tokenize([known.text])[0])
    shown = [tokens[place].strip("Ġ") for place in places]
    assert shown[1:3] == ["draw", "a"] and shown[-3:] == ["square", "on", "it"]
    assert set(shown[3:-3]) == {"blue"} and places[0] == 0


# --- teaching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["projector", "pooled", "resampler"])
def test_teaching_moves_new_captions_to_old_conditions(captions, fusion):
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"), fusion)
    taught = teach(pipe, {"crimson": "red"}, captions, QUICK)
    assert taught.fusion is not pipe.fusion and taught.backbone is pipe.backbone

    def between(a, b, model):
        return distance(model.encode_prompt([a])[0], pipe.encode_prompt([b])[0]).item()

    new, old = "we see a crimson star", "we see a red star"
    assert between(new, old, taught) < 0.5 * between(new, old, pipe)
    assert between(old, old, taught) < 0.5 * between(new, old, pipe)  # and nothing is forgotten
    assert not any(p.requires_grad for p in taught.fusion.parameters())


def test_teaching_is_repeatable_and_leaves_the_old_model_alone(captions):
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"))
    before = {name: value.clone() for name, value in pipe.fusion.state_dict().items()}
    quick = dataclasses.replace(QUICK, steps=5)
    states = [teach(pipe, LABELS, captions, quick).fusion.state_dict() for _ in range(2)]
    for name, value in before.items():
        assert torch.equal(states[0][name], states[1][name])
        assert torch.equal(pipe.fusion.state_dict()[name], value)
    assert any(not torch.equal(states[0][name], before[name]) for name in before)


def test_the_language_model_can_learn_in_the_fusions_place(captions, tmp_path):
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"))
    config = RetuneConfig(6, batch_size=8, learning_rate=3e-3, captions=30, tuning=LoRA(rank=4))
    taught = teach(pipe, {"crimson": "red"}, captions, config)
    assert taught.fusion is pipe.fusion and taught.encoder is not pipe.encoder
    assert pipe.encoder.tuning is None and taught.encoder.learned

    def condition(model):
        return model.encode_prompt(["a crimson star"])[0]

    target = pipe.encode_prompt(["a red star"])[0]
    assert distance(condition(taught), target) < distance(condition(pipe), target)
    taught.save_pretrained(tmp_path)
    again = VisLMPipeline.from_pretrained(tmp_path)
    assert distance(condition(again), condition(taught)) < 1e-8
    further = teach(again, {"disc": "circle"}, captions, config)  # a second round
    assert further.encoder.tuning == LoRA(rank=4) and further.encoder is not again.encoder
    other = dataclasses.replace(config, tuning=LoRA(rank=2))
    with pytest.raises(ValueError, match=r"taught by LoRA\(rank=4"):
        teach(again, {"disc": "circle"}, captions, other)
    with pytest.raises(ValueError, match="take LoRA here"):
        RetuneConfig(tuning=AdaLoRA())


def test_a_fusion_that_changes_with_time_is_sent_elsewhere(captions):
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"), "timestep_resampler")
    with pytest.raises(ValueError, match="at each step of the flow"):
        teach(pipe, LABELS, captions, QUICK)


def test_lessons_stay_on_the_pipelines_device(captions):
    # "meta" stands for any device but the CPU, from which no number can be read on a CPU.
    far = Condition(
        torch.empty(3, 30, 8, device="meta"),
        torch.ones(3, 30, dtype=torch.bool, device="meta"),
        torch.empty(3, 8, device="meta"),
    )
    pairs = lesson(captions, LABELS, seed=0)[:3]
    aligned = _aligned(far, pairs, load_encoder("minilm", layers="mean"))
    assert {value.device.type for value in vars(aligned).values()} == {"meta"}

    class Student(torch.nn.Linear):
        def forward(self, states: TextStates) -> Condition:
            assert states.device.type == "meta"
            told = super().forward(states.encoder_hidden_states)
            return Condition(told, states.encoder_attention_mask, told[:, 0])

    student = Student(1, 8, device="meta")
    reader = TokenReader(load_encoder("minilm", layers="mean"))  # its numbers are on the CPU
    taught = reader.encode([new for new, _ in pairs])
    both = (taught, aligned), (taught, aligned)
    _fit(student, *both, RetuneConfig(2, batch_size=4))


def test_too_few_captions_to_judge_by_are_named_before_teaching(captions, monkeypatch):
    monkeypatch.setattr("vislm_tutorial.serving.retune.teach", lambda *_, **__: pytest.fail())
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"))
    for old, new in ((["a star"], ["a crimson star"] * 30), (["a star"] * 30, ["a crimson dog"])):
        with pytest.raises(ValueError, match="20 of each are needed"):
            retune(pipe, {"crimson": "red"}, captions, old, new)


@pytest.mark.parametrize("wrong", [{"old_share": 1.0}, {"learning_rate": 0.0}, {"steps": 0}])
def test_a_config_must_make_sense(wrong):
    with pytest.raises(ValueError):
        RetuneConfig(**wrong)


def test_the_shipped_model_learns_six_words_and_passes_the_gate(pipe, captions, typed):
    old = [entry.caption for entry in typed[:20]]
    new = [e.caption for e in typed[100:] if set(e.caption.split()) & LABELS.keys()][:20]
    before = drawn_right(pipe, old), drawn_right(pipe, new, LABELS)
    assert all(r is not None for side in before for r in side)
    assert sum(before[0]) > 15 > 12 > sum(before[1])
    good = retune(
        pipe, LABELS, captions, old, new, RetuneConfig(steps=120, captions=250), before=before
    )
    assert good.verdict.new.after > 0.7, good.verdict
    assert good.verdict.new.low > 0.2 and good.verdict.old.after > 0.8
