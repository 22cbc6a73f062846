"""`vislm evaluate --pipeline` scores any function of captions and a seed, or says what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from vislm_tutorial.cli import app
from vislm_tutorial.evaluation import EvalResult, load_function
from vislm_tutorial.evaluation.outside import checked, names_function, parameters_of

SOURCE = """
import random
import torch
from helper_beside_it import SIDE
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import sample_scene

def anything(captions, seed):
    rng = random.Random(seed)
    return render([sample_scene(rng) for _ in captions], SIDE)

anything.parameters = 12

def nan(captions, seed):
    return torch.full((len(captions), 3, SIDE, SIDE), float("nan"))

def grey(captions, seed):
    return -torch.ones(len(captions), 1, SIDE, SIDE)

def oblong(captions, seed):
    return -torch.ones(len(captions), 3, SIDE, 2 * SIDE)

def few(captions, seed):
    return -torch.ones(len(captions) - 1, 3, SIDE, SIDE)

def array(captions, seed):
    return anything(captions, seed).numpy()

def integers(captions, seed):
    return torch.zeros(len(captions), 3, SIDE, SIDE, dtype=torch.uint8)

def bytes_(captions, seed):
    return 255 * torch.rand(len(captions), 3, SIDE, SIDE)

def beyond(captions, seed):
    return 1.5 * anything(captions, seed)

def unit(captions, seed):
    return anything(captions, seed) / 2 + 0.5

def factory():
    return anything

def breaks(captions, seed):
    raise RuntimeError("out of paint")

NUMBER = 3
"""


@pytest.fixture(autouse=True)
def _source(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "helper_beside_it.py").write_text("SIDE = 32")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISLM_DEBUG", "")


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    """What a function's file imports is forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in ("mine", "helper_beside_it", "_outside_mine"):
            del sys.modules[name]


def evaluate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ("evaluate", "--n", "3", "--tasks", "colours", *arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("home", ["mine.py", "mine", "./mine.py"])
def test_a_function_is_scored_and_its_maker_kept(home):
    said = evaluate("--pipeline", f"{home}:anything", "--name", "luck", "-o", "out", "--seed", "4")
    assert "| colours" in said and "wrote out.md and out.json" in said
    result = EvalResult.from_json(Path("out.json").read_text())
    assert (result.name, result.parameters, result.image_size) == ("luck", 12, 32)
    values = json.loads(Path("out.json").read_text())
    assert 0 < values["seconds"] < 60 and len(values["prompt_hashes"]["colours"]) == 64
    given = f"--pipeline {home}:anything --n 3 --tasks colours --output out --seed 4 --name luck"
    assert values["command"].split(" ", 2)[:2] == ["vislm", "evaluate"]
    assert sorted(values["command"].split()[2:]) == sorted(given.split())


def test_without_a_name_it_has_the_functions(tmp_path):
    evaluate("--pipeline", str(tmp_path / "mine.py:anything"), "-o", "out")
    assert json.loads(Path("out.json").read_text())["name"] == "mine.py:anything"


def test_groups_of_tasks():
    said = evaluate("--pipeline", "mine:anything", "--tasks", "concepts, paraphrases,counting")
    named = [line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ")][2:]
    assert named == [
        *(f"concepts {k}{more}" for k in range(1, 8) for more in ("", ", fraction")),
        *("paraphrases", "paraphrases, all of a group", "paraphrases, none of a group"),
        "counting",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine.py:nan", "mine.py:nan returned NaN or infinite values in 3 of 3 pictures"),
        ("mine.py:grey", "draw returned (3, 1, 32, 32) for 3 captions; expected a tensor of"),
        ("mine.py:oblong", "draw returned (3, 3, 32, 64) for 3 captions"),
        ("mine.py:few", "draw returned (2, 3, 32, 32) for 3 captions"),
        ("mine.py:array", "draw returned ndarray for 3 captions"),
        ("mine.py:integers", "images is torch.uint8; expected floats in [-1, 1]"),
        ("mine.py:bytes_", "expected [-1, 1], perhaps images / 127.5 - 1"),
        ("mine.py:beyond", "to 1.44; expected [-1, 1], perhaps images.clamp(-1, 1)"),
        ("mine.py:factory", "mine.py:factory is not a function of captions and a seed"),
        ("mine.py:NUMBER", "mine.py:NUMBER is not a function of captions and a seed"),
        ("mine.py:breaks", "out of paint"),
        ("mine.py:anythin", "mine.py has no 'anythin'; its functions: anything, array, beyond,"),
        ("mine.py:", "'mine.py:' names no function; expected module:function"),
        ("mine.py:not a name", "names no function"),
        ("yours.py:anything", "yours.py does not exist"),
        ("yours_truly:anything", "there is no module 'yours_truly'"),
        ("yours_truly.models:anything", "there is no module 'yours_truly'"),
    ],
)
def test_what_is_wrong_is_one_line(name, said):
    (line,) = evaluate("--pipeline", name, code=1).strip().splitlines()
    assert line.startswith("vislm: ") and said in line


def test_what_a_module_lacks_is_not_blamed_on_its_name():
    Path("mine.py").write_text("import surely_not_installed")
    for name in ("mine:anything", "mine.py:anything"):
        assert "surely_not_installed" in evaluate("--pipeline", name, code=1)


def test_pictures_in_0_to_1_are_warned_of_once():
    said = evaluate("--pipeline", "mine.py:unit", "--n", "60")
    assert said.count("returned no value below 0") == 1 and "| colours" in said
    assert "below 0" not in evaluate("--pipeline", "mine.py:anything")


def test_empty_white_pictures_are_not_taken_for_another_range(recwarn):
    white = torch.full((2, 3, 8, 8), 0.95)
    pictures = iter([torch.cat([white, -white]), white, white])
    draw = checked(lambda captions, seed: next(pictures), "mine")
    for seed in range(3):
        draw(["a", "b"], seed)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="mine returned no value below 0"):
        checked(lambda captions, seed: white, "mine")(["a", "b"], 0)


def test_settings_of_pipelines_are_refused():
    said = evaluate("--pipeline", "mine.py:anything", "--steps", "4", code=1)
    assert "--guidance, --steps and --scheduler are for pipelines" in said


def test_unknown_tasks_are_answered_with_the_groups():
    said = evaluate("--tasks", "concept", code=1)
    assert "task is 'concept'" in said and "groups geneval, ours, concepts, all" in said


def test_folders_are_no_functions(tmp_path):
    (tmp_path / "a:b").mkdir()
    for name in (
        "runs/scenes",
        "C:\\runs\\scenes",
        "C:/runs",
        "owner/model",
        str(tmp_path / "a:b"),
    ):
        assert not names_function(name), name
    for name in ("a.b:c", "x.py:f", "x.py:", "C:\\x.py:f"):
        assert names_function(name), name


def test_checked_hands_on_what_is_right():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert checked(lambda captions, seed: images)(["a", "b"], 0) is images
    assert load_function("mine.py:anything")(["a"], 1).shape == (1, 3, 32, 32)


def test_parameters_are_counted_once():
    layer = nn.Linear(3, 2)
    pipe = type("Pipe", (), {"components": {"a": layer, "b": nn.Sequential(layer), "c": "words"}})()
    assert parameters_of(pipe) == 8
    assert parameters_of(lambda captions, seed: None) is None
    assert parameters_of(layer) is None, "a module's `parameters` is a method and no number"
