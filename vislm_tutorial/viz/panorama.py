"""A panorama to turn about in: Pannellum where there are scripts, the flat picture where not.

Nothing is loaded before the reader asks for it. The script comes from the book's own files, or, in
a notebook and wherever those are missing, from a public CDN that must deliver the very same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.images import to_pil, to_pils
from .html import CARD_STYLE, HTMLFigure, data_uri, new_id

PANNELLUM = "2.5.6"  # also in book/web/package.json
LOCAL = "_static/vendor/pannellum/build/"  # below a built page's content root
CDN = f"https://cdn.jsdelivr.net/npm/pannellum@{PANNELLUM}/build/"
DIGESTS = {
    "pannellum.css": "sha384-02yn80EH0cF+s23taAmuhEZ04p3CTbQvV0QZMr2reUxajpfvcLNKlzsPkZwx14mf",
    "pannellum.js": "sha384-S5+w/JlcNAOymqXGNrvzn2F++XsaHTJdex6KE5VbKryfFgqJiRUJOgOkUqaiOZTf",
}
LEAST_WIDTH = 1024  # smaller pictures are enlarged: a browser would show their pixels as diamonds

_STYLE = """
#ID .view{position:relative;aspect-ratio:2/1;width:100%;max-width:WIDTHpx;margin:0 auto;
  border-radius:6px;overflow:hidden;background:#222}
#ID .view img{display:block;width:100%;height:100%;margin:0;object-fit:fill}
#ID .globe{position:absolute;inset:0}
#ID .globe[hidden],#ID button[hidden]{display:none}
#ID button{position:absolute;left:50%;bottom:10px;transform:translateX(-50%);min-height:44px;
  padding:6px 18px;border:2px solid #fff;border-radius:22px;background:#1a1a1ae0;color:#fff;
  font:600 15px/1.2 system-ui,sans-serif;cursor:pointer}
#ID button:focus-visible{outline:3px solid #d55e00;outline-offset:2px}
#ID .view:has(.globe:focus-visible){outline:3px solid #d55e00;outline-offset:2px}
#ID .words{text-align:center;margin:8px 0 0;overflow-wrap:anywhere}
#ID .facing{text-align:center;min-height:1.4em;font-size:13px}
@media(max-width:480px){#ID .view.open{aspect-ratio:4/3}}
"""

# One promise a page loads the library once, however many viewers there are; a failed attempt is
# forgotten, so that a second click tries again.
_SCRIPT = """
(() => {
  const data = DATA;
  const here = document.currentScript;
  const root = here && here.parentElement ? here.parentElement : document.getElementById(data.id);
  const view = root.querySelector(".view"), picture = view.querySelector("img");
  const globe = view.querySelector(".globe"), button = view.querySelector("button");
  const facing = root.querySelector(".facing");
  const names = ["north", "northeast", "east", "southeast",
    "south", "southwest", "west", "northwest"];
  const load = (tag, address, digest) => new Promise((done, failed) => {
    const element = document.createElement(tag);
    if (tag === "link") element.rel = "stylesheet";
    if (digest) { element.integrity = digest; element.crossOrigin = "anonymous"; }
    element.onload = done;
    element.onerror = () => { element.remove(); failed(new Error("no " + address)); };
    element[tag === "link" ? "href" : "src"] = address;
    document.head.append(element);
  });
  const both = (folder, checked) => Promise.all(
    [["link", "pannellum.css"], ["script", "pannellum.js"]].map(([tag, name]) =>
      load(tag, folder + name, checked ? data.digests[name] : "")));
  const library = () => {
    if (!window.vislmPannellum) {
      const base = document.documentElement.dataset.content_root;
      const own = base === undefined ? Promise.reject() : both(base + data.local, false);
      window.vislmPannellum = own.catch(() => both(data.cdn, true)).catch((error) => {
        window.vislmPannellum = undefined;
        throw error;
      });
    }
    return window.vislmPannellum;
  };
  let clock;
  const say = () => {
    const yaw = root.viewer.getYaw();
    const text = "Facing " + names[((Math.round(yaw / 45) % 8) + 8) % 8];
    if (facing.textContent !== text) facing.textContent = text;
  };
  const close = (message) => {
    clearInterval(clock);
    if (root.viewer) root.viewer.destroy();
    root.viewer = undefined;
    globe.hidden = true;
    view.classList.remove("open");
    button.hidden = false;
    button.disabled = false;
    button.textContent = "Look around";
    picture.removeAttribute("aria-hidden");
    facing.textContent = message;
  };
  const open = async () => {
    button.disabled = true;
    button.textContent = "Loading";
    try {
      await library();
    } catch (error) {
      close("The viewer could not be loaded; the flat picture shows all there is to see.");
      return;
    }
    const [head, content] = picture.src.split(",");
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
    globe.hidden = false;
    view.classList.add("open");
    picture.setAttribute("aria-hidden", "true");
    root.viewer = window.pannellum.viewer(globe, {
      type: "equirectangular", panorama: address, autoLoad: true, compass: true,
      hfov: 110, minHfov: 40, mouseZoom: "fullscreenonly", yaw: 0, pitch: 8,
    });
    root.viewer.on("load", () => {
      URL.revokeObjectURL(address);
      button.hidden = true;
      globe.focus({ preventScroll: true });
      clock = setInterval(say, 250);  // the library tells of no turn that ends by itself
      say();
    });
    root.viewer.on("error", () => setTimeout(() =>
      close("This browser cannot turn the picture; the flat one shows all there is to see.")));
  };
  button.hidden = false;
  button.addEventListener("click", open);
})();
"""


def panorama_viewer(
    images: Tensor | Image.Image | Sequence[Image.Image],
    caption: str | Sequence[str] | None = None,
    alt: str | Sequence[str] | None = None,
    *,
    width: int = 720,
) -> HTMLFigure:
    """Show equirectangular pictures in which a reader can turn about, one below the other.

    The picture's element has the library's object as `.viewer` while it is open, as in
    `document.querySelector(".vislm-panorama").viewer.getYaw()`.

    Args:
        images: a PIL picture or (3, H, 2 H) in [-1, 1]; or several: a list, or (B, 3, H, 2 H).
        caption: the words below; one for each picture.
        alt: alt text of the flat picture; one for each picture. Default: its caption.
        width: CSS pixels that a picture takes where there is room.

    Returns:
        HTML that shows itself as the last line of a cell.

    Raises:
        ValueError: if a picture is not twice as wide as high, if there is neither caption nor alt
            text, or if their number is not that of the pictures.
    """
    pictures = _pictures(images)
    captions = _one_each(caption, len(pictures), "caption")
    alts = _one_each(alt if alt is not None else caption, len(pictures), "alt")
    if not all(alts):
        raise ValueError("A picture has neither caption nor alt text; say what it shows in one.")
    shown = zip(pictures, captions, alts, strict=True)
    return HTMLFigure("".join(_viewer(*parts, width) for parts in shown))


def _pictures(images) -> list[Image.Image]:
    if isinstance(images, Image.Image):
        images = [images]
    elif isinstance(images, Tensor) and images.ndim == 3:
        images = [to_pil(images)]
    pictures = [picture.convert("RGB") for picture in to_pils(images)]
    for picture in pictures:
        if picture.width != 2 * picture.height:
            raise ValueError(
                f"A picture is {picture.width} x {picture.height}; an equirectangular one is "
                "twice as wide as high."
            )
    if not pictures:
        raise ValueError("images is empty; expected at least one picture.")
    return pictures


def _one_each(words: str | Sequence[str] | None, count: int, name: str) -> list[str]:
    words = [words or ""] * count if words is None or isinstance(words, str) else list(words)
    if len(words) != count:
        raise ValueError(f"Got {len(words)} {name} texts for {count} pictures; needs 1 each.")
    return words


def _enlarged(picture: Image.Image) -> Image.Image:
    """At least `LEAST_WIDTH` wide; the left and right edges stay neighbours."""
    if picture.width >= LEAST_WIDTH:
        return picture
    margin = 4  # more than the filter reaches
    around = np.pad(np.asarray(picture), ((0, 0), (margin, margin), (0, 0)), mode="wrap")
    size = (LEAST_WIDTH, LEAST_WIDTH // 2)
    box = (margin, 0, margin + picture.width, picture.height)
    return Image.fromarray(around).resize(size, Image.Resampling.BICUBIC, box=box)


def _viewer(picture: Image.Image, caption: str, alt: str, width: int) -> str:
    uri = data_uri(_enlarged(picture))
    figure_id = new_id(uri + caption + alt)
    data = {"id": figure_id, "local": LOCAL, "cdn": CDN, "digests": DIGESTS}
    label = f"{alt}. Turn with the arrow keys or by dragging, zoom with plus and minus."
    words = f'<p class="words">{escape(caption)}</p>' if caption else ""
    script = _SCRIPT.replace("DATA", json.dumps(data).replace("<", "\\u003c"))
    return (
        f'<div id="{figure_id}" class="vislm-panorama" style="margin-bottom:12px;{CARD_STYLE}">'
        f"<style>{_STYLE.replace('#ID', f'#{figure_id}').replace('WIDTH', str(width))}</style>"
        f'<div class="view"><img src="{uri}" alt="{escape(alt)}">'
        f'<div class="globe" role="application" tabindex="0" aria-label="{escape(label)}" hidden>'
        '</div><button type="button" hidden>Look around</button></div>'
        f'{words}<div class="facing" aria-live="polite"></div>'
        f"<script>{script}</script></div>"
    )
