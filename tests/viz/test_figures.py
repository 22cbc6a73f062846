"""Figures show what they were given, can be read by everybody, and leave matplotlib as it was."""

from __future__ import annotations

import io
import itertools
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image

from vislm_tutorial.viz import bar_with_intervals, plot_curve, show_images, style
from vislm_tutorial.viz.figures import CARD, COLOURS, INK, LINES


def rendered(figure) -> Image.Image:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def labels(figure) -> list[str]:
    return [place.get_xlabel() for place in figure.axes]


# --- style --------------------------------------------------------------------------------------

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# Full dichromacy on linear RGB, from Machado, Oliveira and Fernandes 2009.
_VISION = {
    "usual": np.eye(3),
    "no red cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no green cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def linear(colour: str) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = _TO_XYZ @ rgb.clip(0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_on_card(colour: str) -> float:
    """Contrast ratio as WCAG defines it."""
    first, second = (_TO_XYZ[1] @ linear(c) + 0.05 for c in (CARD, colour))
    return max(first, second) / min(first, second)


@pytest.mark.parametrize("vision", _VISION)
def test_colours_can_be_told_apart(vision):
    seen = [lab(_VISION[vision] @ linear(colour)) for colour in COLOURS]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 15


def test_colours_stand_out_from_the_card():
    assert min(contrast_on_card(colour) for colour in COLOURS) >= 3.0
    assert contrast_on_card(INK) >= 7.0
    assert len({str(line) for line in LINES}) == len(COLOURS)


def test_the_readers_settings_are_left_alone():
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["legend.frameon"] is False
    plot_curve([{"x": 0, "y": 1}], "x", "y")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_the_card_is_white_on_any_page():
    with mpl.rc_context({"savefig.transparent": False, "figure.facecolor": "black"}):
        corner = rendered(show_images(torch.zeros(1, 3, 8, 8))).getpixel((0, 0))
    assert corner == (255, 255, 255)


def test_text_is_legible_on_a_phone():
    """At 358 px of page width no text may shrink below 7.5 px."""
    figure = plot_curve([{"x": i, "a": i, "b": 1} for i in range(9)], "x", ["a", "b"], title="t")
    figure.canvas.draw()
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
    shrink = 358 / figure.get_size_inches()[0] / 72
    assert len(texts) > 5
    assert min(text.get_fontsize() for text in texts if text.get_text()) * shrink > 7.5


# --- show_images --------------------------------------------------------------------------------


def test_images_and_captions_are_all_there():
    images = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 3, 8, 8)
    figure = show_images(images, [f"grey {i}" for i in range(5)], columns=3, title="Greys")
    assert labels(figure)[:5] == [f"grey {i}" for i in range(5)]
    shown = [place.images[0].get_array() for place in figure.axes[:5]]
    assert [int(array[0, 0, 0]) for array in shown] == [0, 64, 128, 191, 255]
    assert not figure.axes[5].axison and not figure.axes[5].images
    assert rendered(figure).width <= 640


def test_pictures_of_pil_will_do():
    figure = show_images([Image.new("RGB", (8, 8), "red")])
    assert rendered(figure).getpixel((figure.bbox.width // 2, figure.bbox.height // 2)) == (
        255,
        0,
        0,
    )


def test_long_captions_are_wrapped_and_cut_and_dollars_are_not_formulas():
    figure = show_images(torch.zeros(2, 3, 8, 8), ["word " * 100, "costs $5 or $x_"], columns=2)
    rendered(figure)
    assert labels(figure)[0].count("\n") == 3 and labels(figure)[0].endswith("…")
    assert labels(figure)[1] == "costs $5 or $x_"


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((torch.zeros(2, 3, 8, 8), ["one"]), "1 captions for 2 images"),
        ((torch.zeros(3, 8, 8),), r"image\[None\]"),
        (([],), "0 images"),
        ((torch.zeros(1, 3, 8, 8), None, 0), "0 columns"),
    ],
)
def test_show_images_says_what_is_wrong(arguments, match):
    with pytest.raises(ValueError, match=match):
        show_images(*arguments)


# --- plot_curve ---------------------------------------------------------------------------------


def test_curves_leave_out_rows_without_the_key():
    rows = [{"step": i, "loss": 2.0 * i, **({"val": i} if i % 5 == 0 else {})} for i in range(20)]
    (axes,) = plot_curve([*rows, {"note": "end"}], "step", ["loss", "val"]).axes
    loss, val = axes.lines
    assert list(val.get_xdata()) == [0, 5, 10, 15]
    assert list(loss.get_ydata()) == [2.0 * i for i in range(20)]
    assert loss.get_color() != val.get_color() and loss.get_linestyle() != val.get_linestyle()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "val"]


def test_smoothing_does_not_lag_or_shorten():
    rows = [{"step": i, "loss": float(i)} for i in range(40)]
    (axes,) = plot_curve(rows, "step", "loss", smooth=5).axes
    raw, smoothed = axes.lines
    assert list(raw.get_ydata()) == [float(i) for i in range(40)]
    assert len(smoothed.get_xdata()) == 40
    np.testing.assert_allclose(smoothed.get_ydata()[2:-2], np.arange(2.0, 38.0))


def test_smoothing_survives_a_diverged_step():
    rows = [{"step": i, "loss": float("nan") if i == 20 else 1.0} for i in range(40)]
    smoothed = plot_curve(rows, "step", "loss", smooth=5).axes[0].lines[1]
    np.testing.assert_allclose(smoothed.get_ydata(), 1.0)


def test_log_axis_and_names():
    rows = [{"a": 1, "b": 0.1}, {"a": 2, "b": 10}]
    named = {"title": "T", "x_label": "time", "y_label": "size"}
    figure = plot_curve(rows, "a", "b", log_y=True, **named)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "size")
    assert axes.get_title(loc="left") == "T"


def test_unknown_keys_show_the_known_ones():
    with pytest.raises(ValueError, match="'lost'.*found loss, step"):
        plot_curve([{"step": 1, "loss": 2}], "step", "lost")
    with pytest.raises(ValueError, match="found nothing"):
        plot_curve([], "step", "loss")
    with pytest.raises(ValueError, match="1 labels for 2 curves"):
        plot_curve([{"x": 1, "a": 1, "b": 1}], "x", ["a", "b"], labels=["one"])


# --- bar_with_intervals -------------------------------------------------------------------------


def test_bars_stand_in_order_with_their_intervals():
    figure = bar_with_intervals(
        ["first", "second"], [0.5, 0.9], [0.4, 0.85], [0.7, 0.95], marks={"floor": 0.1}
    )
    (axes,) = figure.axes
    bars = axes.patches
    assert [bar.get_width() for bar in bars] == [0.5, 0.9]
    assert bars[0].get_y() > bars[1].get_y(), "the first name stands on top"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    (segments,) = [c.get_segments() for c in axes.collections]
    ends = sorted(tuple(segment[:, 0].round(6)) for segment in segments)
    assert ends == [(0.4, 0.7), (0.85, 0.95)]
    assert [text.get_text() for text in axes.texts] == ["0.50", "0.90"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["floor"]
    rendered(figure)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((["a"], [1, 2], [0], [3]), r"lengths \[1, 2, 1, 1\]"),
        (([], [], [], []), "not 0"),
        ((["a"], [0.5], [0.1], [0.2]), "a: the interval"),
        ((["a"], [float("nan")], [0.1], [0.2]), "does not hold nan"),
    ],
)
def test_bars_say_what_is_wrong(arguments, match):
    with pytest.raises(ValueError, match=match):
        bar_with_intervals(*arguments)
