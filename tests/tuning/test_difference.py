"""What a network learned beyond another one, as a file of small rank."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vislm_tutorial.tuning import add_difference, low_rank_difference


@pytest.fixture
def start() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.LayerNorm(40), nn.Conv2d(8, 16, 3), nn.Linear(2, 2))


def moved(start: nn.Module, rank: int) -> nn.Module:
    """The network after each weight has moved in so many directions, and each bias anyhow."""
    learned = copy.deepcopy(start)
    with torch.no_grad():
        for weight in learned.parameters():
            if weight.ndim == 1:
                weight += 0.1 * torch.randn_like(weight)
            else:
                n, m = weight.flatten(1).shape
                weight += 0.1 * (torch.randn(n, rank) @ torch.randn(rank, m)).view_as(weight)
    return learned


def test_a_difference_of_small_rank_comes_back(start):
    learned = moved(start, 2)
    difference = low_rank_difference(learned, start, 2)
    assert difference["0.weight.up"].shape == (40, 2)
    assert difference["2.weight.down"].shape == (2, 72)  # (16, 8, 3, 3) read as (16, 72)
    assert difference["3.weight"].shape == (2, 2)  # two factors would be larger
    assert all(tensor.dtype == torch.float16 for tensor in difference.values())
    other = copy.deepcopy(start)
    add_difference(other, difference)
    for found, expected in zip(other.parameters(), learned.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_a_smaller_rank_keeps_the_largest_directions(start):
    """The error is that of the singular values left out (Eckart and Young 1936)."""
    learned = moved(start, 5)
    other = copy.deepcopy(start)
    add_difference(other, low_rank_difference(learned, start, 3))
    values = torch.linalg.svdvals(learned[0].weight - start[0].weight)
    error = torch.linalg.norm(other[0].weight - learned[0].weight)
    torch.testing.assert_close(error, values[3:].norm(), rtol=1e-2, atol=1e-3)
    assert error > 0.1


def test_it_fits_no_other_network(start):
    difference = low_rank_difference(moved(start, 2), start, 2)
    other = nn.Sequential(nn.Linear(24, 41), *list(start)[1:])
    before = other[0].weight.clone()
    with pytest.raises(ValueError, match=r"differ in '0\.bias'"):
        add_difference(other, difference)
    assert torch.equal(other[0].weight, before)  # nothing was added before it was refused
    with pytest.raises(ValueError, match=r"differ in '0\.bias'"):
        low_rank_difference(other, start, 2)
    with pytest.raises(ValueError, match="rank is 0"):
        low_rank_difference(start, start, 0)
