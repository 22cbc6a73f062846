"""Groups of prompts that ask for the same thing in other words.

HRS-Bench (Bakr et al. 2023, arXiv 2304.05390) names consistency under paraphrased prompts as a
skill of its own; how it computes it is not published as code. Here a group counts when all its
pictures are right. The mean score beside it separates two kinds of failure: with a mean of p,
pictures that succeed and fail by luck alone are all right in p^4 of the groups. More says that
whole requests are understood or not, less that the wording decides within a group.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice

from vislm_tutorial.data.captions import HELD_OUT_TEMPLATES, PHRASES, TEMPLATES, with_article
from vislm_tutorial.data.scenes import RELATIONS, SHAPES, training_pairs

from .clauses import Clause, Prompt

PARAPHRASES = "paraphrases"
GROUP = 4  # two wordings, each in a sentence that training used and in one that it did not
PATIENCE = 50  # tries for a group that was not asked before
OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}

_Request = tuple[str, str, tuple[Clause, ...]]  # one wording, another one, what both ask for


def paraphrase_prompts(n: int, rng: random.Random) -> list[Prompt]:
    """At least `n` prompts, in whole groups: prompts 4 i to 4 i + 3 are paraphrases of each other.

    In each group: the plain wording in a seen and in a held-out template, then the other wording in
    the same two. A third of the groups asks for a relation, one for two coloured shapes, one for a
    colour. Groups repeat only when they run out.
    """
    return [p for group in islice(_groups(rng), -(-n // GROUP)) for p in group]


def _groups(rng: random.Random) -> Iterator[list[Prompt]]:
    asked = set()
    for kind in cycle((_relation, _two_colours, _one_colour)):
        for _ in range(PATIENCE):
            plain, other, include = kind(rng)
            if (plain, other) not in asked:
                break
        asked.add((plain, other))
        templates = (rng.choice(TEMPLATES), rng.choice(HELD_OUT_TEMPLATES))
        yield [
            Prompt(template.format(words), include, (), PARAPHRASES)
            for words in (plain, other)
            for template in templates
        ]


def _relation(rng: random.Random) -> _Request:
    a, b = rng.sample(SHAPES, 2)
    relation = rng.choice(RELATIONS)
    first, second = with_article(a), with_article(b)
    others = (
        f"{first} {PHRASES[relation]} {second}",
        f"{first} that is {relation} {second}",
        f"{second} {OPPOSITE[relation]} {first}",
    )
    include = (Clause(b), Clause(a, position=(relation, 0)))
    return f"{first} {relation} {second}", rng.choice(others), include


def _two_colours(rng: random.Random) -> _Request:
    pairs = training_pairs()
    c, a = rng.choice(pairs)
    d, b = rng.choice([p for p in pairs if p[0] != c and p[1] != a])
    first, second = with_article(f"{c} {a}"), with_article(f"{d} {b}")
    include = (Clause(a, colour=c), Clause(b, colour=d))
    return f"{first} and {second}", f"{second} and {first}", include


def _one_colour(rng: random.Random) -> _Request:
    colour, shape = rng.choice(training_pairs())
    plain, other = with_article(f"{colour} {shape}"), f"{with_article(shape)} that is {colour}"
    return plain, other, (Clause(shape, colour=colour),)
