"""The sheet draws what the renderer draws, and its figures are what its lines span."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from vislm_tutorial.data.products import KINDS, SCALES, Product, describe, render, sample_products
from vislm_tutorial.data.products.parts import parts
from vislm_tutorial.viz.product_sheet import extents, product_sheet

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def products() -> list[Product]:
    found = sample_products(120, seed=8)
    return [p for kind in KINDS for p in [q for q in found if q.kind == kind][:5]]


def _rasterised(svg: str, side: int) -> np.ndarray:
    """(H, W, 3) in [0, 1], by a renderer that shares nothing with ours."""
    resvg_py = pytest.importorskip("resvg_py")
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB")) / 255


@pytest.mark.parametrize("side", [64, 192])
def test_the_sheet_rasterises_to_the_picture(products, side):
    images = (render(products, side).permute(0, 2, 3, 1).numpy() + 1) / 2
    for product, image in zip(products, images, strict=True):
        drawn = _rasterised(product_sheet(product, dimensions=False), side)
        assert np.abs(drawn - image).mean() < 0.006, product
        # A pixel wrong by this much would be a whole pixel's shift of an edge, or a missing part.
        assert np.abs(drawn - image).max() < 0.5, product
    other = render([products[1]], side)[0].permute(1, 2, 0).numpy() / 2 + 0.5
    drawn = _rasterised(product_sheet(products[0], dimensions=False), side)
    assert np.abs(drawn - other).mean() > 0.012, "another mug is told apart"


def test_dimensions_join_edges_that_lie_a_measure_apart():
    for product in sample_products(80, seed=2):
        assert extents(product) == pytest.approx(product.named, abs=0.05), product


def test_each_dimension_line_is_as_long_as_its_figure(products):
    for product in products:
        root = ElementTree.fromstring(product_sheet(product))
        for name, value in product.named.items():
            group = root.find(f".//{SVG}g[@id='dimension-{name}']")
            assert f"{value:g} mm" in group.find(f"{SVG}text").text
            path = group.find(f"{SVG}path").get("d")
            strokes = [
                tuple(map(float, s)) for s in re.findall(r"M (\S+) (\S+) L (\S+) (\S+)", path)
            ]
            first, second = strokes[1], strokes[2]  # the extension lines
            apart = max(abs(first[0] - second[0]), abs(first[1] - second[1]))
            assert apart == pytest.approx(value, abs=0.05), (product, name)


def test_every_part_is_a_named_group_with_a_path(products):
    for product in products:
        root = ElementTree.fromstring(product_sheet(product, dimensions=False))
        expected = [p.name for p in parts(product.kind, torch.tensor([product.measures]))]
        assert [g.get("id") for g in root.findall(f"{SVG}g")] == expected
        assert all(g.find(f"{SVG}path").get("d").startswith("M ") for g in root.findall(f"{SVG}g"))
        side = SCALES[product.kind] * 64
        assert root.get("viewBox") == f"0 0 {side:g} {side:g}"


def test_sheets_are_named_for_readers_who_do_not_see_them(products):
    for product in products:
        root = ElementTree.fromstring(product_sheet(product))
        title, text = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert root.get("aria-labelledby").split() == [title.get("id"), text.get("id")]
        assert title.text == describe(product) == root.find(f"{SVG}text[@id='name']").text
        assert all(f"{value:g} mm" in text.text for value in product.named.values())


def test_everything_stays_on_the_card(products):
    for product in products:
        root = ElementTree.fromstring(product_sheet(product))
        left, top, width, height = map(float, root.get("viewBox").split())
        card = root.find(f"{SVG}rect[@id='card']")
        assert [float(card.get(k)) for k in ("x", "y", "width", "height")] == [
            left, top, width, height,
        ]  # fmt: skip
        for text in root.iter(f"{SVG}text"):
            size = float(text.get("font-size"))
            half = 0.275 * size * len(text.text)  # a letter is about 0.5 of the size wide
            x, y = float(text.get("x")), float(text.get("y"))
            dx, dy = (size, half) if text.get("transform") else (half, size)
            assert left <= x - dx and x + dx <= left + width, (product, text.text)
            assert top <= y - dy and y + dy <= top + height, (product, text.text)


def test_measures_are_written_to_a_tenth():
    sheet = product_sheet(Product("mug", "blue", (110.2637, 66.0, 58.04, 27.05)))
    assert all(f"{mm} mm</text>" in sheet for mm in ("110.3", "66", "58"))
    assert "110.26" not in sheet
