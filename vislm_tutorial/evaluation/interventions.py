"""What a generator does when single tokens of its caption are exchanged or hidden.

Attention says where a model looks, a probe what could be read there. Only a change of the thing
itself, with all else held, says what it was good for: an interchange intervention (Geiger et al.
2021, arXiv 2106.02997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from vislm_tutorial.data.scenes import SceneObject
from vislm_tutorial.types import Condition, TextStates

Record = TypeVar("Record", TextStates, Condition)


def transplanted(record: Record, donor: Record, tokens: Sequence[int]) -> Record:
    """`record` with the states of `donor` at the positions `tokens`, and nothing else of it.

    A Condition keeps its own pooled vector.

    Args:
        record, donor: of B captions each, token by token of equal length.
        tokens: positions from 0 to L - 1 that are taken in every row.

    Raises:
        ValueError: if the two are of different shape or length, or a position is not a real token.
    """
    mask = record.encoder_attention_mask
    if not torch.equal(mask, donor.encoder_attention_mask):
        raise ValueError(
            f"the record has {mask.sum(dim=1).tolist()} tokens a caption and the donor "
            f"{donor.encoder_attention_mask.sum(dim=1).tolist()}; expected the same. "
            "Choose captions that differ in words of equally many tokens."
        )
    chosen = _chosen(mask, tokens)[:, None]  # (L, 1)
    own, others = record.encoder_hidden_states, donor.encoder_hidden_states
    return replace(record, encoder_hidden_states=torch.where(chosen, others, own))


def hidden(condition: Condition, tokens: Sequence[int]) -> Condition:
    """The same condition, whose `tokens` no cross-attention may look at.

    Their neighbours keep what they took from them inside the fusion, and so does the pooled vector.

    Raises:
        ValueError: if a position is not a real token, or none is left to look at.
    """
    mask = condition.encoder_attention_mask
    left = mask & ~_chosen(mask, tokens)
    if not left.any(dim=1).all():
        raise ValueError(f"tokens is {list(tokens)}, which leaves none to look at; hide fewer.")
    return replace(condition, encoder_attention_mask=left)


def _chosen(mask: Tensor, tokens: Sequence[int]) -> Tensor:
    """(L,) bool, True at `tokens`."""
    chosen = torch.zeros(mask.shape[1], dtype=torch.bool, device=mask.device)
    for token in tokens:
        if not 0 <= token < mask.shape[1] or not mask[:, token].all():
            raise ValueError(
                f"tokens holds {token}; expected positions from 0 to "
                f"{mask.sum(dim=1).min().item() - 1}, real tokens of every caption."
            )
        chosen[token] = True
    return chosen


def looked_up(maps: Tensor, thing: SceneObject) -> Tensor:
    """The share of attention that each token gets from the cells of one thing: (M,), sums to 1.

    Args:
        maps: (M, h, w) of one drawing, as `attention.AttentionRecord.maps` has them, a mean over
            steps.
        thing: that it shows; the cells are those whose centre lies in its bounding box.
    """
    height, width = maps.shape[-2:]
    across, down = thing.half_extent
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    inside = ((y - thing.y).abs() < down)[:, None] & ((x - thing.x).abs() < across)  # (h, w)
    return maps[:, inside].mean(dim=1)
