"""The drawing desk hands its settings on, shows the picture, and takes errors kindly."""

from __future__ import annotations

import base64
import io
import re
import sys
import warnings
from types import SimpleNamespace

import pytest
from PIL import Image

from vislm_tutorial.viz import drawing_widget

widgets = pytest.importorskip("ipywidgets")


class FakePipe:
    def __init__(self, error: Exception | None = None, warning: str | None = None):
        self.error, self.warning, self.calls = error, warning, []

    def __call__(self, caption, **settings):
        self.calls.append((caption, settings))
        if self.warning:
            warnings.warn(self.warning, UserWarning, stacklevel=2)
        if self.error:
            raise self.error
        return SimpleNamespace(images=[Image.new("RGB", (8, 8), "red")])


def parts(desk) -> dict:
    """The children by their class names, and the last two, which are HTML, by what they hold."""
    *controls, message, picture = desk.children
    named = {type(child).__name__: child for child in controls}
    return named | {"message": message, "picture": picture}


def press(desk) -> None:
    parts(desk)["Button"].click()


def test_settings_reach_the_pipeline_and_the_picture_is_shown():
    pipe = FakePipe()
    desk = drawing_widget(pipe)
    found = parts(desk)
    found["Text"].value = "a green star"
    found["FloatSlider"].value, found["IntSlider"].value = 2.5, 7
    found["BoundedIntText"].value = 11
    press(desk)
    ((caption, settings),) = pipe.calls
    assert caption == "a green star"
    assert settings["guidance_scale"] == 2.5 and settings["num_inference_steps"] == 7
    assert settings["generator"].initial_seed() == 11
    drawn = re.fullmatch(
        r'<img src="data:image/png;base64,(.+?)" alt="a green star" .*>', found["picture"].value
    )
    assert Image.open(io.BytesIO(base64.b64decode(drawn[1]))).getpixel((0, 0)) == (255, 0, 0)
    assert "a green star" in found["message"].value and "seed 11" in found["message"].value


def test_an_error_is_shown_and_the_desk_stays_usable():
    pipe = FakePipe(error=ValueError("scheduler 'x' is <unknown>"))
    desk = drawing_widget(pipe)
    press(desk)
    message = parts(desk)["message"].value
    assert "Not drawn" in message and "&lt;unknown&gt;" in message
    assert not parts(desk)["Button"].disabled
    pipe.error = None
    press(desk)
    assert "Not drawn" not in parts(desk)["message"].value and parts(desk)["picture"].value


def test_an_empty_caption_never_reaches_the_pipeline():
    pipe = FakePipe()
    desk = drawing_widget(pipe, caption="   ")
    press(desk)
    assert pipe.calls == [] and "caption is empty" in parts(desk)["message"].value


def test_warnings_are_shown_as_notes():
    desk = drawing_widget(FakePipe(warning="the caption was cut"))
    press(desk)
    assert "Note: the caption was cut" in parts(desk)["message"].value


def test_the_button_is_off_while_drawing():
    states = []

    def pipe(caption, **settings):
        states.append(parts(desk)["Button"].disabled)
        return FakePipe()(caption)

    desk = drawing_widget(pipe)
    press(desk)
    assert states == [True] and not parts(desk)["Button"].disabled


def test_without_ipywidgets_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        drawing_widget(FakePipe())
