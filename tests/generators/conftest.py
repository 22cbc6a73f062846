"""Conditions for backbones that no language model has to make."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vislm_tutorial.types import Condition

WIDTH, TOKENS = 12, 5


@pytest.fixture
def make_condition() -> Callable[[int], Condition]:
    """n random conditions of width 12: up to 5 tokens, the i-th with i % 5 of them masked."""

    def make(n: int) -> Condition:
        mask = torch.arange(TOKENS) < TOKENS - torch.arange(n)[:, None] % TOKENS
        states = torch.randn(n, TOKENS, WIDTH) * mask[..., None]
        return Condition(states, mask, torch.randn(n, WIDTH))

    return make
