"""Matplotlib figures in one style: a white card that reads alike on light and dark pages.

Each helper returns a closed `Figure`: as the last line of a cell it is shown once, and `savefig`
works anywhere. For figures of your own: `with style(): ...`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.images import to_pils

WIDTH = 5.2  # inches. At a phone's 358 px of page the 10.5-point text is still 10 px high.
DPI = 120
CARD, INK, FAINT = "#ffffff", "#1a1a1a", "#d9d9d9"
# Okabe and Ito's set without the hues too pale on white, plus a dark grey. Line styles differ too,
# so that colour is never the only difference.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#3b3b3b")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
CAPTION_POINTS = 8.5
_MAX_CAPTION_LINES = 4


def style() -> AbstractContextManager:
    """The book's matplotlib settings, for the duration of a `with` block."""
    return mpl.rc_context(
        {
            "figure.figsize": (WIDTH, 3.2),
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "figure.facecolor": CARD,
            "axes.facecolor": CARD,
            "savefig.facecolor": CARD,
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10.5,
            "font.size": 10.5,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
            **dict.fromkeys(("xtick.color", "ytick.color"), INK),
        }
    )


def _dress(axes: Axes, grid_axis: str) -> None:
    """Settings that matplotlib looks up when ticks are drawn, which is after `style` has ended."""
    axes.tick_params(colors=INK, labelsize=9.5)
    axes.grid(True, axis=grid_axis, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _finish(figure: Figure) -> Figure:
    plt.close(figure)  # pyplot forgets it, so a notebook shows it once and memory is freed
    return figure


def show_images(
    images,
    captions: Sequence[str] | None = None,
    columns: int = 4,
    title: str | None = None,
) -> Figure:
    """Images in rows, each with its caption below.

    Args:
        images: (B, 3, H, W) in [-1, 1], or a list of B PIL pictures; B at least 1.
        captions: B strings, wrapped and cut after four lines. Scripts that matplotlib's font lacks
            (Chinese, emoji) come out as boxes: use `gallery` for those.
        columns: images in a row; more than 5 make captions small on a phone.
        title: a line above.
    """
    pictures = to_pils(images)
    if not pictures or columns < 1:
        raise ValueError(
            f"show_images got {len(pictures)} images, {columns} columns; needs 1 each."
        )
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"Got {len(captions)} captions for {len(pictures)} images.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    cell = min(WIDTH / columns, 2.6)  # inches
    texts = [_wrapped(c, cell) for c in captions] if captions is not None else [""] * len(pictures)
    lines = max(text.count("\n") + 1 if text else 0 for text in texts)
    height = rows * (cell + lines * CAPTION_POINTS * 1.3 / 72) + (0.35 if title else 0.0)
    with style():
        figure, axes = plt.subplots(
            rows, columns, squeeze=False, figsize=(max(cell * columns, 2.6), height)
        )
        for place in axes.flat[len(pictures) :]:
            place.set_axis_off()
        for place, picture, text in zip(axes.flat, pictures, texts, strict=False):
            place.imshow(np.asarray(picture))
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            place.set_xlabel(text, fontsize=CAPTION_POINTS, parse_math=False)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return _finish(figure)


def _wrapped(caption: str, inches: float) -> str:
    letters = max(8, int(inches * 72 / (0.57 * CAPTION_POINTS)))
    return textwrap.fill(caption, letters, max_lines=_MAX_CAPTION_LINES, placeholder=" …")


def plot_curve(
    log_rows: Sequence[Mapping],
    x: str,
    y: str | Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    smooth: int = 1,
    log_y: bool = False,
    title: str | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
) -> Figure:
    """One or more logged values as curves.

    Args:
        log_rows: one mapping a logged step; a row without `x` or a `y` is left out of that curve.
        x: the key of the horizontal axis, such as "step".
        y: one key, or several to be compared.
        labels: names for the legend; default: the keys.
        smooth: if over 1, a centred mean of so many points is drawn over the faint raw values, for
            curves at least four times as long.
        log_y: a logarithmic vertical axis.

    Raises:
        ValueError: if no row has both keys.
    """
    keys = [y] if isinstance(y, str) else list(y)
    labels = keys if labels is None else list(labels)
    if len(labels) != len(keys):
        raise ValueError(f"Got {len(labels)} labels for {len(keys)} curves: {', '.join(keys)}.")
    with style():
        figure, axes = plt.subplots()
        for index, (key, label) in enumerate(zip(keys, labels, strict=True)):
            steps, values = _points(log_rows, x, key)
            colour, line = (cycle[index % len(COLOURS)] for cycle in (COLOURS, LINES))
            # Validation is logged seldom: a mean over its few points would hide its course.
            if smooth > 1 and len(values) >= 4 * smooth:
                axes.plot(steps, values, color=colour, linestyle="-", linewidth=1, alpha=0.25)
                values = _running_mean(values, smooth)
            axes.plot(steps, values, color=colour, linestyle=line, label=label)
        if log_y:
            axes.set_yscale("log")
        default = keys[0] if len(keys) == 1 else ""
        axes.set(xlabel=x_label or x, ylabel=y_label or default, title=title or "")
        _dress(axes, "y")
        if len(keys) > 1:
            axes.legend()
    return _finish(figure)


def _points(log_rows: Sequence[Mapping], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        (row[x], row[y]) for row in log_rows if row.get(x) is not None and row.get(y) is not None
    ]
    if not pairs:
        known = sorted({key for row in log_rows for key in row})
        raise ValueError(
            f"None of {len(log_rows)} rows has both {x!r} and {y!r}; "
            f"found {', '.join(known) or 'nothing'}."
        )
    steps, values = np.asarray(pairs, dtype=float).T
    return steps, values


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred means, over fewer points towards the ends; NaN and infinite values do not count."""
    finite = np.isfinite(values)
    ones = np.ones(window)
    total = np.convolve(np.where(finite, values, 0.0), ones, mode="same")
    count = np.convolve(finite.astype(float), ones, mode="same")
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0.5)


def bar_with_intervals(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str | None = None,
    x_label: str | None = None,
    limits: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Horizontal bars, top to bottom in the order given, each with its interval and its value.

    Args:
        names, values: one bar each.
        low, high: ends of the interval, in the units of `values` (not distances from it).
        limits: ends of the horizontal axis, such as (0, 1).
        marks: named vertical lines, such as {"shuffled captions": 0.08}.

    Raises:
        ValueError: if lengths differ, or an interval does not hold its value.
    """
    if not len(names) == len(values) == len(low) == len(high) or not len(names):
        lengths = [len(part) for part in (names, values, low, high)]
        raise ValueError(f"names, values, low, high have lengths {lengths}; expected equal, not 0.")
    for name, value, bottom, top in zip(names, values, low, high, strict=True):
        if not bottom <= value <= top:
            raise ValueError(f"{name}: the interval [{bottom}, {top}] does not hold {value}.")
    places = np.arange(len(names))[::-1]
    values, low, high = (np.asarray(part, dtype=float) for part in (values, low, high))
    with style():
        figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.36 * len(names)))
        axes.barh(places, values, height=0.66, color=COLOURS[0])
        spread = np.stack([values - low, high - values])  # (2, N)
        thin = {"fmt": "none", "ecolor": INK, "elinewidth": 1.4, "capsize": 3}
        axes.errorbar(values, places, xerr=spread, **thin)
        for place, value, top in zip(places, values, high, strict=True):
            beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            beside["bbox"] = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.5}
            axes.annotate(f"{value:.2f}", (top, place), **beside, fontsize=9.5)
        for index, (name, value) in enumerate((marks or {}).items(), start=1):
            colour, line = (cycle[index % len(COLOURS)] for cycle in (COLOURS, LINES))
            axes.axvline(value, color=colour, linestyle=line, linewidth=1.4, label=name)
        axes.set_yticks(places, names)
        axes.set(xlabel=x_label or "", title=title or "")
        if limits is None:
            axes.margins(x=0.12)  # room for the written values
        else:
            axes.set_xlim(*limits)
        _dress(axes, "x")
        if marks:
            figure.legend(loc="outside lower center", ncols=min(3, len(marks)), fontsize=9.5)
    return _finish(figure)
