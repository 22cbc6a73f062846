"""Groups of paraphrases ask for the same thing; luck, failure and understanding look different."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest

from vislm_tutorial.data.captions import HELD_OUT_TEMPLATES, PHRASES
from vislm_tutorial.data.rendering import render
from vislm_tutorial.data.scenes import Scene, SceneObject, held_out_pairs, relations
from vislm_tutorial.evaluation import TASKS, EvalResult, ceiling, evaluate, prompts_for, scene_for
from vislm_tutorial.evaluation.paraphrases import GROUP, OPPOSITE, PARAPHRASES
from vislm_tutorial.evaluation.scores import ALL_RIGHT, NONE_RIGHT, PromptResult

HELD_OUT = tuple(template.split("{}")[0] for template in HELD_OUT_TEMPLATES)


def _groups(n: int = 200, seed: int = 0) -> list[list]:
    prompts = prompts_for(PARAPHRASES, n, seed)
    return [prompts[i : i + GROUP] for i in range(0, len(prompts), GROUP)]


def test_a_group_asks_for_one_thing_in_four_ways():
    for group in _groups():
        assert len({p.text for p in group}) == GROUP, [p.text for p in group]
        assert len({(p.include, p.exclude) for p in group}) == 1
        assert [p.text.startswith(HELD_OUT) for p in group] == [False, True, False, True]
        assert all(p.task == PARAPHRASES for p in group)


def test_groups_are_whole_different_and_repeatable():
    assert [len(prompts_for(PARAPHRASES, n)) for n in (1, 4, 10)] == [4, 4, 12]
    assert prompts_for(PARAPHRASES, 10) == prompts_for(PARAPHRASES, 12)
    assert _groups(seed=1) == _groups(seed=1) != _groups(seed=2)
    # The plain wordings: 172 possible requests for 50 groups.
    assert len({tuple(p.text for p in group) for group in _groups()}) == len(_groups())
    assert PARAPHRASES not in TASKS


def test_each_kind_of_request_is_a_third():
    kinds = Counter(
        "relation" if any(c.position for c in group[0].include) else len(group[0].include)
        for group in _groups(360)
    )
    assert kinds == {"relation": 30, 2: 30, 1: 30}
    for group in _groups():
        assert held_out_pairs().isdisjoint((c.colour, c.shape) for c in group[0].include)


def test_opposite_relations_say_the_same():
    rng = random.Random(0)
    for _ in range(300):
        a, b = (
            SceneObject("star", "red", "small", "solid", rng.random(), rng.random()) for _ in "ab"
        )
        assert sorted(OPPOSITE[r] for r in relations(a, b)) == sorted(relations(b, a))


def test_relations_are_asked_in_words_that_mean_them():
    words = {r: r for r in OPPOSITE} | {said: r for r, said in PHRASES.items()}
    pattern = re.compile(rf"an? (\w+) (?:that is )?({'|'.join(words)}) an? (\w+)")
    turned = 0
    for group in _groups():
        second, *first = group[0].include
        if not (first and first[0].position):
            continue
        asked = (first[0].shape, first[0].position[0], second.shape)
        for prompt in group:
            a, said, b = pattern.search(prompt.text).groups()
            same, converse = (a, words[said], b), (b, OPPOSITE[words[said]], a)
            assert asked in (same, converse), prompt
            turned += asked == converse
    assert turned > 4, "some groups turn the relation round"


def test_ceiling_is_one_in_every_group():
    result = ceiling(PARAPHRASES, n=60)
    beside = result.beside[PARAPHRASES]
    assert result.scores[PARAPHRASES].value >= 0.98
    assert beside[ALL_RIGHT].value >= 0.93 and beside[ALL_RIGHT].n == 15
    assert beside[NONE_RIGHT].value == 0


def test_a_generator_that_knows_only_some_words():
    """Half the wordings are drawn right in every group: a mean of one half, and no whole group."""
    own = {p.text: p for p in prompts_for(PARAPHRASES, 40)}

    def draw(captions, seed):
        rng = random.Random(seed)
        return render(
            [Scene("white") if c.startswith(HELD_OUT) else scene_for(own[c], rng) for c in captions]
        )

    result = evaluate(draw, PARAPHRASES, n=40)
    assert result.scores[PARAPHRASES].value == pytest.approx(0.5, abs=0.03)
    beside = result.beside[PARAPHRASES]
    assert beside[ALL_RIGHT].value == 0 and beside[NONE_RIGHT].value <= 0.1
    assert result.lucky_groups == pytest.approx(0.5**4, abs=0.02)


def _made_up(right: np.ndarray) -> EvalResult:
    """An evaluation in which right[i, j] says whether paraphrase j of request i is right."""
    results = [
        PromptResult(PARAPHRASES, f"{i} {j}", (("objects", bool(hit)),))
        for i, group in enumerate(right)
        for j, hit in enumerate(group)
    ]
    return EvalResult(tuple(results), seed=0, n=right.size, image_size=64)


def test_luck_and_consistency_are_told_apart():
    """The same mean: once each picture is right by chance, once whole requests are."""
    rng = np.random.default_rng(0)
    chance = _made_up(rng.random((500, GROUP)) < 0.7)
    whole = _made_up(np.repeat(rng.random((500, 1)) < 0.7, GROUP, axis=1))
    for result, expected in ((chance, 0.7**4), (whole, 0.7)):
        right = result.beside[PARAPHRASES][ALL_RIGHT]
        assert right.value == pytest.approx(expected, abs=0.05)
        assert right.low < right.value < right.high and right.n == 500
    lucky = chance.lucky_groups
    assert chance.beside[PARAPHRASES][ALL_RIGHT].low < lucky
    assert chance.beside[PARAPHRASES][ALL_RIGHT].high > lucky
    assert whole.beside[PARAPHRASES][ALL_RIGHT].low > whole.lucky_groups + 0.3
    # Whole groups vary together: the mean is half as sure, at the same number of pictures.
    widths = [r.scores[PARAPHRASES].high - r.scores[PARAPHRASES].low for r in (whole, chance)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.15)


def test_the_table_and_the_file_show_them():
    right = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    result = _made_up(right)
    lines = {line.split("|")[1].strip(): line for line in result.markdown().splitlines()[2:]}
    assert list(lines) == [
        "paraphrases",
        "paraphrases, all of a group",
        "paraphrases, none of a group",
    ]
    assert "0.625" in lines["paraphrases"] and "16" in lines["paraphrases"]
    assert "0.500" in lines["paraphrases, all of a group"]
    assert "0.250" in lines["paraphrases, none of a group"]
    assert EvalResult.from_json(result.to_json()).beside == result.beside


def test_part_of_a_group_is_refused():
    result = _made_up(np.ones((2, GROUP)))
    cut = EvalResult(result.results[:-1], seed=0, n=7, image_size=64)
    with pytest.raises(ValueError, match="7 paraphrases; expected whole groups of 4"):
        _ = cut.scores
