"""The viewer's markup: flat picture first, nothing loaded unasked, no collisions."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from pages import ROOT
from PIL import Image

from vislm_tutorial.viz.panorama import CDN, LEAST_WIDTH, PANNELLUM, panorama_viewer

WEB = ROOT / "book" / "web"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A hue that goes once round, so its edges match."""
    turn = np.arange(256) / 256 * 2 * np.pi
    rows = [127 + 120 * np.cos(turn - shift) for shift in (0, 2.1, 4.2)]
    return Image.fromarray(np.tile(np.stack(rows, -1).astype(np.uint8), (128, 1, 1)))


def _shown(html: str) -> Image.Image:
    content = re.search(r'<img src="data:image/\w+;base64,([^"]+)"', html)[1]
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_without_scripts_the_flat_picture_is_all_there_is(picture):
    html = panorama_viewer(picture, caption='a "red" <house>')._repr_html_()
    assert 'alt="a &quot;red&quot; &lt;house&gt;"' in html
    assert '<p class="words">a &quot;red&quot; &lt;house&gt;</p>' in html
    assert re.search(r'<div class="globe"[^>]* hidden>', html)
    assert re.search(r"<button[^>]* hidden>Look around</button>", html)
    assert not re.search(r'(src|href)="(https?:|_static)', html), "nothing is loaded unasked"


def test_the_globe_can_be_focused_and_has_a_name(picture):
    globe = re.search(r'<div class="globe"[^>]*>', panorama_viewer(picture, alt="a hue"))[0]
    assert 'tabindex="0"' in globe and 'role="application"' in globe
    assert 'aria-label="a hue. Turn with the arrow keys' in globe


def test_alt_text_may_differ_from_the_caption(picture):
    html = panorama_viewer(picture, caption="drawn", alt="a hue that goes round")
    assert 'alt="a hue that goes round"' in html and '<p class="words">drawn</p>' in html
    assert '<p class="words">' not in panorama_viewer(picture, alt="a hue")


def test_enlarging_keeps_the_picture_and_its_seam(picture):
    shown = _shown(panorama_viewer(picture, alt="a hue"))
    assert shown.size == (LEAST_WIDTH, LEAST_WIDTH // 2)
    pixels = np.asarray(shown.convert("RGB"), dtype=float)
    back = pixels.reshape(128, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(back - np.asarray(picture)).max() < 6
    steps = np.abs(np.diff(pixels, axis=1)).mean()
    assert np.abs(pixels[:, 0] - pixels[:, -1]).mean() < 2 * steps + 1
    large = picture.resize((2048, 1024))
    assert _shown(panorama_viewer(large, alt="a hue")).size == (2048, 1024)


def test_tensors_lists_and_batches_are_taken(picture):
    tensor = torch.zeros(3, 64, 128)
    assert panorama_viewer(tensor, alt="grey").count("<img") == 1
    batch = panorama_viewer(tensor.expand(2, 3, 64, 128), caption=["one", "two"])
    assert batch.count("<img") == 2 and 'alt="one"' in batch and 'alt="two"' in batch
    assert panorama_viewer([picture, picture], alt="a hue").count("<img") == 2


def test_several_viewers_do_not_collide(picture):
    html = panorama_viewer([picture] * 3, alt="a hue") + panorama_viewer(picture, alt="a hue")
    ids = re.findall(r'<div id="([^"]+)" class="vislm-panorama"', html)
    assert len(ids) == len(set(ids)) == 4
    for style, figure in zip(re.findall(r"<style>(.*?)</style>", html, re.S), ids, strict=True):
        rules = re.findall(r"(?:^|[},{\n])\s*([#.][\w-]+)", style)
        assert rules and set(rules) == {f"#{figure}"}, "every rule is for this viewer alone"


def test_the_version_is_the_one_that_the_book_serves():
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]["pannellum"]
    assert wanted == PANNELLUM and f"@{wanted}/" in CDN
    assert '"pannellum": ("COPYING", "build/' in (WEB / "vendor.py").read_text()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: panorama_viewer(p.resize((128, 128)), alt="x"), "128 x 128"),
        (lambda p: panorama_viewer(p), "neither caption nor alt"),
        (lambda p: panorama_viewer([p, p], caption=["x"]), "1 caption texts for 2"),
        (lambda p: panorama_viewer([], alt="x"), "empty"),
    ],
)
def test_errors_name_what_was_given(make, named, picture):
    with pytest.raises(ValueError, match=named):
        make(picture)
