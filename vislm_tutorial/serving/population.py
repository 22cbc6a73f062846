"""A made-up population whose words change, for trying out what real people's words are for."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..data.captions import TEMPLATES
from ..data.scenes import training_pairs
from .collect import Typed
from .wording import translate

MINUTE = 29_000_000  # since 1970, when the first of them types


def typed_by_many(
    n: int, labels: Mapping[str, str], share: float = 0.7, shift: float = 0.5, seed: int = 0
) -> list[Typed]:
    """`n` captions as people type them, one a minute: a coloured shape in a sentence.

    Args:
        labels: new word -> the word that it stands for.
        share: of people who use new words where they could, once they are in fashion.
        shift: when that is, as a share of all captions.
        seed: chooses everything.
    """
    rng = random.Random(seed)
    names: dict[str, list[str]] = {}
    for new, known in labels.items():
        names.setdefault(known, []).append(new)
    typed = []
    for i in range(n):
        colour, shape = rng.choice(training_pairs())
        article = "an" if colour[0] in "aeiou" else "a"
        caption = rng.choice(TEMPLATES).format(f"{article} {colour} {shape}")
        if i >= shift * n and rng.random() < share:
            fashion = {known: rng.choice(options) for known, options in names.items()}
            caption = translate(caption, fashion).text
        typed.append(Typed(caption, f"{i:08x}", i, MINUTE + i))
    return typed
