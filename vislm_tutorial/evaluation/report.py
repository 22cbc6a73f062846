"""The result of an evaluation: scores with intervals, a table, and JSON beside it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .clauses import VERSION
from .paraphrases import GROUP, PARAPHRASES
from .prompts import GENEVAL_TASKS
from .scores import (
    FRACTION,
    KINDS,
    SCORE,
    PromptResult,
    Score,
    measured,
    resampled,
    score_of,
)
from .table import html_table, markdown_table, result_cells

_PACKAGES = ("vislm-tutorial", "torch", "diffusers", "transformers", "numpy", "scipy")


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
    """All judged pictures of an evaluation. Shows itself as a table, in print and in notebooks.

    Attributes:
        results: the judged pictures, by task, in the order of the prompts.
        seed, n: what `prompts_for` was asked for.
        image_size: the side of the pictures in pixels.
        versions: of the packages at work.
        exact_eval_version: whose prompts and rules these are; "" in files from before it was kept.
        prompt_hashes: by task, the sha256 of its prompts (`clauses.prompt_hash`), likewise.
        name: who was scored.
        parameters: how many numbers it has learned, if that is known.
        seconds: how long it drew, all pictures together, if that was measured.
        command: what was typed to make it, if it was a command.
    """

    results: tuple[PromptResult, ...]
    seed: int
    n: int
    image_size: int
    versions: dict[str, str] = field(default_factory=_versions)
    exact_eval_version: str = VERSION
    prompt_hashes: dict[str, str] = field(default_factory=dict)
    name: str = ""
    parameters: int | None = None
    seconds: float | None = field(default=None, compare=False)
    command: str = field(default="", compare=False)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Score by task, in the order of evaluation, with its bootstrap interval over prompts.

        Where all pictures are right, or all wrong, resampling cannot vary: the interval is a point.
        Of concepts this is the full mark. Of paraphrases it is the mean over all pictures, and the
        interval resamples groups.
        """
        return {
            task: score_of(columns[SCORE].mean(), self._rounds[task][SCORE], self._pictures[task])
            for task, columns in self.measures.items()
        }

    @cached_property
    def beside(self) -> dict[str, dict[str, Score]]:
        """By task, what is measured beside the score: see `scores.measured` for the names.

        Of concepts, the fraction; of paraphrases, the shares of groups that are all right and all
        wrong. Other tasks are left out.
        """
        return {
            task: {
                name: score_of(values.mean(), self._rounds[task][name], len(values))
                for name, values in columns.items()
                if name != SCORE
            }
            for task, columns in self.measures.items()
            if len(columns) > 1
        }

    @property
    def fractions(self) -> dict[str, Score]:
        """ConceptMix's concept fraction by concept task: the mean share of checks that hold."""
        return {task: by[FRACTION] for task, by in self.beside.items() if FRACTION in by}

    @property
    def lucky_groups(self) -> float | None:
        """The share of paraphrase groups that would be all right if only luck chose which are.

        With the mean score p it is p^4. None without paraphrases.
        """
        mean = self.scores.get(PARAPHRASES)
        return mean.value**GROUP if mean else None

    @cached_property
    def overall(self) -> Score | None:
        """GenEval's overall score: the plain mean over its six tasks; None unless all were judged.

        Its interval resamples the prompts inside each task.
        """
        if not set(GENEVAL_TASKS) <= set(self.measures):
            return None
        rounds = np.mean([self._rounds[task][SCORE] for task in GENEVAL_TASKS], axis=0)
        value = np.mean([self.scores[task].value for task in GENEVAL_TASKS])
        return score_of(value, rounds, sum(self.scores[task].n for task in GENEVAL_TASKS))

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
            for task in self.measures
        }

    @property
    def failures(self) -> list[PromptResult]:
        """The wrong pictures, with reasons."""
        return [result for result in self.results if not result.correct]

    @cached_property
    def _by_task(self) -> dict[str, list[PromptResult]]:
        by_task: dict[str, list[PromptResult]] = {}
        for result in self.results:
            by_task.setdefault(result.task, []).append(result)
        return by_task

    @property
    def _pictures(self) -> dict[str, int]:
        return {task: len(results) for task, results in self._by_task.items()}

    @cached_property
    def measures(self) -> dict[str, dict[str, np.ndarray]]:
        """By task, what `scores.measured` says: values (units,) by name, before any mean."""
        return {task: measured(task, results) for task, results in self._by_task.items()}

    @cached_property
    def _rounds(self) -> dict[str, dict[str, np.ndarray]]:
        rng = np.random.default_rng(self.seed)
        return {task: resampled(columns, rng) for task, columns in self.measures.items()}

    # --- showing and keeping ---

    def markdown(self) -> str:
        """The table as Markdown that is readable as plain text."""
        return markdown_table(*result_cells(self))

    __str__ = markdown

    def _repr_html_(self) -> str:
        return html_table(*result_cells(self))

    def to_json(self) -> str:
        """Everything: scores for readers, and the judged prompts, which `from_json` reads."""
        values = {
            "overall": vars(self.overall) if self.overall else None,
            "scores": {task: vars(score) for task, score in self.scores.items()},
            "beside": {
                task: {name: vars(score) for name, score in by.items()}
                for task, by in self.beside.items()
            },
            "lucky_groups": self.lucky_groups,
            "breakdown": self.breakdown,
            **{name: getattr(self, name) for name in _KEPT},
            "results": [vars(result) for result in self.results],
        }
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> EvalResult:
        """The inverse of `to_json`; scores are computed again.

        A file from before versions were kept has no `exact_eval_version` and no hashes.

        Raises:
            ValueError, TypeError, KeyError: if it is no JSON, or none that `to_json` wrote.
        """
        values = {"exact_eval_version": "", **json.loads(text)}
        results = tuple(
            PromptResult(
                r["task"],
                r["text"],
                tuple((kind, holds) for kind, holds in r["checks"]),
                tuple(r["reasons"]),
            )
            for r in values["results"]
        )
        needed = {name: values[name] for name in ("seed", "n", "image_size", "versions")}
        return cls(results, **needed | {name: values[name] for name in _KEPT if name in values})

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the table to `path`.md and everything to `path`.json; returns both paths."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        table, data = path.with_suffix(".md"), path.with_suffix(".json")
        table.write_text(self.markdown() + "\n", encoding="utf-8")
        data.write_text(self.to_json() + "\n", encoding="utf-8")
        return table, data


_KEPT = (
    *("name", "command", "parameters", "seconds", "exact_eval_version", "prompt_hashes"),
    *("seed", "n", "image_size", "versions"),
)
