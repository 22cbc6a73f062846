"""The explorer's markup: every frame reachable, labelled, safely quoted, where CSS looks for it."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from vislm_tutorial.viz import frames_explorer, gallery

CAPTIONS = ["a red circle", 'a "<b>bold</b>" & blue </script> star']
AXES = [("caption", CAPTIONS), ("guidance", [1.0, 2.5, 4.0]), ("steps", [5, 10])]
KEYS = list(itertools.product(*(values for _, values in AXES)))


def frame(index: int, size=(16, 12)) -> Image.Image:
    return Image.new("RGB", size, (20 * index, 255 - 20 * index, 7 * index))


FRAMES = {key: frame(index) for index, key in enumerate(KEYS)}


class Page(HTMLParser):
    """All elements as (tag, attributes), the text of each script and option, and open tags left."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.open, self.text = [], [], {"script": "", "option": [], "output": []}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("input", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"unbalanced {tag}"

    def handle_data(self, data):
        tag = self.open[-1] if self.open else None
        if tag == "script":
            self.text["script"] += data
        elif tag in ("option", "output"):
            self.text[tag].append(data)

    def all(self, tag: str, **wanted) -> list[dict]:
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def script_data(page: Page) -> dict:
    return json.loads(re.search(r"const data = (\{.*?\});\n", page.text["script"]).group(1))


def picture_of(style: str) -> Image.Image:
    kind, code = re.search(r"url\(data:image/(png|jpeg);base64,([^)]+)\)", style).groups()
    picture = Image.open(io.BytesIO(base64.b64decode(code)))
    assert picture.format.lower() == kind
    return picture.convert("RGB")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(frames_explorer(FRAMES, AXES, "a drawing of {caption}"))


def test_it_shows_itself_and_is_balanced(page):
    figure = frames_explorer(FRAMES, AXES, "x")
    assert isinstance(figure, str) and figure._repr_html_() == figure
    assert len(repr(figure)) < 60
    assert page.open == []


def test_each_axis_has_one_labelled_control(page):
    controls = page.all("select") + page.all("input")
    assert len(page.all("select")) == 1 and len(page.all("input", type="range")) == 2
    assert {label["for"] for label in page.all("label")} == {c["id"] for c in controls}
    assert page.text["option"] == CAPTIONS
    assert [c["max"] for c in page.all("input")] == ["2", "1"]
    assert page.text["output"] == ["1", "5"]
    assert [c["aria-valuetext"] for c in page.all("input")] == ["1", "5"]


def test_ids_are_unique_even_for_the_same_figure_twice():
    pages = [Page(frames_explorer(FRAMES, AXES, "x")) for _ in range(2)]
    ids = [a["id"] for page in pages for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)) == 8


def test_styles_touch_this_figure_only(page):
    figure_id = page.all("div", role="group")[0]["id"]
    css = re.search(r"<style>(.*?)</style>", frames_explorer(FRAMES, AXES, "x"), re.S).group(1)
    selectors = [s for rule in re.findall(r"([^{}]+)\{", css) for s in rule.split(",")]
    assert selectors and all(s.strip().startswith("#vislm-") for s in selectors)
    assert "WIDTH" not in css and figure_id.startswith("vislm-")


def test_nothing_is_fetched():
    html = re.sub(r"url\(data:[^)]+\)", "", frames_explorer(FRAMES, AXES, "x"))
    assert "http" not in html and "src=" not in html and "url(" not in html


def test_captions_cannot_break_out_of_the_markup(page):
    assert page.all("b") == []
    assert len(page.all("script")) == 1
    assert script_data(page)["names"][0] == CAPTIONS


def test_alt_text_follows_the_selection(page):
    data = script_data(page)
    assert len(data["alt"]) == len(set(data["alt"])) == len(KEYS)
    assert data["alt"][0] == "a drawing of a red circle, guidance: 1, steps: 5"
    assert data["alt"][3] == "a drawing of a red circle, guidance: 2.5, steps: 10"
    (view,) = page.all("div", role="img")
    assert view["aria-label"] == data["alt"][0]


def test_alt_text_may_be_a_function():
    page = Page(frames_explorer(FRAMES, AXES, lambda c, g, s: f"{c} at {g} in {s}"))
    assert script_data(page)["alt"][0] == "a red circle at 1.0 in 5"


def test_every_frame_is_where_the_script_looks(page):
    """Redo what the browser does with background-size and background-position."""
    data = script_data(page)
    (view,) = page.all("div", role="img")
    sprite = picture_of(view["style"])
    size = re.search(r"background-size:([\d.]+)% ([\d.]+)%", view["style"]).groups()
    assert [float(s) * n / 100 for s, n in zip(size, (16, 12), strict=True)] == pytest.approx(
        sprite.size, abs=0.01
    )
    for index, key in enumerate(KEYS):
        row, column = divmod(index, len(data["x"]))
        left = data["x"][column] / 100 * (sprite.width - 16)
        top = data["y"][row] / 100 * (sprite.height - 12)
        assert (left, top) == pytest.approx((round(left), round(top)), abs=1e-3)
        left, top = round(left), round(top)
        # 2 pixels more on each side: the neighbours must not shine through when scaled
        seen = np.asarray(sprite.crop((left - 2, top - 2, left + 18, top + 14))).astype(int)
        assert np.abs(seen - np.asarray(FRAMES[key])[0, 0]).max() <= 6, key


def test_photograph_like_frames_stay_small():
    noise = np.random.default_rng(0).normal(0, 40, (8, 64, 64, 3)).cumsum(1).cumsum(2) / 20
    frames = {(i,): Image.fromarray(n.clip(0, 255).astype(np.uint8)) for i, n in enumerate(noise)}
    html = frames_explorer(frames, [("seed", list(range(8)))], "noise")
    assert "image/jpeg" in html
    assert len(html) < 8 * 64 * 64 * 3


def test_start_is_shown_without_any_script():
    page = Page(frames_explorer(FRAMES, AXES, "{steps}", start=(CAPTIONS[1], 4.0, 10)))
    data = script_data(page)
    (view,) = page.all("div", role="img")
    assert view["aria-label"] == data["alt"][-1]
    last = len(KEYS) - 1
    shown = f"{data['x'][last % len(data['x'])]}% {data['y'][last // len(data['x'])]}%"
    assert f"background-position:{shown}" in view["style"]
    assert [c["value"] for c in page.all("input")] == ["2", "1"]
    assert "selected" in page.all("option", value="1")[0]


def test_words_and_truth_values_are_chosen_from_a_list():
    frames = {(flag,): frame(flag) for flag in (False, True)}
    page = Page(frames_explorer(frames, [("EMA", [False, True])], "x"))
    assert page.text["option"] == ["False", "True"] and page.all("input") == []


@pytest.mark.parametrize(
    "change, match",
    [
        ({"frames": dict(list(FRAMES.items())[:-1])}, "missing.*4.0, 10"),
        ({"frames": {**FRAMES, ("other", 1.0, 5): frame(0)}}, "unexpected.*other"),
        ({"frames": {**FRAMES, KEYS[0]: frame(0, (8, 8))}}, "one size"),
        ({"axes": []}, "axes is empty"),
        ({"axes": [("seed", [])]}, "without values"),
        ({"alt": "{guidence}"}, "names guidence; the axes are caption, guidance, steps"),
        ({"start": ("no", 1.0, 5)}, "start is"),
    ],
)
def test_mistakes_are_named(change, match):
    arguments = {"frames": FRAMES, "axes": AXES, "alt": "x", **change}
    with pytest.raises(ValueError, match=match):
        frames_explorer(**arguments)


def test_a_sprite_too_large_for_phones_is_refused():
    big = Image.new("RGB", (3000, 3000))
    frames = {(i,): big for i in range(9)}
    with pytest.raises(ValueError, match="over 8192"):
        frames_explorer(frames, [("i", list(range(9)))], "x")


# --- gallery ------------------------------------------------------------------------------------


def test_gallery_shows_every_script_safely():
    html = gallery(
        torch.zeros(2, 3, 8, 8), ["一只猫", "<i>cat</i>"], title="A & B", credit="C", language="zh"
    )
    page = Page(html)
    assert page.open == [] and page.all("i") == []
    assert [image["alt"] for image in page.all("img")] == ["一只猫", "<i>cat</i>"]
    assert len(page.all("div", lang="zh")) == 2
    assert "A &amp; B" in html and html._repr_html_() == html


@pytest.mark.parametrize(
    "arguments", [(torch.zeros(2, 3, 8, 8), ["one"]), ([], []), (torch.zeros(1, 3, 8, 8), ["a"], 0)]
)
def test_gallery_says_what_is_wrong(arguments):
    with pytest.raises(ValueError, match="needs 1 each|columns is 0"):
        gallery(*arguments)
