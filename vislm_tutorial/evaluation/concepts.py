"""Prompts that combine k concepts, after ConceptMix (Wu et al. 2024, arXiv 2408.14339).

One object and k more concepts in one caption, k = 1 to 7. Of each picture, k + 1 yes-or-no
questions are asked, each by itself: ConceptMix's full mark is the share of pictures in which all
are answered with yes, its concept fraction the mean share of yes. There a vision-language model
writes and answers; here a grammar writes, and the parser answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product

from vislm_tutorial.data.captions import NUMBERS, PHRASES, TEMPLATES, plural, with_article
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    FILLS,
    RELATIONS,
    SIZES,
    SceneObject,
    relations,
    training_pairs,
)

from .clauses import Check, Clause, Prompt

MOST = 7  # concepts of a prompt
CONCEPT_TASKS = tuple(f"concepts_{k}" for k in range(1, MOST + 1))
PATIENCE = 50  # tries for a caption that was not asked before

# A concept: its category, and which object it is said of. The shape of the first object is given.
_Concept = tuple[str, int]
_SECOND, _RELATION, _BACKGROUND = ("second object", 1), ("relation", 1), ("background", 0)
_CONCEPTS: tuple[_Concept, ...] = (
    *product(("number", "size", "fill", "colour"), (0, 1)),
    _SECOND,
    _RELATION,
    _BACKGROUND,
)


@cache
def _choices(k: int) -> tuple[frozenset[_Concept], ...]:
    """Every choice of k concepts that a caption can name and a picture has room for."""
    both_counted = {("number", 0), ("number", 1)}
    return tuple(
        chosen
        for chosen in map(frozenset, combinations(_CONCEPTS, k))
        # What is said of a second object needs one.
        if _SECOND in chosen or not any(where == 1 for _, where in chosen)
        # Two groups rarely find places in which each object of one is beside each of the other.
        if not (both_counted <= chosen and _RELATION in chosen)
    )


def concept_prompts(k: int, n: int, rng: random.Random) -> list[Prompt]:
    """`n` prompts with k concepts beside the object; captions repeat only when they run out."""
    prompts, asked = [], set()
    while len(prompts) < n:
        for _ in range(PATIENCE):
            prompt = _compose(rng.choice(_choices(k)), f"concepts_{k}", rng)
            if prompt.text not in asked:
                break
        asked.add(prompt.text)
        prompts.append(prompt)
    return prompts


def _compose(chosen: frozenset[_Concept], task: str, rng: random.Random) -> Prompt:
    """A caption that names the chosen concepts, with values that the training grammar can show."""
    pairs = training_pairs()
    first = rng.choice(pairs)
    # In the grammar two groups never share a colour or a shape.
    second = rng.choice([p for p in pairs if p[0] != first[0] and p[1] != first[1]])
    looks = (first, second) if _SECOND in chosen else (first,)
    said = tuple(
        Clause(
            shape,
            count=rng.choice(_numbers(chosen)) if ("number", i) in chosen else 1,
            colour=colour if ("colour", i) in chosen else None,
            size=rng.choice(list(SIZES)) if ("size", i) in chosen else None,
            fill=rng.choice(FILLS) if ("fill", i) in chosen else None,
        )
        for i, (colour, shape) in enumerate(looks)
    )
    include, joined = said, " and "
    if _RELATION in chosen:  # what the first stands in relation to comes before it in the clauses
        relation = rng.choice(RELATIONS)
        include = (said[1], replace(said[0], position=(relation, 0)))
        joined = f" {rng.choice((relation, PHRASES[relation]))} "
    text = joined.join(map(_said, said))
    background = rng.choice(list(BACKGROUNDS)) if _BACKGROUND in chosen else None
    if background:
        text += f" on {with_article(background)} background"
    exclude = tuple(Clause(c.shape, c.count + 1) for c in include if c.count > 1)
    return Prompt(rng.choice(TEMPLATES).format(text), include, exclude, task, background)


def _numbers(chosen: frozenset[_Concept]) -> Sequence[int]:
    """How many there may be of a counted shape, so that a scene has room for everything."""
    if _RELATION in chosen or {("number", 0), ("number", 1)} <= chosen:
        return (2,)
    return (2, 3) if _SECOND in chosen else tuple(NUMBERS)


def _said(clause: Clause) -> str:
    """Clause("star", 2, "red", size="small") -> "two small red stars"."""
    adjectives = filter(None, (clause.size, clause.fill, clause.colour))
    if clause.count == 1:
        return with_article(" ".join([*adjectives, clause.shape]))
    return " ".join([NUMBERS[clause.count], *adjectives, plural(clause.shape)])


def judge_concepts(prompt: Prompt, found: Sequence[SceneObject], background: str) -> list[Check]:
    """One check for the object and one for each concept, none of which leans on another.

    GenEval's rule, in contrast, lets a colour fail when the number is wrong. Both rules call the
    same pictures wholly right.

    Args:
        prompt: of one of `CONCEPT_TASKS`.
        found: the objects that are clear, the clearest first.
        background: as it was read.
    """
    counted = {clause.shape for clause in prompt.exclude}
    alike = [[o for o in found if o.shape == clause.shape] for clause in prompt.include]
    groups = [all_[: c.count] for all_, c in zip(alike, prompt.include, strict=True)]
    checks = []
    for clause, everyone, group in zip(prompt.include, alike, groups, strict=True):
        checks.append(Check("objects", bool(group), f"expected {clause.shape}, found none"))
        if clause.shape in counted:
            reason = f"expected {clause.shape}={clause.count}, found {len(everyone)}"
            checks.append(Check("count", len(everyone) == clause.count, reason))
        for name, wanted in clause.attributes.items():
            seen = [getattr(o, name) for o in group]
            reason = f"expected {wanted} {clause.shape}, found {', '.join(seen) or 'none'}"
            checks.append(Check(name, set(seen) == {wanted}, reason))
        if clause.position:
            relation, target = clause.position
            held = [relation in relations(a, b) for a, b in product(group, groups[target])]
            reason = f"{clause.shape} is not {relation} {prompt.include[target].shape}"
            checks.append(Check("position", bool(held) and all(held), reason))
    if prompt.background:
        reason = f"expected {prompt.background} background, found {background}"
        checks.append(Check("background", background == prompt.background, reason))
    return checks
