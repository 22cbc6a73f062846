"""Redraw an OpenMoji SVG in a style: other fills, strokes, widths and background, equal shapes."""

from __future__ import annotations

import colorsys
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageColor
from torch import Tensor

from ..images import to_pixels

RGB = tuple[float, float, float]  # each in [0, 1]
_SVG = "{http://www.w3.org/2000/svg}"
_DRAWN = {"path", "circle", "ellipse", "line", "rect", "polyline", "polygon"}
_INHERITED = ("fill", "stroke", "stroke-width")


def _grey(colour: RGB) -> float:
    """Brightness as the eye weighs it, in [0, 1]."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _mixed(first: RGB, second: RGB, part: float) -> RGB:
    """(1 - part) of the first colour and `part` of the second."""
    return tuple((1 - part) * a + part * b for a, b in zip(first, second, strict=True))


def _ramp(dark: str, middle: str, light: str) -> Callable[[RGB], RGB]:
    """Colours by brightness only: black becomes `dark`, white becomes `light`."""
    stops = [_rgb(dark), _rgb(middle), _rgb(light)]

    def paint(colour: RGB) -> RGB:
        position = 2 * _grey(colour)
        low = min(int(position), 1)
        return _mixed(stops[low], stops[low + 1], position - low)

    return paint


def _same(colour: RGB) -> RGB:
    return colour


def _pastel(colour: RGB) -> RGB:
    hue, lightness, saturation = colorsys.rgb_to_hls(*colour)
    return colorsys.hls_to_rgb(hue, 0.72 + 0.22 * lightness, 0.95 * saturation)


def _ember(colour: RGB) -> RGB:
    """The same hue, saturated and dark: what a neon tube lights up around it."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*colour)
    return colorsys.hls_to_rgb(hue, 0.12 + 0.26 * lightness, min(1.0, 1.6 * saturation))


def _rgb(colour: str) -> RGB:
    """A colour of an SVG file; what is not a plain colour (currentColor, a gradient) is black."""
    try:
        return tuple(channel / 255 for channel in ImageColor.getrgb(colour)[:3])
    except ValueError:
        return (0.0, 0.0, 0.0)


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * channel) for channel in colour))


@dataclass(frozen=True)
class Style:
    """How one style redraws.

    background: colour behind the drawing; None leaves it transparent.
    area: colour of a coloured area -> its new colour; None leaves areas out.
    line: colour of every line; None keeps the drawing's own.
    width: factor on the width of lines.
    glow: whether a wide, faint copy of each line lies behind it.
    grid: colour of squared paper on the background, or None.
    """

    background: str | None
    area: Callable[[RGB], RGB] | None
    line: str | None = None
    width: float = 1.0
    glow: bool = False
    grid: str | None = None


OWN_COLOURS = "in its own colours"
STYLES = {
    OWN_COLOURS: Style("#ffffff", _same),
    "outline only": Style("#ffffff", None, "#101010"),
    "in white on black": Style("#0b0b0d", None, "#ffffff", 1.15),
    "as a blueprint": Style("#1d4f9e", None, "#eaf4ff", 0.8, grid="#3a6bb8"),
    "in red": Style("#fdeae6", _ramp("#7d0f14", "#dd3b35", "#ffc9bf"), "#5e070d"),
    "in blue": Style("#e4f0fd", _ramp("#0d2f7a", "#3377dd", "#bcdcff"), "#08205a"),
    "in green": Style("#e8f6e2", _ramp("#0d4a22", "#3f9f45", "#c9efb4"), "#063516"),
    "in pastel colours": Style("#fff6ea", _pastel, "#a58a9b", 0.9),
    "in grey": Style("#d2d2d2", _ramp("#3c3c3c", "#858585", "#f2f2f2"), "#222222"),
    "as a silhouette": Style("#ffc25c", lambda colour: _rgb("#2a1533"), "#2a1533"),
    "with thick lines": Style("#ffffff", _same, None, 1.9),
    "in neon on black": Style("#07060f", _ember, "#ff4fd8", 0.9, glow=True),
}


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def restyle(path: Path, style: str | Style) -> str:
    """The SVG text of an OpenMoji file in one of `STYLES`, or in a `Style` of your own.

    OpenMoji keeps areas and lines in groups whose ids start with "color" and "line"; what lies in
    neither counts as an area.
    """
    how = STYLES[style] if isinstance(style, str) else style
    root = ElementTree.fromstring(_text(path))
    for parent, element, paint, is_line in list(_shapes(root, {}, False)):
        _repaint(element, paint, is_line, how)
        if how.glow and element.get("stroke", "none") != "none" and is_line:
            parent.insert(list(parent).index(element), _glow(element))
    if how.background is not None:
        root.insert(0, ElementTree.Element(_SVG + "rect", _sheet(how.background)))
    if how.grid is not None:
        root.insert(1, ElementTree.Element(_SVG + "path", _squares(how.grid)))
    return ElementTree.tostring(root, encoding="unicode")


def _shapes(
    parent: ElementTree.Element, inherited: dict[str, str], in_lines: bool
) -> Iterator[tuple[ElementTree.Element, ElementTree.Element, dict[str, str], bool]]:
    """Each drawn element with its parent, its paint as attributes or groups set it, and its layer.

    A `style` attribute is turned into plain attributes on the way; it wins over them, as in CSS.
    """
    for element in parent:
        tag = element.tag.removeprefix(_SVG) if isinstance(element.tag, str) else ""
        for declaration in element.attrib.pop("style", "").split(";"):
            name, colon, value = declaration.partition(":")
            if colon:
                element.set(name.strip(), value.strip())
        paint = {**inherited, **{k: element.get(k) for k in _INHERITED if k in element.attrib}}
        name = element.get("id", "").lower()
        is_line = name.startswith("line") or (in_lines and not name.startswith("color"))
        if tag == "g":
            yield from _shapes(element, paint, is_line)
        elif tag in _DRAWN:
            yield parent, element, paint, is_line


def _repaint(
    element: ElementTree.Element, paint: dict[str, str], is_line: bool, how: Style
) -> None:
    width = float(paint.get("stroke-width", "1").removesuffix("px"))
    for name, default in (("fill", "#000000"), ("stroke", "none")):
        colour = paint.get(name, default)
        if colour != "none":
            element.set(name, _repainted(_rgb(colour), is_line, how))
    if paint.get("stroke", "none") != "none":
        element.set("stroke-width", f"{width * how.width:g}")


def _repainted(colour: RGB, is_line: bool, how: Style) -> str:
    if is_line and _grey(colour) < 0.5:
        return how.line or _hex(colour)
    if how.area is not None:
        return _hex(how.area(colour))
    return (is_line and how.background) or "none"  # white within the lines hides what is behind


def _glow(element: ElementTree.Element) -> ElementTree.Element:
    halo = deepcopy(element)
    halo.set("fill", "none")
    halo.set("stroke-width", f"{3.2 * float(element.get('stroke-width')):g}")
    halo.set("stroke-opacity", "0.3")
    return halo


def _sheet(colour: str) -> dict[str, str]:
    return {"width": "72", "height": "72", "fill": colour}


def _squares(colour: str) -> dict[str, str]:
    steps = range(9, 72, 9)
    lines = "".join(f"M{step} 0V72M0 {step}H72" for step in steps)
    return {"d": lines, "stroke": colour, "stroke-width": "0.6", "fill": "none"}


def rasterise(svg: str, image_size: int) -> Tensor:
    """SVG text as (3, image_size, image_size) uint8 in 0..255."""
    return to_pixels(to_picture(svg, image_size))


def to_picture(svg: str, image_size: int) -> Image.Image:
    """SVG text as a square picture of mode RGBA."""
    import resvg_py

    # No drawing holds text; looking for fonts takes seconds.
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=image_size, height=image_size, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")
