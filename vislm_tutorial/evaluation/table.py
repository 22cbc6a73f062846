"""Tables in Markdown that are readable as plain text, and in HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .scores import KINDS, Score

if TYPE_CHECKING:
    from .report import EvalResult

Row = Sequence[str]
ALWAYS = KINDS[:4]  # have a column in every table


def markdown_table(header: Row, rows: Sequence[Row], left: int = 1) -> str:
    """Cells of one width in each column; the first `left` columns to the left, others right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Row) -> str:
        placed = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(placed)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(map(line, [lines[0], rule, *lines[1:]]))


def html_table(header: Row, rows: Sequence[Row]) -> str:
    """The same cells as HTML."""

    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    head = line(header, "th")  # themes know a table of this class
    return f'<table class="dataframe"><thead>{head}</thead><tbody>{body}</tbody></table>'


def result_cells(result: EvalResult) -> tuple[Row, list[Row]]:
    """An evaluation's header and rows: each task, what is measured beside it, and the overall."""
    seen = {kind for kinds in result.breakdown.values() for kind in kinds}
    kinds = [kind for kind in KINDS if kind in ALWAYS or kind in seen]

    def row(name: str, score: Score, parts: dict[str, float]) -> Row:
        interval = f"{score.low:.3f} - {score.high:.3f}"
        shares = (f"{parts[k]:.2f}" if k in parts else "" for k in kinds)
        return (name, str(score.n), f"{score.value:.3f}", interval, *shares)

    rows = []
    for task, score in result.scores.items():
        said = task.replace("_", " ")
        rows.append(row(said, score, result.breakdown[task]))
        beside = result.beside.get(task, {})
        rows += [row(f"{said}, {name}", other, {}) for name, other in beside.items()]
    if result.overall:
        rows.append(row("overall (GenEval's six)", result.overall, {}))
    return ("task", "prompts", "score", "95 % interval", *kinds), rows
