"""Results beside each other, and only if all of them answer to the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from .clauses import prompt_hash
from .prompts import ALL_TASKS, GENEVAL_TASKS, prompts_for
from .report import EvalResult
from .scores import SCORE, Score, resampled, score_of

OVERALL = "overall"
UNVERSIONED = "1"  # whose prompts and rules the files have that say no version
UNKNOWN = "unknown"


def hashes_of(result: EvalResult) -> dict[str, str]:
    """By task, the sha256 of a result's prompts.

    A file from before hashes were kept still has its captions. Where they are those that its `n`
    and `seed` give, it has that hash; else `UNKNOWN`, which is like no other.
    """
    return {task: result.prompt_hashes.get(task) or _found(result, task) for task in result.scores}


def _found(result: EvalResult, task: str) -> str:
    if task not in ALL_TASKS:
        return UNKNOWN
    texts, known = _asked(task, result.n, result.seed)
    return known if texts == texts_of(result, task) else UNKNOWN


def texts_of(result: EvalResult, task: str) -> list[str]:
    """The captions of a task, in the order of asking."""
    return [r.text for r in result.results if r.task == task]


@lru_cache(maxsize=64)
def _asked(task: str, n: int, seed: int) -> tuple[list[str], str]:
    prompts = prompts_for(task, n, seed)
    return [prompt.text for prompt in prompts], prompt_hash(prompts)


def demand_same_prompts(results: Mapping[str, EvalResult]) -> dict[str, str]:
    """The hashes of all tasks, by task, if no two results differ in one.

    Args:
        results: by name; each may have other tasks. Picture sizes may differ.

    Raises:
        ValueError: if two come from different versions of ExactEval or different prompts; names
            both.
    """
    hashes: dict[str, tuple[str, str]] = {}  # by task, who asked it first, and the hash
    first, version = "", None
    for name, result in results.items():
        own_version = result.exact_eval_version or UNVERSIONED
        if version is None:
            first, version = name, own_version
        if own_version != version:
            raise ValueError(
                f"{first} was scored by ExactEval {version}, {name} by ExactEval {own_version}; "
                "evaluate both with the same version of the package."
            )
        for task, own in hashes_of(result).items():
            other, known = hashes.setdefault(task, (name, own))
            if other == name:
                continue
            texts = texts_of(results[other], task)
            if known != own or own == UNKNOWN or texts != texts_of(result, task):
                raise ValueError(
                    f"{_told(other, results[other])} and {_told(name, result)} answer to "
                    f"different prompts of {task} ({known[:8]} and {own[:8]}); `vislm evaluate` "
                    "both with the same --n and --seed."
                )
    return {task: known for task, (_, known) in hashes.items()}


def _told(name: str, result: EvalResult) -> str:
    return f"{name} (n {result.n}, seed {result.seed})"


def compare(
    first: EvalResult, second: EvalResult, tasks: Sequence[str] = ALL_TASKS
) -> dict[str, Score]:
    """The score of the first less that of the second, by task, and "overall" where both have it.

    Both drew the same prompts, so the difference is taken prompt by prompt and the bootstrap
    resamples the differences (a paired test): an interval without 0 tells the two apart, often
    where their own intervals overlap.

    Raises:
        ValueError: if they answer to different prompts, or share none of `tasks`.
    """
    named = zip(("first", "second"), (first, second), strict=True)
    demand_same_prompts({f"{r.name or 'unnamed'} ({place})": r for place, r in named})
    found = differences(first, second, tasks)
    if not found:
        raise ValueError(
            f"one result has {', '.join(first.scores)}, the other {', '.join(second.scores)}; "
            "expected a task in common."
        )
    return found


def differences(
    first: EvalResult, second: EvalResult, tasks: Sequence[str] = ALL_TASKS
) -> dict[str, Score]:
    """What `compare` gives, of two results whose prompts are known to be the same."""
    rng = np.random.default_rng(first.seed)
    columns = {
        t: first.measures[t][SCORE] - second.measures[t][SCORE]
        for t in tasks
        if t in first.scores and t in second.scores
    }
    rounds = {t: resampled({SCORE: values}, rng)[SCORE] for t, values in columns.items()}
    found = {
        t: score_of(values.mean(), rounds[t], first.scores[t].n) for t, values in columns.items()
    }
    if set(GENEVAL_TASKS) <= set(columns):
        value = np.mean([found[t].value for t in GENEVAL_TASKS])
        pictures = sum(found[t].n for t in GENEVAL_TASKS)
        mean = np.mean([rounds[t] for t in GENEVAL_TASKS], axis=0)
        found[OVERALL] = score_of(value, mean, pictures)
    return found
