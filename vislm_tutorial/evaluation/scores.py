"""From judged pictures to scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .concepts import CONCEPT_TASKS
from .paraphrases import GROUP, PARAPHRASES

ROUNDS = 4000  # of the bootstrap
KINDS = ("objects", "count", "colour", "position", "size", "fill", "background")  # of checks
# What is measured beside the score: of concepts, the mean share of checks that hold; of
# paraphrases, the shares of groups in which every picture is right, and in which none is.
SCORE, FRACTION, ALL_RIGHT, NONE_RIGHT = "score", "fraction", "all of a group", "none of a group"


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

    @property
    def fraction(self) -> float:
        """The share of checks that hold, in [0, 1]."""
        return sum(holds for _, holds in self.checks) / len(self.checks)


@dataclass(frozen=True)
class Score:
    """A share with its 95 % interval, in [0, 1], of `n` pictures or groups of pictures.

    A difference of two shares, from `compare`, has the same form and lies in [-1, 1].
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def measured(task: str, results: Sequence[PromptResult]) -> dict[str, np.ndarray]:
    """What is averaged, by name, (units,) each, and in the same order as `results`.

    A unit is what the bootstrap resamples: a prompt, or a whole group of paraphrases.

    Raises:
        ValueError: if there are paraphrases outside whole groups.
    """
    correct = np.array([result.correct for result in results], dtype=float)
    if task in CONCEPT_TASKS:
        return {SCORE: correct, FRACTION: np.array([result.fraction for result in results])}
    if task == PARAPHRASES:
        if len(correct) % GROUP:
            raise ValueError(
                f"there are {len(correct)} paraphrases; expected whole groups of {GROUP}."
            )
        groups = correct.reshape(-1, GROUP)  # (pictures,) -> (groups, GROUP)
        right, wrong = (groups == 1).all(axis=1), (groups == 0).all(axis=1)
        return {
            SCORE: groups.mean(axis=1),
            ALL_RIGHT: right.astype(float),
            NONE_RIGHT: wrong.astype(float),
        }
    return {SCORE: correct}


def resampled(columns: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """By name, the means (ROUNDS,) over units drawn with replacement, the same for each column."""
    units = len(next(iter(columns.values())))
    rows = rng.integers(units, size=(ROUNDS, units))
    return {name: values[rows].mean(axis=1) for name, values in columns.items()}


def score_of(value: float, rounds: np.ndarray, n: int) -> Score:
    """A score from its value and its bootstrap rounds (ROUNDS,): a percentile interval."""
    low, high = np.quantile(rounds, (0.025, 0.975))
    return Score(float(value), float(low), float(high), n)
