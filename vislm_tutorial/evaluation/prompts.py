"""What ExactEval asks for: captions, each with clauses that a right picture fulfils.

The first six tasks are GenEval's (Ghosh et al. 2023, arXiv 2310.11513) in the world of shapes. Four
are this book's own: three repeat `colours` with something that training never used, so that the
difference to `colours` is what generalisation costs, and `shuffled` is the floor.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice, permutations, product

from vislm_tutorial.data.captions import (
    COLOUR_SYNONYMS,
    HELD_OUT_TEMPLATES,
    NUMBERS,
    SHAPE_SYNONYMS,
    TEMPLATES,
    plural,
    with_article,
)
from vislm_tutorial.data.scenes import (
    BACKGROUNDS,
    FILLS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    arrange,
    held_out_pairs,
    relations,
    training_pairs,
)

GENEVAL_TASKS = (
    "single_object",
    "two_objects",
    "counting",
    "colours",
    "position",
    "colour_attribution",
)
OUR_TASKS = ("held_out_pairs", "synonyms", "templates", "shuffled")
TASKS = GENEVAL_TASKS + OUR_TASKS


@dataclass(frozen=True)
class Clause:
    """ "`count` of `shape`", perhaps in a colour, perhaps placed relative to an earlier clause.

    `position` is (relation, i): the objects of this clause stand in that relation to those of the
    prompt's include clause number i.
    """

    shape: str
    count: int = 1
    colour: str | None = None
    position: tuple[str, int] | None = None


@dataclass(frozen=True)
class Prompt:
    """A caption; what its picture must show; and what it must not (`count` or more of a shape)."""

    text: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]
    task: str


def prompts_for(task: str, n: int = 100, seed: int = 0) -> list[Prompt]:
    """`n` prompts of one of `TASKS`.

    All differ while the task has that many (single_object has 60, held_out_pairs 50); after that
    the list repeats, each time to be drawn afresh.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; choose one of {', '.join(TASKS)}.")
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least one prompt.")
    rng = random.Random(f"{task} {seed}")
    if task == "shuffled":
        return _shuffled(n, seed, rng)
    templates = HELD_OUT_TEMPLATES if task == "templates" else tuple(dict.fromkeys(TEMPLATES))
    space = [
        Prompt(template.format(text), include, exclude, task)
        for (text, include, exclude), template in product(_requests(task), templates)
    ]
    rng.shuffle(space)
    return list(islice(cycle(space), n))


_Request = tuple[str, tuple[Clause, ...], tuple[Clause, ...]]


def _requests(task: str) -> Iterator[_Request]:
    """Everything a task can ask for, without the sentence around it: words, include, exclude."""
    if task == "single_object":
        for shape in SHAPES:
            yield with_article(shape), (Clause(shape),), ()
    elif task == "two_objects":
        for a, b in permutations(SHAPES, 2):
            yield f"{with_article(a)} and {with_article(b)}", (Clause(a), Clause(b)), ()
    elif task == "counting":
        for shape, (n, number) in product(SHAPES, NUMBERS.items()):
            yield f"{number} {plural(shape)}", (Clause(shape, n),), (Clause(shape, n + 1),)
    elif task == "position":
        for (a, b), relation in product(permutations(SHAPES, 2), RELATIONS):
            include = (Clause(b), Clause(a, position=(relation, 0)))
            yield f"{with_article(a)} {relation} {with_article(b)}", include, ()
    elif task == "colour_attribution":
        for (c, a), (d, b) in permutations(training_pairs(), 2):
            if a != b and c != d:
                include = (Clause(a, colour=c), Clause(b, colour=d))
                yield f"{with_article(f'{c} {a}')} and {with_article(f'{d} {b}')}", include, ()
    else:  # colours, and the three tasks that vary it
        pairs = sorted(held_out_pairs()) if task == "held_out_pairs" else training_pairs()
        for colour, shape in pairs:
            words = ((colour,), (shape,))
            if task == "synonyms":
                words = (COLOUR_SYNONYMS[colour], SHAPE_SYNONYMS[shape])
            for said in product(*words):
                yield with_article(" ".join(said)), (Clause(shape, colour=colour),), ()


def _shuffled(n: int, seed: int, rng: random.Random) -> list[Prompt]:
    """Captions of the six GenEval tasks, each with the clauses of another caption of its task."""
    share = -(-n // len(GENEVAL_TASKS))
    mixed = []
    for task in GENEVAL_TASKS:
        own = prompts_for(task, max(share, 20), seed)  # of 20, at most 10 ask for the same
        for prompt in own[:share]:
            other = rng.choice([p for p in own if p.include != prompt.include])
            mixed.append(Prompt(prompt.text, other.include, other.exclude, "shuffled"))
    rng.shuffle(mixed)
    return mixed[:n]


def scene_for(prompt: Prompt, rng: random.Random) -> Scene:
    """A scene that fulfils a prompt's clauses and shows nothing else; the rest is random."""
    pairs = held_out_pairs() if prompt.task == "held_out_pairs" else training_pairs()
    background = rng.choice(list(BACKGROUNDS))
    while True:  # drawn again when there is no room, or when a relation does not hold
        objects = arrange(rng, [k for c in prompt.include for k in _looks(c, sorted(pairs), rng)])
        if objects is not None and _placed(prompt, objects):
            return Scene(background, objects)


def _looks(clause: Clause, pairs: list[tuple[str, str]], rng: random.Random) -> list[dict]:
    kind = {"shape": clause.shape, "size": rng.choice(list(SIZES)), "fill": rng.choice(FILLS)}
    free = [c for c, s in pairs if s == clause.shape and clause.colour in (None, c)]
    return [{**kind, "colour": rng.choice(free)} for _ in range(clause.count)]


def _placed(prompt: Prompt, objects: tuple[SceneObject, ...]) -> bool:
    """True when the objects, in the order of the include clauses, stand in the asked relations."""
    rest = iter(objects)
    groups = [list(islice(rest, clause.count)) for clause in prompt.include]
    return all(
        clause.position[0] in relations(a, b)
        for clause, group in zip(prompt.include, groups, strict=True)
        if clause.position
        for a, b in product(group, groups[clause.position[1]])
    )
