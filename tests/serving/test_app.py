"""The Gradio app, asked through its functions: no browser, no network."""

from __future__ import annotations

import asyncio
import os

import pytest
from fake_model import FakeModel

from vislm_tutorial.serving.app import build_app
from vislm_tutorial.serving.asking import Limits
from vislm_tutorial.serving.collect import CaptionLog

gradio = pytest.importorskip("gradio")


def functions(app) -> list:
    """draw, right, wrong: what the buttons call."""
    return [block.fn for block in app.fns.values() if block.fn.__name__ in ("answer", "<lambda>")]


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> CaptionLog:
    return CaptionLog(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def app(model, log):
    return build_app(model, log, Limits(steps=50))


def test_it_draws_what_is_asked(app, model):
    draw, *_ = functions(app)
    pictures, said, identity = draw("a red circle", 2, 3.0, 7, 5, False)
    assert [label for _, label in pictures] == ["seed 5", "seed 6"]
    assert pictures[0][0].size == (8, 8) and (said, identity) == ("", "")
    options = {"num_inference_steps": 7, "guidance_scale": 3.0}
    assert model.calls[-1] == (["a red circle"], [5, 6], options)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("  ", 1, 3.0, 7, 0, False), "empty"),
        (("a", 9, 3.0, 7, 0, False), "images_per_caption: 9"),
        (("a", 1, 3.0, 51, 0, False), "steps: 51; expected 1 to 50"),
        (("unknown setting", 1, 3.0, 7, 0, False), "no such setting"),
    ],
)
def test_what_it_refuses_is_said_in_the_page(app, asked, named):
    draw, *_ = functions(app)
    with pytest.raises(gradio.Error, match=named):
        draw(*asked)


def test_consent_and_feedback_reach_the_log(app, log):
    draw, right, wrong = functions(app)
    *_, none = draw("not mine to keep", 1, 3.0, 7, 0, False)
    assert "nothing to note" in right(none) and log.read() == []
    _, said, identity = draw("a crimson disc", 1, 3.0, 7, 3, True)
    assert "kept" in said and log.read()[-1].caption == "a crimson disc"
    right(identity)
    assert log.read()[-1].right is True
    wrong(identity)
    assert log.read()[-1].right is False
    *_, private = draw("mail me at a@b.example", 1, 3.0, 7, 0, True)
    assert private == "" and len(log.read()) == 1


def test_the_page_is_wired(app):
    (draw,) = [block for block in app.fns.values() if block.api_name == "draw"]
    assert len(draw.inputs) == 6 and len(draw.outputs) == 3 and draw.concurrency_limit == 1
    limits = {b.label: b.maximum for b in draw.inputs if getattr(b, "maximum", None) is not None}
    assert limits["Steps"] == 50 and limits["Pictures"] == 4
    # As the browser would ask, through Gradio's own conversion of what comes in and goes out.
    values = ["a red circle", 1, 3.0, 7, 0, False]
    answer = asyncio.run(app.process_api(draw, values))["data"]
    assert len(answer[0]) == 1


def test_nothing_is_told_to_gradio(app):
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and not app.analytics_enabled
    without = build_app(FakeModel())
    boxes = [b for b in without.blocks.values() if type(b).__name__ == "Checkbox"]
    assert [box.visible for box in boxes] == [False]
