"""The smallest piece of the study of chapter 8, run again: about eight minutes on one slow core."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import evidence
import pytest

from vislm_tutorial.evaluation.control import share
from vislm_tutorial.training.datasets import load_images

ROW = evidence.Row("MiniLM", 100, 0)


def score(count: dict):
    """A share with Wilson's interval, 95 %."""
    return share([True] * count["right"] + [False] * (count["n"] - count["right"]))


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> SimpleNamespace:
    """As the study's, on a pool that begins like the study's and ends sooner."""
    runs = tmp_path_factory.mktemp("evidence")
    return SimpleNamespace(runs=runs, steps=1500, pool=3000, prompts=100)


def test_its_pictures_are_those_of_the_study(options):
    short, long = (
        load_images(evidence.recipe_of(ROW, options.steps, pool).data) for pool in (3000, 4000)
    )
    shown = evidence.HELD + ROW.pairs
    assert short.captions[:shown] == long.captions[:shown]
    assert short.things[:shown] == long.things[:shown]


def test_the_row_comes_out_again_within_its_intervals(options):
    stored = json.loads(Path(evidence.RESULTS).read_text(encoding="utf-8"))
    before = next(
        row
        for row in stored["rows"]
        if (row["encoder"], row["pairs"], row["seed"]) == (ROW.encoder, ROW.pairs, ROW.seed)
    )
    evidence.prepare([ROW], options)
    again = evidence.run(ROW, options)
    assert again["captions"] == before["captions"] == 100
    assert again["loss"] == pytest.approx(before["loss"], rel=0.15)
    for test, count in before["scores"].items():
        old, new = score(count), score(again["scores"][test])
        assert new.low <= old.high and old.low <= new.high, f"{test}: {old}, again {new}"
