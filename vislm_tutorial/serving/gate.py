"""May a new model replace the old one? Only if it is better where it should be, and loses nothing.

Both draw the same captions from the same noise, so each caption is a pair, and what counts is in
how many pairs the two differ, and in which direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Difference:
    """Share right after minus share right before, with its 95 % interval, over n pairs."""

    value: float
    low: float
    high: float
    n: int
    before: float  # share right
    after: float

    def __str__(self) -> str:
        change = f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.before:.2f} -> {self.after:.2f}, {change} of {self.n}"


@dataclass(frozen=True)
class Rule:
    """What is asked of a new model."""

    margin: float = 0.1  # of old captions it may be worse by less than this, surely
    gain: float = 0.0  # of new captions it must be better by more than this, surely
    least: int = 20  # captions of each kind, or nothing can be said

    def __post_init__(self) -> None:
        if not (0 <= self.margin < 1 and 0 <= self.gain < 1 and self.least >= 1):
            raise ValueError(f"{self}: expected margin and gain in [0, 1), least 1 or more.")


@dataclass(frozen=True)
class Verdict:
    """Whether the new model is accepted, and why."""

    accepted: bool
    old: Difference
    new: Difference
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "refused"
        lines = [f"{word}: {'; '.join(self.reasons)}", f"old captions: {self.old}"]
        return "\n".join([*lines, f"new captions: {self.new}"])


def compare(before: Sequence[bool], after: Sequence[bool]) -> Difference:
    """The difference of two shares over the same n captions.

    With b pairs right before only and c right after only: d = (c - b) / n. The interval adds half a
    pair to each of the four kinds of pairs, n' = n + 2, b' = b + 1/2, c' = c + 1/2:

        d' +- z sqrt(b' + c' - (c' - b')^2 / n') / n',  d' = (c' - b') / n'

    so that it keeps a width where no pair differs (Agresti and Min 2005, "Simple improved
    confidence intervals for comparing matched proportions").

    Raises:
        ValueError: if the two are not equally long, or empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(
            f"{len(before)} answers before and {len(after)} after; expected as many, and some: "
            "both models draw the same captions."
        )
    n = len(before)
    pairs = list(zip(before, after, strict=True))
    lost = sum(bool(old) and not new for old, new in pairs)
    won = sum(bool(new) and not old for old, new in pairs)
    value, middle = (won - lost) / n, (won - lost) / (n + 2)
    half = Z * math.sqrt(won + lost + 1 - (won - lost) ** 2 / (n + 2)) / (n + 2)
    low, high = max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half))
    shares = sum(map(bool, before)) / n, sum(map(bool, after)) / n
    return Difference(value, low, high, n, *shares)


def decide(old: Difference, new: Difference, rule: Rule | None = None) -> Verdict:
    """Accept a model that is surely better on new captions and surely hardly worse on old ones."""
    rule = rule or Rule()
    against = []
    if min(old.n, new.n) < rule.least:
        against.append(f"only {old.n} old and {new.n} new captions, {rule.least} of each are asked")
    if old.low <= -rule.margin:
        against.append(
            f"on old captions it may be worse by {-old.low:.2f}, the margin is {rule.margin:g}"
        )
    if new.low <= rule.gain:
        against.append(f"on new captions it is not surely better by more than {rule.gain:g}")
    fine = "surely better on new captions, and old ones lose less than the margin"
    return Verdict(not against, old, new, tuple(against) or (fine,))
