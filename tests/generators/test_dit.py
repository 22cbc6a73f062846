"""What is particular to the DiT: patches, positions, and a start as the identity."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vislm_tutorial.generators import DiT


def small(**sizes) -> DiT:
    """A DiT of width 16 whose final projection is not zero."""
    defaults = {"sample_size": 8, "in_channels": 2, "width": 16, "heads": 2, "condition_width": 12}
    model = DiT(**(defaults | {"depth": 1} | sizes))
    nn.init.normal_(model.proj_out.weight)
    return model


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_without_blocks_each_patch_answers_for_itself(patch_size, make_condition):
    """Patches are cut out and put back at the same place, channel by channel."""
    model = small(depth=0, patch_size=patch_size)
    sample = torch.randn(1, 2, 8, 8)
    condition, timestep = make_condition(1), torch.tensor([500.0])
    before = model(sample, timestep, condition)
    sample[0, 1, 5, 2] += 1
    moved = (model(sample, timestep, condition) != before).any(dim=1)[0]  # (h, w)
    row, column = 5 // patch_size * patch_size, 2 // patch_size * patch_size
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[row : row + patch_size, column : column + patch_size] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("conditioning", ["cross", "prefix"])
def test_the_blocks_start_as_the_identity(conditioning, make_condition):
    model = small(depth=3, conditioning=conditioning)
    x, condition = torch.randn(2, 64, 16), make_condition(2)
    modulation = model.modulation(torch.randn(2, 16)).unflatten(-1, (6, -1))
    for block in model.blocks:
        assert torch.equal(block(x, modulation, condition), x)


def test_the_same_content_is_told_apart_by_its_place(make_condition):
    model = small()
    velocity = model(torch.ones(1, 2, 8, 8), torch.tensor([500.0]), make_condition(1))
    cells = velocity[0].flatten(1).T  # (C, h, w) -> (hw, C)
    assert torch.pdist(cells).min() > 0


def test_positions_are_made_anew_and_not_stored():
    assert not any("positions" in name for name in DiT(sample_size=4, depth=1).state_dict())


def test_sizes_that_do_not_fit_are_refused(make_condition):
    with pytest.raises(ValueError, match="sample_size 8 is not a multiple of patch_size 3"):
        small(patch_size=3)
    with pytest.raises(ValueError, match=r"sample is \(1, 2, 16, 16\).*8 x 8"):
        small()(torch.randn(1, 2, 16, 16), torch.tensor([500.0]), make_condition(1))
