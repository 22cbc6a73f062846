"""ExactEval judges by GenEval's rules, knows its ceiling and floor, and says how sure it is."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
import torch

from vislm_tutorial.data.captions import (
    COLOUR_SYNONYMS,
    HELD_OUT_TEMPLATES,
    SHAPE_SYNONYMS,
    TEMPLATES,
)
from vislm_tutorial.data.parsing import Reading
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, SceneObject, held_out_pairs, relations
from vislm_tutorial.evaluation import (
    GENEVAL_TASKS,
    TASKS,
    Clause,
    EvalResult,
    Prompt,
    ceiling,
    evaluate,
    judge,
    prompts_for,
    scene_for,
)
from vislm_tutorial.evaluation.report import PromptResult


def _object(look: str, x: float = 0.5, y: float = 0.5) -> SceneObject:
    colour, shape = look.split()
    return SceneObject(shape, colour, "small", "solid", x, y)


def _reading(*objects: SceneObject, residuals: tuple[float, ...] = ()) -> Reading:
    return Reading("white", objects, residuals or (0.01,) * len(objects))


def _prompt(*include: Clause, exclude: tuple[Clause, ...] = ()) -> Prompt:
    return Prompt("", include, exclude, "by hand")


RED_CIRCLE, BLUE_SQUARE = _object("red circle", x=0.2), _object("blue square", x=0.8)
CIRCLE, SQUARE = Clause("circle"), Clause("square")
TWO_STARS = _prompt(Clause("star", 2), exclude=(Clause("star", 3),))
LEFT = _prompt(SQUARE, Clause("circle", position=("left of", 0)))
RIGHT = _prompt(SQUARE, Clause("circle", position=("right of", 0)))
STARS = tuple(_object("red star", x=x) for x in (0.2, 0.5, 0.8))


@pytest.mark.parametrize(
    ("prompt", "objects", "reasons"),
    [
        (_prompt(CIRCLE), (RED_CIRCLE,), []),
        (_prompt(CIRCLE), (RED_CIRCLE, BLUE_SQUARE), []),  # what no clause names is free
        (_prompt(CIRCLE), (BLUE_SQUARE,), ["expected circle>=1, found 0"]),
        (_prompt(CIRCLE, SQUARE), (RED_CIRCLE, BLUE_SQUARE), []),
        (_prompt(CIRCLE, SQUARE), (RED_CIRCLE,), ["expected square>=1, found 0"]),
        (_prompt(Clause("circle", colour="red")), (RED_CIRCLE, BLUE_SQUARE), []),
        (
            _prompt(Clause("square", colour="red")),
            (RED_CIRCLE, BLUE_SQUARE),
            ["expected red square>=1, found blue"],
        ),
        (TWO_STARS, STARS[:2], []),
        (TWO_STARS, STARS[:1], ["expected star>=2, found 1"]),
        (TWO_STARS, STARS, ["expected star<3, found 3"]),
        (TWO_STARS, (*STARS[:2], RED_CIRCLE), []),
        (LEFT, (RED_CIRCLE, BLUE_SQUARE), []),
        (
            RIGHT,
            (RED_CIRCLE, BLUE_SQUARE),
            ["expected circle right of square, found left of"],
        ),
        (
            LEFT,
            (RED_CIRCLE,),
            ["expected square>=1, found 0", "nothing for circle to be left of"],
        ),
        (
            LEFT,
            (_object("red circle"), BLUE_SQUARE, _object("red square", x=0.52)),
            [],  # GenEval looks at the clearest square only: here the first of equal ones
        ),
        (
            _prompt(Clause("circle", colour="red"), Clause("square", colour="blue")),
            (_object("blue circle", x=0.2), _object("red square", x=0.8)),
            ["expected red circle>=1, found blue", "expected blue square>=1, found red"],
        ),
    ],
)
def test_judgement_by_hand(prompt, objects, reasons):
    checks = judge(prompt, _reading(*objects))
    assert [check.reason for check in checks if not check.holds] == reasons


def test_a_mess_counts_as_nothing():
    (check,) = judge(_prompt(CIRCLE), _reading(RED_CIRCLE, residuals=(0.6,)))
    assert not check.holds and check.kind == "objects"


def test_the_clearest_objects_are_taken():
    """As GenEval takes the detections it trusts most, an unclear second circle is not looked at."""
    prompt = _prompt(Clause("circle", colour="red"))
    red, blue = RED_CIRCLE, _object("blue circle", x=0.8)
    assert all(c.holds for c in judge(prompt, _reading(blue, red, residuals=(0.1, 0.01))))
    assert not all(c.holds for c in judge(prompt, _reading(blue, red, residuals=(0.01, 0.1))))


def test_position_must_hold_for_all_pairs():
    prompt = _prompt(SQUARE, Clause("circle", 2, position=("left of", 0)))
    near, far = _object("red circle", 0.1), _object("red circle", 0.3)
    beyond = _object("red circle", 0.9)
    square = _object("blue square", 0.6)
    assert all(c.holds for c in judge(prompt, _reading(near, far, square)))
    assert not all(c.holds for c in judge(prompt, _reading(near, beyond, square)))


# --- prompts ---


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_many_different_and_repeatable(task):
    prompts = prompts_for(task, 100, seed=1)
    space = {"single_object": 60, "held_out_pairs": 50}.get(task, 100)
    texts = {p.text for p in prompts}
    assert len(prompts) == 100 and (len(texts) == space or task == "shuffled")
    assert prompts == prompts_for(task, 100, seed=1) != prompts_for(task, 100, seed=2)
    assert all(p.task == task for p in prompts)


@pytest.mark.parametrize("task", [t for t in TASKS if t != "shuffled"])
def test_captions_name_what_their_clauses_ask_for(task):
    for prompt in prompts_for(task, 100):
        for clause in prompt.include:
            shapes = SHAPE_SYNONYMS[clause.shape] if task == "synonyms" else (clause.shape,)
            assert any(shape in prompt.text for shape in shapes)
            if clause.colour:
                colours = COLOUR_SYNONYMS[clause.colour] if task == "synonyms" else (clause.colour,)
                assert any(colour in prompt.text for colour in colours)
            if clause.position:
                assert f" {clause.position[0]} " in prompt.text
                target = prompt.include[clause.position[1]].shape
                assert prompt.text.index(clause.shape) < prompt.text.index(target)


def test_what_is_held_out_stays_in_its_task():
    for task in GENEVAL_TASKS:
        for prompt in prompts_for(task, 100):
            assert held_out_pairs().isdisjoint((c.colour, c.shape) for c in prompt.include)
    for prompt in prompts_for("held_out_pairs", 100):
        assert (prompt.include[0].colour, prompt.include[0].shape) in held_out_pairs()
    starts = tuple(t.split("{}")[0] for t in HELD_OUT_TEMPLATES)
    assert all(p.text.startswith(starts) for p in prompts_for("templates", 100))
    assert not set(HELD_OUT_TEMPLATES) & set(TEMPLATES)


def test_counting_excludes_one_more():
    for prompt in prompts_for("counting", 100):
        (include,), (exclude,) = prompt.include, prompt.exclude
        assert include.count in (2, 3, 4)
        assert (exclude.shape, exclude.count) == (include.shape, include.count + 1)


def test_scenes_for_prompts_fulfil_them_and_no_more():
    rng = random.Random(0)
    for task in GENEVAL_TASKS:
        for prompt in prompts_for(task, 20):
            scene = scene_for(prompt, rng)
            assert len(scene.objects) == sum(clause.count for clause in prompt.include)
            assert all(c.holds for c in judge(prompt, _reading(*scene.objects)))
            if task == "position":
                b, a = scene.objects
                assert prompt.include[1].position[0] in relations(a, b)


# --- whole evaluations ---


def test_ceiling_is_near_one():
    result = ceiling(n=50)
    assert result.overall.value >= 0.99
    assert all(score.value >= 0.98 for score in result.scores.values())
    assert "shuffled" not in result.scores


def _oracle(seed: int = 0):
    """A perfect generator: draws what the caption says."""
    own = {p.text: p for task in GENEVAL_TASKS for p in prompts_for(task, 100, seed)}

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        rng = random.Random(seed)
        return render([scene_for(own[caption], rng) for caption in captions])

    return draw


def test_shuffled_captions_are_the_floor():
    result = evaluate(_oracle(), tasks=(*GENEVAL_TASKS, "shuffled"), n=60)
    assert result.overall.value >= 0.99
    assert result.scores["shuffled"].value <= 0.15


def test_an_empty_canvas_scores_nothing_and_says_why():
    result = evaluate(lambda captions, seed: -torch.ones(len(captions), 3, 32, 32), n=10)
    assert result.overall.value == result.overall.high == 0
    assert len(result.failures) == 10 * len(TASKS)
    assert all("found 0" in failure.reasons[0] for failure in result.failures)
    assert result.breakdown["position"] == {"objects": 0.0, "position": 0.0}


def test_breakdown_separates_what_fails():
    """A generator that draws everything red at one place: objects right, colours by luck."""

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        shapes = [next(c.shape for c in by_text[caption].include) for caption in captions]
        return render([Scene("white", (_object(f"red {shape}"),)) for shape in shapes])

    by_text = {p.text: p for p in prompts_for("colours", 80)}
    result = evaluate(draw, tasks=("colours",), n=80)
    parts = result.breakdown["colours"]
    assert parts["objects"] == 1.0
    assert parts["colour"] == result.scores["colours"].value
    assert 0 < parts["colour"] < 0.3
    assert result.overall is None, "an overall score needs all six tasks"


def test_seeds_and_batches_reach_the_generator():
    calls = []

    def draw(captions: list[str], seed: int) -> torch.Tensor:
        calls.append((len(captions), seed))
        return torch.zeros(len(captions), 3, 16, 16)

    evaluate(draw, tasks="counting", n=25, seed=7, batch_size=10)
    assert calls == [(10, 7), (10, 8), (5, 9)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tasks": ("colors",)}, "'colors'"),
        ({"tasks": ()}, "empty"),
        ({"n": 0}, "n is 0"),
        ({"draw": lambda captions, seed: torch.zeros(1, 3, 64, 64)}, r"\(1, 3, 64, 64\) for 5"),
        ({"draw": lambda captions, seed: None}, "NoneType"),
    ],
)
def test_errors_say_what_was_expected(options, named):
    options = {"draw": _oracle(), "tasks": ("colours",), "n": 5, **options}
    with pytest.raises(ValueError, match=named):
        evaluate(**options)


# --- intervals and report ---


def _result(shares: dict[str, float], n: int = 200) -> EvalResult:
    """A made-up evaluation in which a share of each task's pictures is right."""
    results = [
        PromptResult(task, f"{task} {i}", (("objects", i < round(share * n)),))
        for task, share in shares.items()
        for i in range(n)
    ]
    return EvalResult(tuple(results), seed=0, n=n, image_size=64)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_bootstrap_interval_is_the_binomial_one(share):
    n = 200
    score = _result({"colours": share}, n).scores["colours"]
    deviation = (share * (1 - share) / n) ** 0.5
    assert score.value == share and score.n == n
    assert score.low == pytest.approx(share - 1.96 * deviation, abs=0.15 * deviation + 1 / n)
    assert score.high == pytest.approx(share + 1.96 * deviation, abs=0.15 * deviation + 1 / n)


def test_overall_weighs_tasks_alike_and_resamples_inside_them():
    shares = dict(zip(GENEVAL_TASKS, (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), strict=True))
    overall = _result({**shares, "synonyms": 0.0}).overall
    assert overall.value == pytest.approx(0.75)
    variance = sum(p * (1 - p) / 200 for p in shares.values()) / 6**2
    assert overall.high - overall.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)


def test_report_shows_the_same_in_text_html_and_json(tmp_path):
    result = _result({**dict.fromkeys(GENEVAL_TASKS, 0.8), "held_out_pairs": 0.25}, n=20)
    table, data = result.save(tmp_path / "new" / "scenes")
    lines = table.read_text().splitlines()
    assert len({len(line) for line in lines}) == 1, "columns line up"
    assert [line.split("|")[1].strip() for line in lines[2:]][-2:] == [
        "held out pairs",
        "overall (GenEval's six)",
    ]
    assert "0.800" in lines[-1] and "0.250" in lines[-2]
    for cell in ("0.800", "0.250", "held out pairs"):
        assert cell in result._repr_html_()
    assert "GenEval&#x27;s" in result._repr_html_()
    values = json.loads(data.read_text())
    assert values["overall"]["value"] == pytest.approx(0.8)
    assert values["seed"] == 0 and values["n"] == 20 and values["versions"]["torch"]
    again = EvalResult.from_json(data.read_text())
    assert again == result and again.scores == result.scores and again.overall == result.overall


def test_importing_the_package_loads_no_torch():
    code = "import sys, vislm_tutorial.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
