"""ExactEval: GenEval's measure (Ghosh et al. 2023), with a parser in the place of its detector.

GenEval finds objects with a trained detector and inherits its mistakes. Here
`vislm_tutorial.data.parsing` reads pictures back with a known accuracy, which `ceiling` measures.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from vislm_tutorial.data.parsing import RESIDUAL_LIMIT, Reading, read
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import SceneObject, relations

from .clauses import Check, Clause, Prompt, prompt_hash
from .concepts import CONCEPT_TASKS, judge_concepts
from .prompts import TASKS, chosen_tasks, prompts_for, scene_for
from .report import EvalResult
from .scores import PromptResult

Draw = Callable[[list[str], int], Tensor]  # (captions, seed) -> (B, 3, H, W) in [-1, 1]


def evaluate(
    draw: Draw,
    tasks: Sequence[str] | str = TASKS,
    n: int = 100,
    seed: int = 0,
    batch_size: int = 50,
    name: str = "",
    parameters: int | None = None,
) -> EvalResult:
    """Ask a generator for pictures and judge them.

    Args:
        draw: takes a list of captions and a seed, gives (B, 3, H, W) in [-1, 1].
        tasks: some of `prompts.ALL_TASKS` or of the names in `prompts.GROUPS`, or one.
        n: prompts a task; of paraphrases, as many more as fill the last group.
        seed: chooses the prompts; batch i is drawn with seed + i.
        batch_size: captions a call of `draw`.
        name, parameters: who draws, and how many numbers it has learned; kept in the result.

    Raises:
        ValueError: for an unknown task, or when `draw` returns another shape.
    """
    result = _evaluate(
        lambda batch, s: draw([p.text for p in batch], s), tasks, n, seed, batch_size
    )
    return replace(result, name=name, parameters=parameters)


def ceiling(
    tasks: Sequence[str] | str = TASKS[:-1], n: int = 100, seed: int = 0, image_size: int = 64
) -> EvalResult:
    """What a perfect generator scores: real renders of a scene made for each prompt, judged alike.

    `shuffled` is left out unless asked for: its clauses belong to another caption.
    """

    def show(batch: list[Prompt], s: int) -> Tensor:
        rng = random.Random(s)
        return render([scene_for(prompt, rng) for prompt in batch], image_size)

    return replace(_evaluate(show, tasks, n, seed, 50), name="ceiling")


def _evaluate(
    show: Callable[[list[Prompt], int], Tensor],
    tasks: Sequence[str],
    n: int,
    seed: int,
    batch_size: int,
) -> EvalResult:
    asked = {task: prompts_for(task, n, seed) for task in chosen_tasks(tasks)}
    prompts = [prompt for own in asked.values() for prompt in own]
    results, seconds = [], 0.0
    for i, start in enumerate(range(0, len(prompts), batch_size)):
        batch = prompts[start : start + batch_size]
        begun = time.perf_counter()
        images = show(batch, seed + i)
        seconds += time.perf_counter() - begun
        _check_pictures(images, len(batch))
        readings = read(images)
        results += [result_of(p, r) for p, r in zip(batch, readings, strict=True)]
    return EvalResult(
        tuple(results),
        seed=seed,
        n=n,
        image_size=int(images.shape[-1]),
        prompt_hashes={task: prompt_hash(own) for task, own in asked.items()},
        seconds=seconds,
    )


def _check_pictures(images: object, number: int) -> None:
    expected = f"expected a tensor of shape ({number}, 3, H, W), H = W, with values in [-1, 1]."
    if not isinstance(images, Tensor):
        raise ValueError(f"draw returned {type(images).__name__} for {number} captions; {expected}")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[:2] != (number, 3) or shape[2] != shape[3]:
        raise ValueError(f"draw returned {shape} for {number} captions; {expected}")


def result_of(prompt: Prompt, reading: Reading) -> PromptResult:
    """A prompt's judgement as the report keeps it."""
    checks = judge(prompt, reading)
    reasons = [check.reason for check in checks if not check.holds]
    unclear = len(reading.objects) - len(reading.clear)
    if reasons and unclear:
        reasons.append(f"{unclear} unreadable")
    held = tuple((check.kind, check.holds) for check in checks)
    return PromptResult(prompt.task, prompt.text, held, tuple(reasons))


def judge(prompt: Prompt, reading: Reading) -> list[Check]:
    """Check a picture against a prompt, by GenEval's rules; it is right if every check holds.

    Prompts of concepts are checked by `concepts.judge_concepts`. In the others, an include clause
    takes the `count` clearest objects of its shape: there must be as many, all with the attributes
    that are asked for, all in the relation to all objects of the clause it refers to. An exclude
    clause fails if `count` or more objects have its shape. What no clause names is free.
    """
    fits = sorted(zip(reading.residuals, reading.objects, strict=True), key=lambda fit: fit[0])
    found = [o for residual, o in fits if residual <= RESIDUAL_LIMIT]
    if prompt.task in CONCEPT_TASKS:
        return judge_concepts(prompt, found, reading.background)
    checks: list[Check] = []
    groups: list[list[SceneObject] | None] = []  # as matched by each include clause
    for clause in prompt.include:
        group = [o for o in found if o.shape == clause.shape][: clause.count]
        mine = _include(clause, group, groups)
        checks += mine
        groups.append(group if all(c.holds for c in mine if c.kind != "position") else None)
    for clause in prompt.exclude:
        number = sum(o.shape == clause.shape for o in found)
        reason = f"expected {clause.shape}<{clause.count}, found {number}"
        checks.append(Check("count", number < clause.count, reason))
    if prompt.background:
        reason = f"expected {prompt.background} background, found {reading.background}"
        checks.append(Check("background", reading.background == prompt.background, reason))
    return checks


def _include(clause: Clause, group: list[SceneObject], earlier: list) -> list[Check]:
    enough = len(group) == clause.count
    kind = "objects" if clause.count == 1 else "count"
    reason = f"expected {clause.shape}>={clause.count}, found {len(group)}"
    checks = [Check(kind, enough, reason)]
    for name, wanted in clause.attributes.items():
        seen = [getattr(o, name) for o in group]
        right = enough and seen.count(wanted) == clause.count
        said = ", ".join(seen) or "none"
        reason = f"expected {wanted} {clause.shape}>={clause.count}, found {said}"
        checks.append(Check(name, right, reason))
    if clause.position:
        relation, target = clause.position
        others = earlier[target]
        holds = bool(enough and others) and all(
            relation in relations(a, b) for a in group for b in others
        )
        checks.append(Check("position", holds, _position_reason(clause, group, others)))
    return checks


def _position_reason(clause: Clause, group: list[SceneObject], others: list | None) -> str:
    relation = clause.position[0]
    if not group or not others:
        return f"nothing for {clause.shape} to be {relation}"
    seen = sorted({r for a in group for b in others for r in relations(a, b)}) or [
        "none of the four"
    ]
    return f"expected {clause.shape} {relation} {others[0].shape}, found {' and '.join(seen)}"
