"""The control: a language model's architecture and tokenizer with weights that learned nothing."""

from __future__ import annotations

import hashlib

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

PREFIX = "scratch:"


def random_model(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A float32 model of this configuration, initialised as its authors began training it.

    The same seed gives the same weights; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32)


def weights_fingerprint(model: PreTrainedModel) -> str:
    """16 hexadecimal digits of a sha256 over the first row of every parameter.

    Random weights depend on the seed and on the versions of torch and transformers; this tells
    them apart without reading all of them.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach()[:1].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
