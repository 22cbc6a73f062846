"""Typing errors and mixed words change what they say they change."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vislm_tutorial.evaluation.perturb import CONTENT, misspelt, reordered

CAPTION = "a picture of a red circle and a blue square"


def test_one_content_word_has_one_error():
    said = CAPTION.split(" ")
    for seed in range(300):
        wrong = misspelt(CAPTION, random.Random(seed)).split(" ")
        changed = [(a, b) for a, b in zip(said, wrong, strict=True) if a != b]
        (before, after) = changed[0]
        assert len(changed) == 1 and before in CONTENT and after not in CONTENT
        assert before[0] == after[0] and abs(len(before) - len(after)) <= 1
        extra = Counter(after) - Counter(before)
        assert sum(extra.values()) <= 1, "no letter comes from nowhere"


def test_all_three_kinds_of_errors_happen():
    lengths = {len(misspelt("red", random.Random(seed))) for seed in range(50)}
    assert lengths == {2, 3, 4}


def test_a_caption_without_content_is_refused():
    with pytest.raises(ValueError, match="'draw it' has no word"):
        misspelt("draw it", random.Random(0))


def test_other_orders_keep_the_words():
    orders = {reordered(CAPTION, random.Random(seed)) for seed in range(50)}
    assert len(orders) > 40 and CAPTION not in orders
    assert all(Counter(o.split(" ")) == Counter(CAPTION.split(" ")) for o in orders)
    with pytest.raises(ValueError, match="no other order"):
        reordered("red red", random.Random(0))
