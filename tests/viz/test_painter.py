"""What is painted by mouse, keys and finger, and what is set from Python, is one mask."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from vislm_tutorial.viz import mask_painter

CHROMIUM = os.environ.get("VISLM_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = {"width": 1000, "height": 800}, {"width": 390, "height": 844}

# What the script needs of a notebook's model; `sent` is what a kernel would have received.
STUB = """async ([script, state]) => {
  const heard = {};
  window.sent = { ...state };
  window.model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; (heard["change:" + name] || []).map((f) => f()); },
    save_changes: () => { window.sent = { ...state }; },
    on: (name, listener) => (heard[name] ||= []).push(listener),
  };
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  (await import(address)).default.render({ model, el: document.querySelector("main") });
}"""


@pytest.fixture
def image():
    return torch.rand(3, 48, 64) * 2 - 1


def need_anywidget() -> None:
    if find_spec("anywidget") is None and not os.environ.get("CI"):
        pytest.skip("needs anywidget: pip install 'vislm-tutorial[widgets]'")


@pytest.fixture
def painter(image):
    need_anywidget()
    return mask_painter(image, brush=6)


# --- Python --------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", [False, True])
def test_a_mask_comes_back_as_it_was(image, corner):
    need_anywidget()
    mask = torch.rand(48, 64) > 0.5
    mask[0, 0] = mask[-1, -1] = corner
    for kind in (mask, mask.float(), mask.long()):
        kept = mask_painter(image, kind).mask
        assert kept.dtype == torch.bool and torch.equal(kept, mask)


def test_nothing_is_painted_at_first_and_the_mask_can_be_set(painter):
    assert painter.mask.shape == (48, 64) and not painter.mask.any()
    painter.mask = torch.ones(48, 64)
    assert painter.mask.all()
    assert repr(painter) == "<mask painter, 3072 of 3072 pixels painted>"


def test_what_the_notebook_sends_is_the_mask(painter):
    painter.set_state({"runs": [64 + 3, 5, 48 * 64 - 64 - 8]})
    assert painter.mask.nonzero().tolist() == [[1, column] for column in range(3, 8)]


def test_a_mask_of_another_shape_is_refused(image, painter):
    with pytest.raises(ValueError, match=r"\(64, 48\); expected that of the picture, \(48, 64\)"):
        mask_painter(image, torch.zeros(64, 48))
    with pytest.raises(ValueError, match=r"\(1, 48, 64\); expected"):
        painter.mask = torch.zeros(1, 48, 64)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 8, 8), torch.zeros(8, 8)])
def test_a_picture_of_another_shape_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected one .* \(3, H, W\)"):
        mask_painter(wrong)


@pytest.mark.parametrize("brush", [0, 49, 2.5, True])
def test_a_brush_that_cannot_be_is_refused(image, brush):
    with pytest.raises(ValueError, match="whole pixels from 1 to 48"):
        mask_painter(image, brush=brush)


def test_without_anywidget_the_way_out_is_named(monkeypatch, image):
    sys.modules[mask_painter.__module__]._painter_class.cache_clear()
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match="pip install anywidget"):
        mask_painter(image)


# --- Chromium ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        reason = f"no Chromium at {CHROMIUM}: `apt-get install chromium`"
        if os.environ.get("VISLM_REQUIRE_BROWSER"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Desk:
    """A painter on a blank page; `mask()` is what Python has after what the page sent."""

    def __init__(self, page, painter):
        self.page, self.painter, self.errors = page, painter, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda sent: self.asks_outside(sent.url))
        page.set_content("<meta name=viewport content='width=device-width'><main></main>")
        names = ("picture", "shape", "runs", "brush", "label")
        state = {name: getattr(painter, name) for name in names}
        page.evaluate(STUB, [painter._esm, state])
        self.canvas = page.locator("canvas")

    def asks_outside(self, address):
        if not address.startswith(("data:", "blob:")):
            self.errors.append(f"asked for {address}")

    def mask(self):
        self.painter.set_state({"runs": self.page.evaluate("sent.runs")})
        assert self.errors == []
        return self.painter.mask

    def place(self, column, row):
        """The middle of a pixel of the picture, in those of the page."""
        box = self.canvas.bounding_box()
        return (
            box["x"] + (column + 0.5) * box["width"] / 64,
            box["y"] + (row + 0.5) * box["height"] / 48,
        )

    def drag(self, start, end):
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end))  # in one leap, as a fast hand does
        self.page.mouse.up()

    def brush(self, size):
        self.page.get_by_role("slider", name="Brush").fill(str(size))


@pytest.fixture
def desk(browser, painter):
    page = browser.new_page(viewport=WIDE)
    yield Desk(page, painter)
    page.close()


def box_of(mask):
    """(left, top, right, bottom) of what is painted, both ends in it."""
    rows, columns = mask.nonzero().unbind(1)
    return tuple(int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max()))


def test_a_drag_paints_its_whole_way(desk):
    desk.brush(5)
    desk.drag((10, 20), (40, 20))
    mask = desk.mask()
    assert box_of(mask) == (8, 18, 42, 22)
    assert mask[18:23, 10:41].all()
    assert not mask[18, 8] and not mask[22, 42]  # the ends are round
    assert desk.painter.brush == 6 and desk.page.evaluate("sent.brush") == 5


@pytest.mark.parametrize("size, painted", [(1, 1), (2, 4), (3, 9)])
def test_a_click_paints_as_many_pixels_as_the_brush_has(desk, size, painted):
    desk.brush(size)
    desk.page.mouse.click(*desk.place(30, 7))
    mask = desk.mask()
    assert mask[7, 30] and mask.sum() == painted


def test_a_stroke_that_leaves_the_picture_stays_in_its_row(desk):
    desk.brush(1)
    desk.drag((60, 10), (90, 10))
    assert desk.mask().nonzero().tolist() == [[10, column] for column in range(60, 64)]


def test_the_other_mouse_buttons_paint_nothing(desk):
    desk.page.mouse.click(*desk.place(30, 20), button="right")
    desk.page.mouse.move(*desk.place(40, 30))
    assert not desk.mask().any()


def test_the_eraser_takes_away_and_clear_takes_all(desk):
    desk.brush(9)
    desk.drag((10, 20), (40, 20))
    before = desk.mask().clone()
    desk.page.get_by_role("button", name="Erase").click()
    desk.brush(3)
    desk.drag((20, 10), (20, 40))
    after = desk.mask()
    assert box_of(before & ~after) == (19, 16, 21, 24) and not (after & ~before).any()
    desk.page.get_by_role("button", name="Clear").click()
    assert not desk.mask().any()
    desk.page.get_by_role("button", name="Erase", pressed=True).click()
    desk.page.mouse.click(*desk.place(5, 5))
    assert desk.mask().sum() == 9


def test_keys_move_the_brush_paint_and_erase(desk):
    desk.brush(1)
    desk.page.keyboard.press("Shift+Tab")  # from the slider back to the picture
    assert desk.page.evaluate("document.activeElement.tagName") == "CANVAS"
    for key in ("ArrowLeft", "ArrowUp", "Space", "ArrowRight", "Space", "ArrowDown", "Space"):
        desk.page.keyboard.press(key)  # from the middle, column 32 and row 24
    assert desk.mask().nonzero().tolist() == [[23, 31], [23, 32], [24, 32]]
    assert desk.page.locator(".status").inner_text() == "Column 33, row 25. 3 of 3072 painted."
    desk.page.keyboard.press("Delete")
    desk.page.keyboard.press("ArrowUp")
    desk.page.keyboard.press("Backspace")
    assert desk.mask().nonzero().tolist() == [[23, 31]]


def test_the_brush_seen_moves_with_the_keys_and_not_beyond_the_edge(desk):
    desk.canvas.focus()
    before = desk.canvas.screenshot()
    desk.page.keyboard.press("Shift+ArrowLeft")
    desk.page.wait_for_timeout(50)
    assert desk.canvas.screenshot() != before
    for _ in range(12):
        desk.page.keyboard.press("Shift+ArrowLeft")
    assert "Column 1," in desk.page.locator(".status").inner_text()


def test_what_is_painted_is_seen_and_what_python_sets_too(desk):
    before = desk.canvas.screenshot()
    desk.page.evaluate("model.set('runs', [0, 32 * 64, 16 * 64])")
    desk.page.wait_for_timeout(50)
    assert desk.canvas.screenshot() != before
    assert "2048 of 3072" in desk.page.locator(".status").inner_text()
    desk.page.mouse.click(*desk.place(30, 44))
    mask = desk.mask()
    assert mask[:32].all() and mask[44, 30]


def test_it_has_names_for_who_cannot_see_it(desk):
    assert "Picture on which" in desk.page.get_by_role("application").get_attribute("aria-label")
    for role, name in (("slider", "Brush"), ("button", "Erase"), ("button", "Clear")):
        assert desk.page.get_by_role(role, name=name).count() == 1


def test_a_finger_paints_on_a_phone_and_the_page_stays_as_wide(browser, painter):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    painter.brush = 5
    desk = Desk(context.new_page(), painter)
    touch = context.new_cdp_session(desk.page)
    paths = {"touchStart": (30, 10), "touchMove": (30, 40), "touchEnd": None}
    for kind, place in paths.items():
        x, y = desk.place(*place) if place else (0, 0)
        points = [{"x": x, "y": y}] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    mask = desk.mask()
    assert mask[10:41, 30].all() and box_of(mask) == (28, 8, 32, 42)
    assert desk.page.evaluate("[scrollY, document.documentElement.scrollWidth]") == [0, 390]
    assert desk.canvas.bounding_box()["width"] <= 320
    context.close()
