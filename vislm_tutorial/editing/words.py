"""Which tokens of a caption a word falls into, and where they stand in another caption."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..encoders.base import TextEncoder


def tokens_of(encoder: TextEncoder, caption: str, words: str) -> tuple[int, ...]:
    """The positions, from 0, of the tokens into which a word or phrase of a caption falls.

    Args:
        words: whole words, as the caption has them. Where they stand in it several times, all of
            their tokens count; say more words to mean one place.

    Raises:
        ValueError: if the words are not in the caption, or beyond the encoder's `max_length`.
    """
    places = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", caption)]
    if not places or not words.strip():
        raise ValueError(f"{words!r} is not in the caption {caption!r}; expected words of it.")
    found = [
        position
        for position, (low, high) in enumerate(_spans(encoder, caption))
        if any(low < until and high > begin for begin, until in places)
    ]
    if not found:
        raise ValueError(
            f"{words!r} lies beyond the first {encoder.max_length} tokens of its caption, where "
            "the encoder cuts it; shorten the caption."
        )
    return tuple(found)


def alignment(encoder: TextEncoder, source: str, target: str) -> Tensor:
    """Which token of one caption stands where a token of another stands.

    Words are matched by their place in the caption. A changed word may fall into other tokens than
    the old one: each of the new gets an equal part of each of the old (Hertz et al. 2023, 3).

    Returns:
        (M source tokens, M target tokens); rows sum to 1.

    Raises:
        ValueError: if the captions differ in their number of words.
    """
    if len(source.split()) != len(target.split()):
        raise ValueError(
            f"{source!r} has {len(source.split())} words and {target!r} {len(target.split())}; "
            "expected as many, each in the place of one. Exchange words, add or drop none."
        )
    old, new = (_word_of_each(encoder, caption) for caption in (source, target))
    if set(old) != set(new):
        raise ValueError(
            f"a caption is cut at the encoder's {encoder.max_length} tokens, where the other one "
            "goes on; shorten both."
        )
    matrix = torch.zeros(len(old), len(new))
    for word in set(old):
        rows, columns = ([i for i, w in enumerate(side) if w == word] for side in (old, new))
        if len(rows) == len(columns):
            matrix[rows, columns] = 1.0
        else:
            matrix[torch.tensor(rows)[:, None], torch.tensor(columns)] = 1 / len(columns)
    return matrix


def _spans(encoder: TextEncoder, caption: str) -> list[tuple[int, int]]:
    """Where each token begins and ends, without the space before it; special tokens: (0, 0)."""
    spans = encoder.tokenizer(caption, return_offsets_mapping=True)["offset_mapping"]
    # A decoder's caption gets a start token from the encoder, of which the tokenizer says nothing.
    shift = len(encoder.tokenize([""])[0]) - len(encoder.tokenizer("")["input_ids"])
    letters = [caption[low:high] for low, high in spans]
    spans = [(hi - len(s.lstrip()), hi) for s, (_, hi) in zip(letters, spans, strict=True)]
    return ([(0, 0)] * shift + spans)[: len(encoder.tokenize([caption])[0])]


def _word_of_each(encoder: TextEncoder, caption: str) -> list[int]:
    """For each token the number of its word, from 0; -1 of a special one before, -2 of one after.

    Cut captions lose their last words, and keep the special token at their end.
    """
    begins = [match.start() for match in re.finditer(r"\S+", caption)]
    words, seen = [], False
    for low, high in _spans(encoder, caption):
        seen = seen or high > low
        special = -2 if seen else -1
        words.append(sum(b <= low for b in begins) - 1 if high > low else special)
    return words
