"""The panorama of chapter 6 in Chromium: it opens, it turns, and what is seen moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_browser import CHROMIUM, FLAGS, PHONE, WIDE, site, unavailable  # noqa: F401

PAGE = "book/06_applications/03_panorama.html"
# WebGL without a graphics card: Chromium draws it on the processor.
DRAWING = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
VIEWER = "document.querySelector('.vislm-panorama').viewer"


@pytest.fixture(scope="module")
def drawing_browser():
    if not Path(CHROMIUM).exists():
        unavailable(f"no Chromium at {CHROMIUM}: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    flags = [flag for flag in FLAGS if flag != "--disable-gpu"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags + DRAWING)
        yield running
        running.close()


@pytest.fixture(params=[(WIDE, "light"), (PHONE, "dark")], ids=["wide", "phone"])
def opened(request, site, drawing_browser):  # noqa: F811
    """The page with its panorama open, and the errors that it has told."""
    size, mode = request.param
    page = drawing_browser.new_page(viewport=size, color_scheme=mode)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.goto(site + PAGE, wait_until="load")
    button = page.locator(".vislm-panorama button").first
    button.scroll_into_view_if_needed()
    button.click()
    page.wait_for_function(f"{VIEWER} && {VIEWER}.isLoaded()")
    yield page, errors
    page.close()


def seen(page) -> bytes:
    """What stands in the picture's place, as a PNG."""
    return page.locator(".vislm-panorama .view").first.screenshot()


def test_keys_turn_the_picture(opened):
    page, errors = opened
    page.locator(".vislm-panorama .globe").first.focus()
    yaw, before = page.evaluate(f"{VIEWER}.getYaw()"), seen(page)
    page.keyboard.down("ArrowRight")
    page.wait_for_function(f"Math.abs({VIEWER}.getYaw() - {yaw}) > 20")
    page.keyboard.up("ArrowRight")
    assert seen(page) != before
    assert errors == []


def test_dragging_turns_it_too_and_the_page_stays_as_wide(opened):
    page, errors = opened
    box = page.locator(".vislm-panorama .view").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    yaw, before = page.evaluate(f"{VIEWER}.getYaw()"), seen(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - box["width"] / 4, y, steps=5)
    page.mouse.up()
    page.wait_for_function(f"Math.abs({VIEWER}.getYaw() - {yaw}) > 5")
    assert seen(page) != before
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert errors == []
