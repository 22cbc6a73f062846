"""Each share stands in its own cell, missing ones stay empty, and digits can be read."""

from __future__ import annotations

import pytest
from matplotlib import pyplot as plt

from vislm_tutorial.viz.matrix import share_matrix

SHARES = {("a", "x"): 0.0, ("a", "y"): 1.0, ("b", "y"): 0.254}


def test_rows_and_columns_stand_in_their_order():
    open_before = plt.get_fignums()
    (axes,) = share_matrix(SHARES, x_label="seen", y_label="said").axes
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "0.00", (1, 0): "1.00", (1, 1): "0.25"}
    assert [t.get_text() for t in axes.get_xticklabels()] == ["x", "y"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seen", "said")
    assert plt.get_fignums() == open_before


def test_digits_are_white_on_dark_cells_alone():
    (axes,) = share_matrix(SHARES).axes
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["1.00"] == "white" and colours["0.00"] != "white" != colours["0.25"]


@pytest.mark.parametrize("shares", [{}, {("a", "x"): 1.2}, {("a", "x"): float("nan")}])
def test_what_is_no_share_is_refused(shares):
    with pytest.raises(ValueError, match="expected shares in"):
        share_matrix(shares)
