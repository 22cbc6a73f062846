"""The result of an evaluation: scores with intervals, a table, and JSON beside it."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .prompts import GENEVAL_TASKS

ROUNDS = 4000  # of the bootstrap
KINDS = ("objects", "count", "colour", "position")  # of checks
_PACKAGES = ("vislm-tutorial", "torch", "diffusers", "transformers", "numpy", "scipy")


@dataclass(frozen=True)
class PromptResult:
    """One judged picture: the checks of its prompt as (kind, holds), and why it failed, if so."""

    task: str
    text: str
    checks: tuple[tuple[str, bool], ...]
    reasons: tuple[str, ...] = ()

    @property
    def correct(self) -> bool:
        """True when every check holds."""
        return all(holds for _, holds in self.checks)


@dataclass(frozen=True)
class Score:
    """A share of right pictures with its 95 % interval, both in [0, 1], of `n` pictures."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@dataclass(frozen=True)
class EvalResult:
    """All judged pictures of an evaluation. Shows itself as a table, in print and in notebooks."""

    results: tuple[PromptResult, ...]
    seed: int
    n: int  # prompts a task
    image_size: int
    versions: dict[str, str] = field(default_factory=_versions)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Score by task, in the order of evaluation, with its bootstrap interval over prompts.

        Where all pictures are right, or all wrong, resampling cannot vary: the interval is a point.
        """
        return {task: _score(rounds, self._correct[task]) for task, rounds in self._rounds.items()}

    @cached_property
    def overall(self) -> Score | None:
        """GenEval's overall score: the plain mean over its six tasks; None unless all were judged.

        Its interval resamples the prompts inside each task.
        """
        if not set(GENEVAL_TASKS) <= set(self._correct):
            return None
        rounds = np.mean([self._rounds[task] for task in GENEVAL_TASKS], axis=0)
        value = np.mean([self.scores[task].value for task in GENEVAL_TASKS])
        n = sum(self.scores[task].n for task in GENEVAL_TASKS)
        return Score(float(value), *_interval(rounds), n)

    @cached_property
    def breakdown(self) -> dict[str, dict[str, float]]:
        """By task, the share of checks of each kind that hold: which part of a prompt fails."""
        total, held = Counter(), Counter()
        for result in self.results:
            for kind, holds in result.checks:
                total[result.task, kind] += 1
                held[result.task, kind] += holds
        return {
            task: {k: held[task, k] / total[task, k] for k in KINDS if total[task, k]}
            for task in self._correct
        }

    @property
    def failures(self) -> list[PromptResult]:
        """The wrong pictures, with reasons."""
        return [result for result in self.results if not result.correct]

    @cached_property
    def _correct(self) -> dict[str, np.ndarray]:
        by_task: dict[str, list[bool]] = {}
        for result in self.results:
            by_task.setdefault(result.task, []).append(result.correct)
        return {task: np.array(values, dtype=float) for task, values in by_task.items()}

    @cached_property
    def _rounds(self) -> dict[str, np.ndarray]:
        """By task, the scores (ROUNDS,) of prompts drawn with replacement."""
        rng = np.random.default_rng(self.seed)
        return {
            task: values[rng.integers(len(values), size=(ROUNDS, len(values)))].mean(axis=1)
            for task, values in self._correct.items()
        }

    # --- showing and keeping ---

    def _rows(self) -> Iterator[tuple[str, ...]]:
        def row(name: str, score: Score, kinds: dict[str, float]) -> tuple[str, ...]:
            parts = (f"{kinds[k]:.2f}" if k in kinds else "" for k in KINDS)
            interval = f"{score.low:.3f} - {score.high:.3f}"
            return (name, str(score.n), f"{score.value:.3f}", interval, *parts)

        for task, score in self.scores.items():
            yield row(task.replace("_", " "), score, self.breakdown[task])
        if self.overall:
            yield row("overall (GenEval's six)", self.overall, {})

    def markdown(self) -> str:
        """The table as Markdown that is readable as plain text."""
        rows = [_HEADER, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
        rule = tuple("-" * (w - 1) + ":" if i else "-" * w for i, w in enumerate(widths))
        lines = []
        for row in (rows[0], rule, *rows[1:]):
            first, *rest = (cell.rjust(w) for cell, w in zip(row, widths, strict=True))
            lines.append(f"| {' | '.join((first.strip().ljust(widths[0]), *rest))} |")
        return "\n".join(lines)

    __str__ = markdown

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self._rows())
        return f"<table><thead>{line(_HEADER, 'th')}</thead><tbody>{body}</tbody></table>"

    def to_json(self) -> str:
        """Everything: scores for readers, and the judged prompts, which `from_json` reads."""
        overall = vars(self.overall) if self.overall else None
        values = {
            "overall": overall,
            "scores": {task: vars(score) for task, score in self.scores.items()},
            "breakdown": self.breakdown,
            "seed": self.seed,
            "n": self.n,
            "image_size": self.image_size,
            "versions": self.versions,
            "results": [vars(result) for result in self.results],
        }
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> EvalResult:
        """The inverse of `to_json`; scores are computed again."""
        values = json.loads(text)
        results = tuple(
            PromptResult(
                r["task"],
                r["text"],
                tuple((kind, holds) for kind, holds in r["checks"]),
                tuple(r["reasons"]),
            )
            for r in values["results"]
        )
        keep = ("seed", "n", "image_size", "versions")
        return cls(results, **{key: values[key] for key in keep})

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the table to `path`.md and everything to `path`.json; returns both paths."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        table, data = path.with_suffix(".md"), path.with_suffix(".json")
        table.write_text(self.markdown() + "\n", encoding="utf-8")
        data.write_text(self.to_json() + "\n", encoding="utf-8")
        return table, data


_HEADER = ("task", "prompts", "score", "95 % interval", *KINDS)


def _interval(rounds: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(rounds, (0.025, 0.975))
    return float(low), float(high)


def _score(rounds: np.ndarray, correct: np.ndarray) -> Score:
    return Score(float(correct.mean()), *_interval(rounds), len(correct))
