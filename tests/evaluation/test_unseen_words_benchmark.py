"""benchmarks/unseen_words.py: what it asks, and which runs it is made of."""

from __future__ import annotations

from types import SimpleNamespace

from unseen_words import VARIANTS, Row, questions, recipe_of, rows_of

from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS
from vislm_tutorial.data.words import OTHER_WORDS


def test_each_test_asks_for_the_same_in_other_words():
    asked = questions(20)
    assert all(len(prompts) == 20 for prompts in asked.values())
    for plain, colour, shape in zip(asked["plain"], asked["colour"], asked["shape"], strict=True):
        wanted = plain.include[0]
        assert colour.include == shape.include == plain.include
        assert any(word in colour.text for word in COLOUR_SYNONYMS[wanted.colour])
        assert any(word in shape.text for word in SHAPE_SYNONYMS[wanted.shape])
        assert wanted.shape in colour.text and wanted.colour in shape.text


def test_no_asked_word_is_one_of_those_that_training_adds():
    unseen = {
        w for words in (COLOUR_SYNONYMS, SHAPE_SYNONYMS) for pair in words.values() for w in pair
    }
    assert not unseen & {word for words in OTHER_WORDS.values() for word in words}


def test_rows_are_all_different_and_only_the_swept_states_have_three_seeds():
    options = SimpleNamespace(models=["minilm", "smollm2"], words=[0, 3, 6, 12], seeds=3)
    rows = rows_of(options)
    assert len({row.key for row in rows}) == len(rows)
    swept = [r for r in rows if (r.model, r.layers, r.variant) == ("minilm", "mean", "")]
    assert len(swept) == 4 * 3 and all(row.seed == 0 for row in rows if row not in swept)
    assert [row.seed for row in rows] == sorted(row.seed for row in rows)


def test_only_the_fusion_learns():
    options = SimpleNamespace(steps=100, batch_size=4, pictures=40)
    recipe = recipe_of(Row("smollm2", 9, 12, 1), options)
    assert recipe.freeze == ("generator",) and recipe.tuning is None
    assert recipe.data.words == 12 and recipe.data.synonyms == 0.0
    assert recipe.fusion.standardise and recipe.encoder.layers == 9


def test_a_variant_changes_the_fusion_or_what_learns():
    options = SimpleNamespace(steps=100, batch_size=4, pictures=40)
    plain, noise, thin, lora = (
        recipe_of(Row("minilm", "mean", 12, 0, variant), options) for variant in VARIANTS
    )
    assert (plain.fusion.noise, plain.fusion.rank, plain.tuning) == (0.0, 0, None)
    assert noise.fusion.noise == 1.0 and thin.fusion.rank == 16 and lora.tuning.kind == "lora"
