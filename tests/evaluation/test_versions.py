"""ExactEval's prompts have a fingerprint, which a result keeps and which no change goes past."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vislm_tutorial
from vislm_tutorial.evaluation import (
    ALL_TASKS,
    VERSION,
    Clause,
    EvalResult,
    Prompt,
    evaluate,
    prompt_hash,
    prompts_for,
)
from vislm_tutorial.evaluation.comparison import UNKNOWN, hashes_of
from vislm_tutorial.serving.card_text import FLOOR, TASKS, limits_section, scores_section

# The default set: 100 prompts a task, seed 0. Whoever must change one of these raises VERSION too:
# scores of different prompts are different measures.
PINNED = {
    "single_object": "860a90c00e3c2a55ee15146e06b3ead017465cb26a9cce5fcc41b8e4665ee1bb",
    "two_objects": "fc69eaa0cd97c1346cf88dc85022862835516067b051e8954a44f03305bcf17f",
    "counting": "b302bdc4e3d06a5cad33744bba911ce3f456274a435360720483734792c3ce85",
    "colours": "841b9b30f3d233732ffe25055a693442095a528d2d603316d0ad875437dc2acc",
    "position": "4ebe95bfa8d5490a9c8970b63e6c5c1925dc6c1d6f432281030fc437879adc64",
    "colour_attribution": "b0a93d8b9a2ebbd8fe9205d4962c2a59670dcde5d7c2f1758bf6988070aa116e",
    "held_out_pairs": "358c1a3347800b8d0eb454db88ca0884fd82c5e7c33951fe95f0c88c9775d058",
    "synonyms": "656cb9626c9a3b6792e5c7d6526567c514b33587dd53b3e7886e209e070deba7",
    "templates": "ad248cda5ade2d8d83a80b19ba9732a8c22e53c269ae8e705ddeb1b11415a3ee",
    "shuffled": "47cf616283cec290ac017b00bbadfa2f77199a6ee5bc75d025e99c23ab3cbdd8",
    "concepts_1": "4f6c082ee3337aa21fccef79f3d398d223f333877c1e2cbb2d3e0d3067b2e3a4",
    "concepts_2": "2357960a139b5e8c552a9691f22eb9522a942a00aee34e10ea03494c588ce1b8",
    "concepts_3": "bd125e202071b6f34fa5a7d172ce390886761cc7797c7721b8dc4e42fd02bf96",
    "concepts_4": "e06ccdfa2387e7ee184dfb651c2e9e98b51f51acd1b21776e6dbe27f667cb4bd",
    "concepts_5": "e375d4374c901f4000a27fe791dc38f12451806fac48af15f8b595bfe0332083",
    "concepts_6": "0dd542db3c7158d38717d25ace51e62c554be0d9f109aecd0253a1e09618254a",
    "concepts_7": "d30701437aee5fe6f69a28186c60503a6a407eee12f6e3a1f9f105dec02d422e",
    "paraphrases": "7a53bc4e69562c0fe59d53df0e4a95672b33362dc3e451773eeb121e0748e0ea",
}
PROMPT = Prompt("a red star", (Clause("star", colour="red"),), (), "by hand")
SHIPPED = Path(vislm_tutorial.__file__).parent / "weights" / "exact_eval.json"


def test_the_default_prompts_are_those_of_the_version():
    found = {task: prompt_hash(prompts_for(task)) for task in ALL_TASKS}
    assert (VERSION, found) == ("1", PINNED)


@pytest.mark.parametrize(
    "other",
    [
        replace(PROMPT, text="a red stars"),
        replace(PROMPT, include=(Clause("star"),)),
        replace(PROMPT, include=(Clause("star", colour="red", fill="solid"),)),
        replace(PROMPT, exclude=(Clause("star", 2),)),
        replace(PROMPT, background="white"),
    ],
)
def test_the_hash_sees_all_that_is_asked(other):
    assert prompt_hash([other]) != prompt_hash([PROMPT])


def test_the_hash_sees_the_order_and_not_the_task():
    other = replace(PROMPT, text="another")
    assert prompt_hash([PROMPT, other]) != prompt_hash([other, PROMPT])
    assert prompt_hash([PROMPT]) == prompt_hash([replace(PROMPT, task="another")])


def _black(captions: list[str], seed: int) -> torch.Tensor:
    return -torch.ones(len(captions), 3, 32, 32)


def test_a_result_keeps_its_prompts_and_who_was_scored():
    result = evaluate(_black, ("colours", "concepts_2"), n=4, seed=3, name="black", parameters=7)
    values = json.loads(result.to_json())
    assert values["exact_eval_version"] == VERSION
    assert values["prompt_hashes"] == {
        task: prompt_hash(prompts_for(task, 4, 3)) for task in ("colours", "concepts_2")
    }
    assert (values["name"], values["parameters"]) == ("black", 7) and values["seconds"] > 0
    again = EvalResult.from_json(result.to_json())
    assert again == result and again.seconds == result.seconds


def _old(result: EvalResult) -> EvalResult:
    """As it was stored before versions were kept."""
    values = json.loads(result.to_json())
    for name in ("exact_eval_version", "prompt_hashes", "name", "parameters", "seconds"):
        del values[name]
    return EvalResult.from_json(json.dumps(values))


def test_an_older_file_is_known_by_its_captions():
    result = evaluate(_black, ("colours", "counting"), n=4, seed=3)
    old = _old(result)
    assert old.exact_eval_version == "" and old.prompt_hashes == {}
    assert hashes_of(old) == result.prompt_hashes
    assert set(hashes_of(replace(old, seed=4)).values()) == {UNKNOWN}


def test_the_shipped_scores_load_and_belong_to_the_default_prompts():
    result = EvalResult.from_json(SHIPPED.read_text("utf-8"))
    assert hashes_of(result) == {task: PINNED[task] for task in result.scores}


def test_a_model_card_has_words_for_every_task():
    assert {*TASKS, FLOOR} == set(ALL_TASKS)
    result = evaluate(_black, ("concepts", "paraphrases"), n=2)
    assert "| concepts 7 | one shape and 7 more" in scores_section(result)
    assert "wordings" in limits_section(result)
