"""A table of shares as a picture: one cell a pair, with its number written in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .figures import FAINT, INK, WIDTH, _finish, style

DARK = 0.55  # from this share on, white digits are easier to read than black ones


def share_matrix(
    shares: Mapping[tuple[str, str], float],
    *,
    x_label: str | None = None,
    y_label: str | None = None,
    title: str | None = None,
) -> Figure:
    """Shares in [0, 1] by (row, column), darker where larger.

    Args:
        shares: one number a pair; rows and columns stand in the order in which they first occur.
            A pair that is not there stays grey and empty.

    Raises:
        ValueError: if there are no shares, or one is outside [0, 1].
    """
    if not shares or not all(0 <= value <= 1 for value in shares.values()):
        raise ValueError(f"share_matrix got {dict(shares)}; expected shares in [0, 1], at least 1.")
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*shares, strict=True))
    grid = np.array([[shares.get((r, c), np.nan) for c in columns] for r in rows], dtype=float)
    with style():
        figure, axes = plt.subplots(figsize=(WIDTH, 1.3 + 0.36 * len(rows)))
        axes.set_facecolor(FAINT)
        axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            if not np.isnan(value):
                ink = "white" if value > DARK else INK
                written = {"ha": "center", "va": "center", "color": ink, "fontsize": 9.5}
                axes.text(column, row, f"{value:.2f}", **written)
        axes.set_xticks(
            range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(colors=INK, labelsize=9.5, length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel=x_label or "", ylabel=y_label or "", title=title or "")
    return _finish(figure)
