"""What a language model knows of a word, layer by layer, asked with a linear probe.

A probe is a linear classifier on states that stay as they are (Alain & Bengio 2016, arXiv
1610.01644). What it reads off, a fusion can read too; what it cannot read off may still be there in
another form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..encoders.base import TextEncoder


@torch.no_grad()
def word_states(
    encoder: TextEncoder, captions: Sequence[str], words: Sequence[str], batch_size: int = 64
) -> Tensor:
    """Each layer's states of one word in each caption: (B, N + 1, D_lm), layer 0 the embeddings.

    A word of several tokens has the mean of their states. Each state is normalised over the width,
    without a learned scale, so that layers of different loudness can be compared.

    Args:
        captions: B of them.
        words: B, each found in its caption; a phrase with spaces is legal.

    Raises:
        ValueError: if a word is not in its caption.
    """
    found = []
    for start in range(0, len(captions), batch_size):
        rows = slice(start, start + batch_size)
        found.append(_of_batch(encoder, captions[rows], words[rows]))
    return torch.cat(found)


def _of_batch(encoder: TextEncoder, captions: Sequence[str], words: Sequence[str]) -> Tensor:
    ids = encoder.tokenize(captions)
    read = encoder.tokenizer(list(captions), return_offsets_mapping=True)
    shift = len(ids[0]) - len(read["input_ids"][0])  # a start token that a decoder is given
    longest = max(map(len, ids))
    tokens, chosen = torch.zeros(2, len(ids), longest, dtype=torch.long)
    mask = torch.zeros(len(ids), longest, dtype=torch.bool)
    for row, (caption, word) in enumerate(zip(captions, words, strict=True)):
        begin = caption.find(word)
        if begin < 0:
            raise ValueError(f"the word {word!r} is not in its caption {caption!r}.")
        tokens[row, : len(ids[row])] = torch.tensor(ids[row])
        mask[row, : len(ids[row])] = True
        for place, (low, high) in enumerate(read["offset_mapping"][row], start=shift):
            chosen[row, place] = high > low and low < begin + len(word) and high > begin
    layers = encoder.every_layer(tokens.to(encoder.device), mask.to(encoder.device))
    weight = (chosen / chosen.sum(dim=1, keepdim=True)).to(encoder.device)
    means = [torch.einsum("bl,bld->bd", weight, _normalised(states)) for states in layers]
    return torch.stack(means, dim=1).cpu()


def _normalised(states: Tensor) -> Tensor:
    return functional.layer_norm(states.float(), states.shape[-1:])


@dataclass(frozen=True)
class Probe:
    """A linear classifier.

    Attributes:
        weight: (D, K).
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """(B, D) states -> (B, K) log-odds up to a constant."""
        return states @ self.weight + self.bias

    def accuracy(self, states: Tensor, labels: Tensor) -> float:
        """The share of (B, D) states whose likeliest class is their label (B,), in [0, 1]."""
        return (self(states).argmax(dim=1) == labels).float().mean().item()


def fit_probe(states: Tensor, labels: Tensor, classes: int, decay: float = 1e-2) -> Probe:
    """Multinomial logistic regression with a penalty `decay` |W|^2, to convergence by L-BFGS.

    Args:
        states: (B, D), normalised.
        labels: (B,) in 0 .. classes - 1.
    """
    weight = torch.zeros(states.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(states @ weight + bias, labels)
        loss = loss + decay * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return Probe(weight.detach(), bias.detach())
