"""What ExactEval asks for: captions, each with clauses that a right picture fulfils.

The first six tasks are GenEval's (Ghosh et al. 2023, arXiv 2310.11513) in the world of shapes. Four
are this book's own: three repeat `colours` with something that training never used, so that the
difference to `colours` is what generalisation costs, and `shuffled` is the floor. These ten are
`TASKS`. `.concepts` and `.paraphrases` have more, which are asked only by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
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

from .clauses import Clause, Prompt
from .concepts import CONCEPT_TASKS, concept_prompts
from .paraphrases import PARAPHRASES, paraphrase_prompts

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
ALL_TASKS = (*TASKS, *CONCEPT_TASKS, PARAPHRASES)
GROUPS = {
    "geneval": GENEVAL_TASKS,
    "ours": OUR_TASKS,
    "concepts": CONCEPT_TASKS,
    "all": ALL_TASKS,
}
MOST_TRIES = 20_000  # at a scene; the tests allow a fifth of it


def chosen_tasks(tasks: Sequence[str] | str) -> tuple[str, ...]:
    """Tasks by name, or by the name of one of `GROUPS`, each once, in the order of asking.

    Raises:
        ValueError: for a name that there is not, or for none.
    """
    names = (tasks,) if isinstance(tasks, str) else tasks
    chosen = tuple(dict.fromkeys(t for name in names for t in GROUPS.get(name, (name,))))
    for task in chosen or ("",):
        if task not in ALL_TASKS:
            said = f"task is {task!r}" if chosen else "tasks is empty"
            raise ValueError(
                f"{said}; choose one of {', '.join(ALL_TASKS)}, or of the groups "
                f"{', '.join(GROUPS)}."
            )
    return chosen


def prompts_for(task: str, n: int = 100, seed: int = 0) -> list[Prompt]:
    """`n` prompts of one of `ALL_TASKS`; of paraphrases, as many more as fill the last group.

    All differ while the task has that many (single_object has 60, held_out_pairs 50); after that
    the list repeats, each time to be drawn afresh.
    """
    if task not in ALL_TASKS:
        raise ValueError(f"task is {task!r}; choose one of {', '.join(ALL_TASKS)}.")
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least one prompt.")
    rng = random.Random(f"{task} {seed}")
    if task == "shuffled":
        return _shuffled(n, seed, rng)
    if task in CONCEPT_TASKS:
        return concept_prompts(CONCEPT_TASKS.index(task) + 1, n, rng)
    if task == PARAPHRASES:
        return paraphrase_prompts(n, rng)
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
    """A scene that fulfils a prompt's clauses and shows nothing else; the rest is random.

    Raises:
        ValueError: if none is found, since the clauses ask for more than a picture has room for.
    """
    pairs = held_out_pairs() if prompt.task == "held_out_pairs" else training_pairs()
    background = prompt.background or rng.choice(list(BACKGROUNDS))
    for _ in range(MOST_TRIES):  # there may be no room, or a relation may not hold
        objects = arrange(rng, [k for c in prompt.include for k in _looks(c, sorted(pairs), rng)])
        if objects is not None and _placed(prompt, objects):
            return Scene(background, objects)
    raise ValueError(f"no scene in {MOST_TRIES} shows {prompt.include}; ask for less at once.")


def _looks(clause: Clause, pairs: list[tuple[str, str]], rng: random.Random) -> list[dict]:
    kind = {
        "shape": clause.shape,
        "size": clause.size or rng.choice(list(SIZES)),
        "fill": clause.fill or rng.choice(FILLS),
    }
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
