"""A figure to play with that needs no kernel: precomputed frames behind plain sliders and lists.

Works in Jupyter, Colab and static pages, with the keyboard and with screen readers. All frames are
packed into one picture (a sprite); a choice only moves which part of it shows.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from string import Formatter

import numpy as np
from PIL import Image

from .html import CARD_STYLE, HTMLFigure, data_uri, new_id

_MAX_SIDE = 8192  # larger pictures are refused or blurred by some phones
_GUTTER = 4  # pixels around a frame that repeat its edge, so that neighbours never shine through

_STYLE = """
#ID .view{width:100%;max-width:WIDTHpx;margin:0 auto 12px;border-radius:4px;
  background-repeat:no-repeat}
#ID .axis{display:flex;flex-wrap:wrap;align-items:center;gap:2px 10px;
  max-width:480px;margin:8px auto 0}
#ID label{flex:1 0 auto;font-weight:600;margin:0}
#ID output{font-variant-numeric:tabular-nums}
#ID input,#ID select{flex:1 0 100%;width:100%;min-height:32px;margin:0;font:inherit;
  color:#1a1a1a;accent-color:#0072b2}
#ID select{background:#fff;border:1px solid #767676;border-radius:4px;padding:4px 6px}
#ID option{color:#1a1a1a;background:#fff}
#ID :focus-visible{outline:3px solid #d55e00;outline-offset:2px}
#ID .spoken{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
"""

_SCRIPT = """
(() => {
  const data = DATA;
  const here = document.currentScript;
  const root = here && here.parentElement ? here.parentElement : document.getElementById(data.id);
  const view = root.querySelector(".view"), spoken = root.querySelector(".spoken");
  const controls = [...root.querySelectorAll("input,select")];
  const show = (speak) => {
    let frame = 0;
    controls.forEach((control, axis) => {
      const names = data.names[axis], chosen = Number(control.value);
      frame = frame * names.length + chosen;
      if (control.type === "range") {
        control.setAttribute("aria-valuetext", names[chosen]);
        control.parentElement.querySelector("output").textContent = names[chosen];
      }
    });
    view.style.backgroundPosition =
      data.x[frame % data.x.length] + "% " + data.y[Math.floor(frame / data.x.length)] + "%";
    view.setAttribute("aria-label", data.alt[frame]);
    if (speak) spoken.textContent = data.alt[frame];
  };
  controls.forEach((control) => control.addEventListener("input", () => show(true)));
  show(false);
})();
"""


def frames_explorer(
    frames: Mapping[tuple, Image.Image],
    axes: Sequence[tuple[str, Sequence]],
    alt: str | Callable[..., str],
    *,
    start: tuple | None = None,
    width: int = 320,
) -> HTMLFigure:
    """Let a reader choose among precomputed pictures.

    Args:
        frames: a picture for every combination of values, `{(value of axis 1, ...): picture}`; all
            of one size.
        axes: (name, values) each. Numbers become a slider, anything else a list to choose from.
        alt: alt text: a format string over the axes' names ("{caption}, guidance {guidance}"), or
            a function of the values. What it leaves out is added, so it follows every choice.
        start: the combination shown first; default: the first value of each axis.
        width: CSS pixels that the picture takes where there is room.

    Returns:
        HTML that shows itself as the last line of a cell.

    Raises:
        ValueError: if a frame is missing, superfluous or of another size, or the sprite too large.
    """
    axes = [(str(name), list(values)) for name, values in axes]
    keys = _checked_keys(frames, axes)
    start = keys[0] if start is None else tuple(start)
    if start not in keys:
        raise ValueError(f"start is {start}; expected one of the frames' keys, such as {keys[0]}.")
    pictures = [frames[key].convert("RGB") for key in keys]
    sprite, x, y = _pack(pictures)
    alts = [_alt_text(alt, axes, key) for key in keys]
    names = [[_text(value) for value in values] for _, values in axes]
    uri = data_uri(sprite)
    figure_id = new_id(uri + json.dumps(names))
    frame = keys.index(start)
    data = {"id": figure_id, "names": names, "x": x, "y": y, "alt": alts}
    controls = "".join(
        _control(f"{figure_id}-{axis}", name, values, names[axis], values.index(start[axis]))
        for axis, (name, values) in enumerate(axes)
    )
    side = pictures[0].size
    # The first frame stands in the markup, so it shows even where scripts are switched off.
    view = (
        f"aspect-ratio:{side[0]}/{side[1]};background-image:url({uri});"
        f"background-size:{100 * sprite.width / side[0]:.4f}% {100 * sprite.height / side[1]:.4f}%;"
        f"background-position:{x[frame % len(x)]}% {y[frame // len(x)]}%"
    )
    return HTMLFigure(
        f'<div id="{figure_id}" role="group" style="position:relative;{CARD_STYLE}">'
        f"<style>{_STYLE.replace('#ID', f'#{figure_id}').replace('WIDTH', str(width))}</style>"
        f'<div class="view" role="img" aria-label="{escape(alts[frame])}" style="{view}"></div>'
        f"{controls}"
        '<div class="spoken" aria-live="polite"></div>'
        f"<script>{_SCRIPT.replace('DATA', _json(data))}</script></div>"
    )


def _checked_keys(frames: Mapping[tuple, Image.Image], axes: list) -> list[tuple]:
    """All combinations in order, the last axis fastest."""
    if not axes or any(not values for _, values in axes):
        raise ValueError("axes is empty or has an axis without values; each needs (name, values).")
    keys = list(itertools.product(*(values for _, values in axes)))
    missing = [key for key in keys if key not in frames]
    expected = set(keys)
    extra = [key for key in frames if key not in expected]
    if missing or extra:
        raise ValueError(
            f"frames must hold one picture for each of {len(keys)} combinations; "
            f"missing {missing[:3]}, unexpected {extra[:3]}."
        )
    sizes = {frames[key].size for key in keys}
    if len(sizes) > 1:
        raise ValueError(f"frames have sizes {sorted(sizes)}; expected one size.")
    return keys


def _pack(pictures: list[Image.Image]) -> tuple[Image.Image, list[float], list[float]]:
    """All pictures in one, and the CSS background position (per cent) of each column and row."""
    width, height = pictures[0].size
    # Tiles are multiples of 8 so that no JPEG block belongs to two frames.
    tile = tuple(8 * math.ceil((length + 2 * _GUTTER) / 8) for length in (width, height))
    columns = max(1, round(math.sqrt(len(pictures) * tile[1] / tile[0])))
    rows = math.ceil(len(pictures) / columns)
    size = (columns * tile[0], rows * tile[1])
    if max(size) > _MAX_SIDE:
        raise ValueError(
            f"{len(pictures)} frames of {width} x {height} make a sprite of {size[0]} x {size[1]}, "
            f"over {_MAX_SIDE}; use fewer values or smaller frames."
        )
    sprite = Image.new("RGB", size)
    after = (tile[1] - height - _GUTTER, tile[0] - width - _GUTTER)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        edges = ((_GUTTER, after[0]), (_GUTTER, after[1]), (0, 0))
        padded = np.pad(np.asarray(picture), edges, mode="edge")
        sprite.paste(Image.fromarray(padded), (column * tile[0], row * tile[1]))

    def positions(count: int, step: int, shown: int) -> list[float]:
        return [round(100 * (i * step + _GUTTER) / (count * step - shown), 4) for i in range(count)]

    return sprite, positions(columns, tile[0], width), positions(rows, tile[1], height)


def _alt_text(alt: str | Callable[..., str], axes: list, key: tuple) -> str:
    if callable(alt):
        return str(alt(*key))
    values = {name: _text(value) for (name, _), value in zip(axes, key, strict=True)}
    used = {field for _, field, _, _ in Formatter().parse(alt) if field is not None}
    if unknown := sorted(used - set(values)):
        raise ValueError(f"alt names {', '.join(unknown)}; the axes are {', '.join(values)}.")
    rest = "".join(f", {name}: {value}" for name, value in values.items() if name not in used)
    return alt.format(**values) + rest


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _control(control_id: str, name: str, values: list, names: list[str], chosen: int) -> str:
    label = f'<label for="{control_id}">{escape(name)}</label>'
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return (
            f'<div class="axis">{label}<output for="{control_id}">{escape(names[chosen])}</output>'
            f'<input id="{control_id}" type="range" min="0" max="{len(values) - 1}" step="1" '
            f'value="{chosen}" aria-valuetext="{escape(names[chosen])}" autocomplete="off"></div>'
        )
    options = "".join(
        f'<option value="{index}"{" selected" if index == chosen else ""}>{escape(text)}</option>'
        for index, text in enumerate(names)
    )
    return (
        f'<div class="axis">{label}'
        f'<select id="{control_id}" autocomplete="off">{options}</select></div>'
    )


def _json(data: dict) -> str:
    """JSON that may stand inside a script element: no `<` can end it early."""
    return json.dumps(data).replace("<", "\\u003c")
