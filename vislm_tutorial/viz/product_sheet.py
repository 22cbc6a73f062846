"""Product -> SVG drawing with dimensions: the renderer's own paths, so it can be edited and made.

One `<g id>` a part, millimetres throughout. The dimension lines run between the edges of the drawn
parts, so a figure on the sheet is what the drawing measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data.products import COLOURS, SCALES, Product, describe
from ..data.products.parts import Part, parts
from ..data.products.rendering import GROUND
from ..data.products.world import BACKGROUND

INK = "#26303a"  # dimension lines and text, on the sheet's own light card


@dataclass(frozen=True)
class _Dimension:
    """A measure between two edges of parts: "body left" to "body right", drawn on `side`.

    `level` counts outwards from the drawing, so that two dimensions on one side do not touch; the
    outer one comes first, for the inner one's figure is written over its extension lines.
    """

    measure: str
    start: str
    end: str
    side: str
    level: int = 0


_DIMENSIONS = {
    "mug": (
        _Dimension("height", "body bottom", "body top", "left"),
        _Dimension("width", "body left", "body right", "below"),
        _Dimension("handle_height", "handle bottom", "handle top", "right"),
        _Dimension("handle_depth", "body right", "handle right", "above"),
    ),
    "chair": (
        _Dimension("seat_height", "front_leg bottom", "seat top", "right"),
        _Dimension("seat_depth", "seat left", "seat right", "below", 1),
        _Dimension("back_height", "seat top", "back top", "left"),
        _Dimension("leg_width", "front_leg left", "front_leg right", "below"),
    ),
    "lamp": (
        _Dimension("height", "base bottom", "shade top", "left"),
        _Dimension("shade_width", "shade left", "shade right", "below", 1),
        _Dimension("shade_height", "shade bottom", "shade top", "right"),
        _Dimension("shade_top_width", "shade top-left", "shade top-right", "above"),
        _Dimension("base_width", "base left", "base right", "below"),
    ),
    "sneaker": (
        _Dimension("length", "sole left", "sole right", "below"),
        _Dimension("collar_height", "sole bottom", "upper top", "left"),
        _Dimension("sole_thickness", "sole bottom", "sole top", "right", 1),
        _Dimension("toe_height", "sole top", "toe top", "right"),
    ),
}


def product_sheet(product: Product, dimensions: bool = True) -> str:
    """An editable SVG drawing of a product, one unit a millimetre.

    Args:
        product: what to draw.
        dimensions: whether to add the title, dimension lines and figures. Without them the drawing
            fills the same square as `product_rendering.render`.

    Returns:
        An `<svg>` element with its own light card, a `<title>` and a `<desc>`.
    """
    side = SCALES[product.kind] * 64
    drawn = parts(product.kind, torch.tensor([product.measures], dtype=torch.float64))
    body = [_part(part, product.colour, side) for part in drawn]
    left, top, width, height = 0.0, 0.0, side, side
    if dimensions:
        left, top, width, height = -0.2 * side, -0.22 * side, 1.4 * side, 1.46 * side
        body += [_title(product, side), _dimension_lines(product, drawn, side)]
    figures = ", ".join(f"{_words(n)} {_mm(v)}" for n, v in product.named.items())
    box = f"{_n(left)} {_n(top)} {_n(width)} {_n(height)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" '
            'aria-labelledby="sheet-title sheet-desc">',
            f'<title id="sheet-title">{describe(product)}</title>',
            f'<desc id="sheet-desc">Side view of {describe(product)}: {figures}.</desc>',
            f'<rect id="card" x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" '
            f'height="{_n(height)}" fill="{_hex(BACKGROUND)}"/>',
            *body,
            "</svg>",
        ]
    )


def extents(product: Product) -> dict[str, float]:
    """Measure -> the distance between the two drawn edges that its dimension joins, in mm."""
    drawn = parts(product.kind, torch.tensor([product.measures], dtype=torch.float64))
    places = _edges(drawn)
    return {d.measure: places[d.end] - places[d.start] for d in _DIMENSIONS[product.kind]}


# --- the drawing ---------------------------------------------------------------------------------


def _n(value: float) -> str:
    """A number with at most two decimals: a hundredth of a millimetre."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0 turns -0.0 into 0.0


def _hex(rgb, tone: float = 1.0) -> str:
    return "#" + "".join(f"{round(channel * tone):02x}" for channel in rgb)


def _mm(value: float) -> str:
    """A measure as a workshop reads it: to a tenth of a millimetre."""
    return f"{round(value, 1):g} mm"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _part(part: Part, colour: str, side: float) -> str:
    """One part as a path, in the picture's coordinates: x to the right, y downwards, in mm."""

    def places(segment) -> str:
        return " ".join(
            f"{_n(float(x) + side / 2)} {_n(GROUND * side - float(y))}" for x, y in segment
        )

    commands = [f"M {places(part.path[0])}"]
    commands += [f"{'L' if len(s) == 1 else 'C'} {places(s)}" for s in part.path[1:]]
    paint = _hex(COLOURS[colour], part.tone)
    fill = paint if part.closed else "none"
    return (
        f'<g id="{part.name}"><path d="{" ".join(commands)}{" Z" if part.closed else ""}" '
        f'fill="{fill}" stroke="{paint}" stroke-width="{_n(2 * float(part.radius))}" '
        'stroke-linejoin="round" stroke-linecap="round"/></g>'
    )


def _edges(drawn: list[Part]) -> dict[str, float]:
    """ "body left" -> where that edge is, in mm: x from the middle, y from the ground up."""
    places = {}
    for part in drawn:
        for edge, value in zip(("left", "bottom", "right", "top"), part.box()[0], strict=True):
            places[f"{part.name} {edge}"] = float(value)
        points, radius = part.points()[0], float(part.radius)
        upper = points[points[:, 1] > points[:, 1].max() - 1e-6][:, 0]  # its uppermost corners
        places[f"{part.name} top-left"] = float(upper.min()) - radius
        places[f"{part.name} top-right"] = float(upper.max()) + radius
    return places


# --- the dimensions ------------------------------------------------------------------------------


def _title(product: Product, side: float) -> str:
    size = min(0.05 * side, 1.3 * side / (0.55 * len(describe(product))))  # long names still fit
    return (
        f'<text id="name" x="{_n(side / 2)}" y="{_n(-0.14 * side)}" font-size="{_n(size)}" '
        f'font-family="sans-serif" text-anchor="middle" fill="{INK}">{describe(product)}</text>'
    )


def _dimension_lines(product: Product, drawn: list[Part], side: float) -> str:
    places = _edges(drawn)
    boxes = torch.cat([part.box() for part in drawn])
    hull = (*boxes[:, :2].amin(dim=0).tolist(), *boxes[:, 2:].amax(dim=0).tolist())
    lines = [
        _dimension(d, places[d.start], places[d.end], product.named[d.measure], hull, side)
        for d in _DIMENSIONS[product.kind]
    ]
    return "\n".join(['<g id="dimensions">', *lines, "</g>"])


def _dimension(
    d: _Dimension, start: float, end: float, value: float, hull: tuple, side: float
) -> str:
    """One dimension: two thin extension lines, a line with arrows, and the figure.

    It is drawn lying along x and turned for a vertical one: `along` runs with the measure, `at` is
    how far across it the line lies.
    """
    left, bottom, right, top = hull
    away = (0.06 + 0.1 * d.level) * side
    flat = d.side in ("below", "above")
    if flat:
        along = (start + side / 2, end + side / 2)
        edge = GROUND * side - (bottom if d.side == "below" else top)
        at = edge + (away if d.side == "below" else -away)
    else:
        along = (GROUND * side - start, GROUND * side - end)
        edge = side / 2 + (left if d.side == "left" else right)
        at = edge + (away if d.side == "right" else -away)
    outwards = 1 if at > edge else -1

    def line(a: float, b: float, p: float, q: float) -> str:
        """From (a, across b) to (p, across q)."""
        a, b, p, q = (a, b, p, q) if flat else (b, a, q, p)
        return f"M {_n(a)} {_n(b)} L {_n(p)} {_n(q)}"

    arrow, sign = 0.018 * side, 1 if along[1] > along[0] else -1
    narrow = abs(along[1] - along[0]) < 4 * arrow
    inwards = -sign if narrow else sign  # in a narrow gap the arrows point in from outside
    reach = 3 * arrow * sign if narrow else 0.0
    strokes = [line(along[0] - reach, at, along[1] + reach, at)]
    for place in along:
        strokes.append(
            line(place, edge + 0.01 * side * outwards, place, at + 0.3 * arrow * outwards)
        )
    for place, direction in ((along[0], inwards), (along[1], -inwards)):
        for across in (-0.4 * arrow, 0.4 * arrow):
            strokes.append(line(place, at, place + arrow * direction, at + across))
    size = 0.036 * side
    middle, text_at = sum(along) / 2, at + (1.3 if outwards > 0 else -0.55) * size
    x, y = (middle, text_at) if flat else (text_at, middle)
    turn = "" if flat else f' transform="rotate(-90 {_n(x)} {_n(y)})"'
    return (
        f'<g id="dimension-{d.measure}"><path d="{" ".join(strokes)}" fill="none" stroke="{INK}" '
        f'stroke-width="{_n(0.004 * side)}"/><text x="{_n(x)}" y="{_n(y)}"{turn} '
        f'font-size="{_n(size)}" font-family="sans-serif" text-anchor="middle" fill="{INK}" '
        f'stroke="{_hex(BACKGROUND)}" stroke-width="{_n(0.35 * size)}" paint-order="stroke">'
        f"{_words(d.measure)} {_mm(value)}</text></g>"
    )
