"""The benchmark's stored results answer to the prompts that it asks, and were made as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wording

from vislm_tutorial.evaluation import CONCEPT_TASKS, EvalResult, prompt_hash, prompts_for
from vislm_tutorial.evaluation.paraphrases import GROUP, PARAPHRASES

RESULTS = Path(__file__).parents[2] / "book" / "results"
FILES = [*sorted((RESULTS / "exact_eval").glob("*.json")), RESULTS / "concepts.json"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stored_prompts_are_those_that_are_asked(path):
    """A change of a prompt needs a new version, and new files."""
    result = EvalResult.from_json(path.read_text())
    for task, stored in result.prompt_hashes.items():
        assert stored == prompt_hash(prompts_for(task, result.n, result.seed)), task
    assert "evaluat" in result.command
    assert f"book/results/{path.relative_to(RESULTS).with_suffix('')}" in result.command


def test_concepts_have_every_k():
    result = EvalResult.from_json((RESULTS / "concepts.json").read_text())
    assert set(result.fractions) == set(CONCEPT_TASKS)


def test_wordings_share_a_noise_where_they_should():
    rows = wording.BATCH
    own = [wording.noises(rows, 1, seed) for seed in range(3)]
    assert len({noise for batch in own for noise in batch}) == 3 * rows, "none comes back"
    same = [wording.noises(rows, GROUP, seed) for seed in range(3)]
    flat = [noise for batch in same for noise in batch]
    assert [len(set(flat[i : i + GROUP])) for i in range(0, len(flat), GROUP)] == [1] * 36
    assert len(set(flat)) == 36


def test_both_ways_drew_the_same_prompts():
    stored = json.loads((RESULTS / "wording.json").read_text())
    assert stored["command"] == "python benchmarks/wording.py -o book/results/wording.json"
    ways = [EvalResult.from_json(json.dumps(stored[way])) for way in wording.WAYS]
    for result in ways:
        asked = prompts_for(PARAPHRASES, result.n, result.seed)
        assert result.prompt_hashes[PARAPHRASES] == prompt_hash(asked)
    own, same = ([r.text for r in result.results] for result in ways)
    assert own == same
