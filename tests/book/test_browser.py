"""Each built page, opened in Chromium as a reader would: wide and narrow, light and dark.

Needs the built book (`make book`) and Chromium, at $VISLM_CHROMIUM or where Debian puts it.
"""

from __future__ import annotations

import functools
import http.server
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from address import address
from pages import ROOT, pages

BUILT = ROOT / "_build" / "html"
CHROMIUM = os.environ.get("VISLM_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
NAMES = [page.relative_to(ROOT).with_suffix(".html").as_posix() for page in pages()]


def unavailable(reason):
    """Skip, but fail where the run promised a browser."""
    if os.environ.get("VISLM_REQUIRE_BROWSER"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Keep the request log out of the test's output."""


@pytest.fixture(scope="module")
def site():
    """Address of a local server for the built book."""
    if not (BUILT / "index.html").exists():
        unavailable("the book is not built: run `make book`")
    handler = functools.partial(Quiet, directory=str(BUILT))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        unavailable(
            f"no Chromium at {CHROMIUM}: `apt-get install chromium`, or set VISLM_CHROMIUM "
            f"to the browser you have"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@dataclass
class Visit:
    """One opened page and what went wrong while it loaded."""

    page: object
    name: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def ask(self, script):
        return self.page.evaluate(script)


@pytest.fixture(scope="module", params=NAMES)
def visit(request, site, browser):
    """A page opened wide and light, after its scripts have finished."""
    page = browser.new_page(viewport=WIDE, color_scheme="light")
    seen = Visit(page, request.param)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and seen.errors.append(said.text))
    page.on("request", lambda asked: _note_outside(asked.url, site, seen.outside))
    page.goto(site + request.param, wait_until="load")
    page.evaluate("window.MathJax?.startup?.promise.then(() => true)")
    page.wait_for_function(
        "[...document.querySelectorAll('pre.mermaid')].every((box) => box.querySelector('svg'))"
    )
    yield seen
    page.close()


def _note_outside(url, site, outside):
    if not url.startswith((site, "data:", "blob:")):
        outside.append(url)


def test_loads_without_errors(visit):
    assert visit.errors == []


def test_asks_nobody_else(visit):
    if not (BUILT / "_static" / "vendor" / "mathjax").exists():
        unavailable(
            "built without npm, so with scripts from a CDN: install Node.js, `make clean book`"
        )
    assert visit.outside == []


def test_mathematics_is_set(visit):
    unset = (
        "[...document.querySelectorAll('.math')].filter((m) => !m.querySelector('mjx-container'))"
    )
    assert visit.ask(f"{unset}.map((formula) => formula.textContent)") == []
    wrong = "[...document.querySelectorAll('mjx-merror')].map((error) => error.title)"
    assert visit.ask(wrong) == []


def test_diagrams_are_drawn(visit):
    failed = "document.querySelectorAll('pre.mermaid svg[aria-roledescription=error]').length"
    assert visit.ask(failed) == 0
    empty = """[...document.querySelectorAll('pre.mermaid svg')]
        .filter((drawing) => drawing.getBoundingClientRect().height < 20).length"""
    assert visit.ask(empty) == 0


def test_pictures_load_and_have_words(visit):
    images = "[...document.querySelectorAll('.bd-article img')]"
    assert (
        visit.ask(f"{images}.filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)") == []
    )
    assert visit.ask(f"{images}.filter((i) => !i.alt.trim()).map((i) => i.src)") == []


def test_phone_does_not_scroll_sideways(visit):
    visit.page.set_viewport_size(PHONE)
    try:
        too_wide = """[...document.querySelectorAll('.bd-article *')]
            .filter((box) => box.getBoundingClientRect().right > innerWidth + 1)
            .slice(0, 5).map((box) => box.outerHTML.slice(0, 120))"""
        width = visit.ask("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], visit.ask(too_wide)
    finally:
        visit.page.set_viewport_size(WIDE)


def test_dark_mode_leaves_pictures_as_they_are(visit):
    visit.ask("document.documentElement.dataset.theme = 'dark'")
    try:
        changed = """[...document.querySelectorAll('.bd-article :is(img, svg):not(.only-dark)')]
            .filter((picture) => getComputedStyle(picture).filter !== 'none')
            .map((picture) => picture.outerHTML.slice(0, 120))"""
        assert visit.ask(changed) == []
        assert visit.ask("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    finally:
        visit.ask("document.documentElement.dataset.theme = 'light'")


def test_notebooks_offer_colab(visit):
    source = ROOT / Path(visit.name).with_suffix(".ipynb")
    links = visit.ask("[...document.querySelectorAll('a[href*=colab]')].map((link) => link.href)")
    if source.exists():
        owner_and_name = "/".join(address().split("/")[-2:])
        path = source.relative_to(ROOT).as_posix()
        assert any(link.endswith(f"/github/{owner_and_name}/blob/main/{path}") for link in links)
