"""A language model that writes: greedy, or the likeliest of a list, and nothing is remembered."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from vislm_tutorial.encoders import InstructionWriter, load_writer

WORDS = "[PAD] [START] [END] [UNK] system user assistant draw a red blue circle square two".split()
END = WORDS.index("[END]")
TEMPLATE = (
    "{% for m in messages %}[START] {{ m.role }} {{ m.content }} [END] {% endfor %}"
    "{% if add_generation_prompt %}[START] assistant {% endif %}"
)
CAPTIONS = ["a red", "a red circle", "a blue circle", "a blue square", "two red", "a"]


def tiny_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="[START]", eos_token="[END]"
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def writer() -> InstructionWriter:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # opinions strong enough to tell captions apart
        model.lm_head.weight.normal_(std=1.0)
    return InstructionWriter(model, tiny_tokenizer(), "draw", [("red", "a red circle")])


def whole_prompt(description: str) -> str:
    return (
        "[START] system draw [END] [START] user red [END] [START] assistant a red circle [END] "
        f"[START] user {description} [END] [START] assistant"
    )


@torch.no_grad()
def follows(writer: InstructionWriter, text: str) -> torch.Tensor:
    """(n, V) log-probabilities after each token of a text that is read whole, without a cache."""
    ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
    return writer.model(input_ids=ids).logits[0].log_softmax(-1)


def test_log_probability_is_that_of_the_whole_conversation(writer):
    for caption in CAPTIONS:
        ids = [*(WORDS.index(word) for word in caption.split()), END]
        rows = follows(writer, f"{whole_prompt('blue')} {caption}")[-len(ids) :]
        expected = sum(row[token].item() for row, token in zip(rows, ids, strict=True))
        assert writer.log_probability("blue", caption) == pytest.approx(expected, abs=1e-4)


def test_rank_is_exact_and_in_order(writer):
    for description in ("blue", "two red", "square"):
        ranked = writer.rank(description, CAPTIONS, n=10)
        assert sorted(caption for caption, _ in ranked) == sorted(CAPTIONS)
        values = [value for _, value in ranked]
        assert values == sorted(values, reverse=True)
        for caption, value in ranked:
            assert value == pytest.approx(writer.log_probability(description, caption), abs=1e-4)
        assert sum(math.exp(value) for value in values) < 1
        assert writer.rank(description, CAPTIONS) == ranked[:1]


def test_the_best_is_found_without_asking_for_all(writer):
    many = [f"a {x} {y} {z}" for x in WORDS[7:] for y in WORDS[7:] for z in WORDS[7:]]
    before = writer.calls
    (best, value), *_ = writer.rank("red", many)
    assert writer.calls - before < len(many) / 2
    assert value == pytest.approx(max(writer.log_probability("red", c) for c in many), abs=1e-4)
    assert best in many


def test_a_gain_is_what_the_description_adds(writer):
    ranked = writer.rank_by_gain("blue", CAPTIONS, neutral="two", shortlist=3)
    assert {c for c, _ in ranked} == {c for c, _ in writer.rank("blue", CAPTIONS, 3)}
    for caption, gain in ranked:
        with_it, without = (writer.log_probability(d, caption) for d in ("blue", "two"))
        assert gain == pytest.approx(with_it - without, abs=1e-4)
    assert [g for _, g in ranked] == sorted((g for _, g in ranked), reverse=True)
    again = writer.rank_by_gain("blue", CAPTIONS, neutral="square", shortlist=3)
    assert dict(again) != dict(ranked)  # what is known of one neutral is not another's
    assert writer.rank_by_gain("two", CAPTIONS, "two")[0][1] == pytest.approx(0, abs=1e-4)


def test_write_takes_the_likeliest_word_each_time(writer):
    said, expected = writer.write("blue", max_tokens=5), []
    for _ in range(5):
        token = int(follows(writer, " ".join([whole_prompt("blue"), *expected]))[-1].argmax())
        if token == END:
            break
        expected.append(WORDS[token])
    assert said == " ".join(expected)


def test_nothing_is_remembered_between_calls(writer):
    first = writer.write("blue"), writer.rank("blue", CAPTIONS, 3)
    writer.write("two red square"), writer.log_probability("a", "two red")
    assert (writer.write("blue"), writer.rank("blue", CAPTIONS, 3)) == first


def test_a_model_that_was_not_taught_to_answer_is_refused(writer):
    with pytest.raises(ValueError, match="no chat template"):
        InstructionWriter(writer.model, tiny_tokenizer(None), "draw", [])


def test_the_trained_model_has_its_head():
    writer = load_writer("Answer in one word.", [("the capital of Italy", "Rome")])
    head, embeddings = (
        f().weight for f in (writer.model.get_output_embeddings, writer.model.get_input_embeddings)
    )
    assert torch.equal(head, embeddings)  # tied: the file holds one of them
    (best, _), *_ = writer.rank("the capital of France", ["banana", "Paris", "Rome", "seven"])
    assert best == "Paris"
