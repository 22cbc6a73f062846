"""What is particular to the U-Net: the library's residual block, stages, skips, attention."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from vislm_tutorial.generators import UNet
from vislm_tutorial.generators.unet import GROUPS, ResnetBlock, SpatialAttention


def small(**sizes) -> UNet:
    """Two stages, 8 and 16 channels, on 8 x 8 grids; the final convolution is not zero."""
    defaults = {"sample_size": 8, "width": 8, "multipliers": (1, 2), "heads": 2}
    model = UNet(**(defaults | {"condition_width": 12} | sizes))
    nn.init.normal_(model.conv_out.weight)
    return model


@pytest.mark.parametrize("outputs", [16, 24])
def test_residual_block_equals_the_librarys(outputs):
    ours = ResnetBlock(16, outputs, time_width=12)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs = ResnetBlock2D(in_channels=16, out_channels=outputs, temb_channels=12, groups=GROUPS)
    theirs.load_state_dict(ours.state_dict())
    x, time = torch.randn(2, 16, 5, 5), torch.randn(2, 12)
    torch.testing.assert_close(ours(x, time), theirs(x, time), rtol=1e-5, atol=1e-5)


def test_spatial_attention_keeps_cells_in_place(make_condition):
    """Attention has no positions of its own: a permuted map gives the permuted answer."""
    attention = SpatialAttention(8, heads=2, condition_width=12)
    x, condition = torch.randn(2, 8, 4, 6), make_condition(2)
    out = attention(x, condition)
    assert out.shape == x.shape
    torch.testing.assert_close(attention(x.flip(3), condition), out.flip(3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("attention_size", "stages"), [(8, 2), (4, 1), (2, 0)])
def test_attention_is_used_where_cells_are_few(attention_size, stages):
    model = small(attention_size=attention_size)
    assert sum(s.attention is not None for s in model.down) == stages
    assert sum(s.attention is not None for s in model.up) == stages


def test_skips_carry_what_the_coarse_stages_lose(make_condition):
    """A checkerboard of single cells survives although the coarse grid is half as fine."""
    model = small(attention_size=1)
    nn.init.zeros_(model.up[0].resnet.conv2.weight)  # cut the path through the coarse stage ...
    nn.init.zeros_(model.up[0].resnet.conv_shortcut.weight)
    x, timestep, condition = torch.randn(1, 3, 8, 8), torch.tensor([500.0]), make_condition(1)
    before = model(x, timestep, condition)
    x[0, :, 0, 0] += 1
    moved = model(x, timestep, condition) != before
    assert moved[..., 0, 0].all()  # ... and the fine skip still answers


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2, 2)])
def test_any_number_of_stages_fits(multipliers, make_condition):
    model = small(multipliers=multipliers, attention_size=2)
    timestep = torch.tensor([500.0])
    assert model(torch.randn(1, 3, 8, 8), timestep, make_condition(1)).shape == (1, 3, 8, 8)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width is 12; expected a multiple of 8"):
        small(width=12)
    with pytest.raises(ValueError, match="sample_size is 6; expected a multiple of 4"):
        small(sample_size=6, multipliers=(1, 1, 1))


def test_it_knows_where_a_cell_is(make_condition):
    """Far from the edges, an even grid gives an uneven answer; without positions it is even."""
    model = small(sample_size=24, attention_size=1, multipliers=(1,))
    even, timestep, condition = torch.ones(1, 3, 24, 24), torch.tensor([500.0]), make_condition(1)
    centre = (..., slice(10, 14), slice(10, 14))  # eight 3 x 3 convolutions see no padding here
    assert model(even, timestep, condition)[centre].std(dim=(2, 3)).min() > 1e-3
    model.positions.zero_()
    assert model(even, timestep, condition)[centre].std(dim=(2, 3)).max() < 1e-5


def test_a_grid_of_another_size_is_refused(make_condition):
    with pytest.raises(ValueError, match="positions of 8 x 8 grids only"):
        small()(torch.randn(1, 3, 16, 16), torch.tensor([500.0]), make_condition(1))
