"""benchmarks/evidence.py: what it asks, what differs between its runs, and what is stored."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from evidence import FEW, PAIRS, READERS, RESULTS, Row, questions, recipe_of, rows_of

from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS


@pytest.fixture(scope="module")
def asked():
    return questions(40)


def test_damaged_captions_ask_for_the_same_pictures(asked):
    for test, plain in (("typos", "plain"), ("mixed", "bound")):
        pairs = list(zip(asked[test], asked[plain], strict=True))
        assert all(damaged.include == whole.include for damaged, whole in pairs)
        assert all(damaged.text != whole.text for damaged, whole in pairs)
    for mixed, bound in zip(asked["mixed"], asked["bound"], strict=True):
        assert sorted(mixed.text.split()) == sorted(bound.text.split())


def test_only_the_synonyms_are_in_words_that_training_never_shows(asked):
    new = {
        w for words in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for pair in words.values() for w in pair
    }

    def unknown(prompts):
        return [p for p in prompts if any(f" {word}" in f" {p.text}" for word in new)]

    assert len(unknown(asked["synonyms"])) == 40
    assert not unknown(asked["plain"]) and not unknown(asked["pairs"])


def test_runs_differ_in_what_is_compared_and_in_nothing_else():
    one, other = (recipe_of(Row(name, 1000, 1), 300, 3000) for name in ("MiniLM", "random"))
    assert one.encoder != other.encoder
    assert (one.fusion, one.generator, one.data) == (other.fusion, other.generator, other.data)
    assert one.training == other.training and one.training.seed == one.data.seed == 1
    assert one.data.limit == 1000 and one.data.alike == 0 and one.data.synonyms == 0
    more = recipe_of(Row("MiniLM", 3000, 1), 300, 3000)
    assert more.training == one.training and more.data.limit == 3000


def test_the_main_contrast_has_three_seeds_and_the_others_one():
    options = SimpleNamespace(encoders=[*READERS], pairs=None, seeds=3)
    rows = rows_of(options)
    assert len({row.key for row in rows}) == len(rows)
    again = {(row.encoder, row.pairs) for row in rows if row.seed == 2}
    main = {(reader, pairs) for reader in ("MiniLM", "random") for pairs in PAIRS}
    assert again == main | {("scratch", pairs) for pairs in FEW}
    assert len([row for row in rows if row.seed == 0]) == 4 * 4 + 3 * 2 + 2 + 2 * 2


def test_stored_rows_count_what_they_say():
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert stored["settings"] == {"steps": 1500, "pool": 30_000, "prompts": 100}
    keys = [(row["encoder"], row["pairs"], row["seed"]) for row in stored["rows"]]
    assert len(set(keys)) == len(keys)
    for row in stored["rows"]:
        assert row["encoder"] in READERS and row["captions"] <= row["pairs"]
        assert all(0 <= c["right"] <= c["n"] == 100 for c in row["scores"].values())
