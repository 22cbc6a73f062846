"""Encoders for the tests: tiny ones made in memory, and the two trained ones, loaded once."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from vislm_tutorial.encoders import TextEncoder, load_encoder

WORDS = "[PAD] [CLS] [SEP] [UNK] a red blue circle square above".split()
SHAPES = {
    "bert": dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32),
    "gpt2": dict(n_embd=16, n_layer=3, n_head=2, bos_token_id=1, eos_token_id=2),
    "llama": dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32),
}


def tiny_encoder(family: str = "bert", layers="last", max_length: int = 16) -> TextEncoder:
    """A random transformer of width 16 and 3 layers whose vocabulary is WORDS."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if family == "bert":  # decoders' tokenizers add no special tokens
        words.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="[CLS]")
    config = AutoConfig.for_model(
        family, vocab_size=len(WORDS), max_position_embeddings=32, **SHAPES[family]
    )
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    return TextEncoder(f"tiny-{family}", model, tokenizer, "0", layers, max_length)


@pytest.fixture(scope="session")
def minilm() -> TextEncoder:
    return load_encoder("minilm")


@pytest.fixture(scope="session")
def smollm2() -> TextEncoder:
    return load_encoder("smollm2")
