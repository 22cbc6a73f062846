"""A language model that is taught with the generator, so captions stay token numbers until then."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..types import TextStates
from .base import TextEncoder


class TokenReader:
    """Stands where an encoder would, and leaves the encoding to `LearningEncoder`.

    A caption's "states" are its token numbers, one float a token: exact below 2^24.

    Args:
        encoder: whose tokenizer reads.
    """

    width = 1

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder

    def encode(self, captions: Sequence[str]) -> TextStates:
        """(B, L, 1) token numbers on the CPU, 0 at padding. Raises as `TextEncoder.encode`."""
        ids = [torch.tensor(kept) for kept in self.encoder.tokenize(captions)]
        lengths = torch.tensor([len(kept) for kept in ids])
        numbers = nn.utils.rnn.pad_sequence(ids, batch_first=True)  # (B, L)
        mask = torch.arange(numbers.shape[1])[None, :] < lengths[:, None]
        return TextStates(numbers.float()[..., None], mask)


class LearningEncoder(nn.Module):
    """Token numbers -> states, with gradients into the language model.

    Args:
        encoder: its model becomes a part of this module; `tuning.attach` says what of it learns.
    """

    def __init__(self, encoder: TextEncoder):
        super().__init__()
        self.model = encoder.model
        self._states = encoder.forward  # of the layers that were chosen

    def forward(self, numbers: TextStates) -> TextStates:
        """What `TokenReader` gave, (B, L, 1) -> the states (B, L, D_lm) of the same captions."""
        mask = numbers.encoder_attention_mask
        ids: Tensor = numbers.encoder_hidden_states[..., 0].long()
        return TextStates(self._states(ids, mask), mask)
