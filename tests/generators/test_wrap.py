"""Networks on a cylinder: what lies beyond the right edge is the left one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vislm_tutorial.blocks import position_embedding
from vislm_tutorial.generators import Autoencoder, FlowConfig, UNet
from vislm_tutorial.generators.config import build_generator
from vislm_tutorial.generators.vq import VQAutoencoder


def rolled_difference(network, x: torch.Tensor, pixels: int, out_pixels: int) -> float:
    """How far the answer to a rolled picture is from the rolled answer."""
    with torch.no_grad():
        rolled, straight = network(x.roll(pixels, -1)), network(x).roll(out_pixels, -1)
    return (rolled - straight).abs().max().item()


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_wrapped_autoencoder_knows_no_seam(patch_size):
    torch.manual_seed(0)
    shape = {"patch_size": patch_size, "channels": (8, 16), "latent_channels": 4}
    wrapped, flat = Autoencoder(**shape, wrap=True), Autoencoder(**shape)
    flat.load_state_dict(wrapped.state_dict())  # the same weights, by the same names
    x, f = 2 * torch.rand(2, 3, 16, 32) - 1, wrapped.downsampling
    z = torch.randn(2, 4, 16 // f, 32 // f)
    assert wrapped.encode(x).shape == z.shape
    assert rolled_difference(wrapped.encode, x, 3 * f, 3) < 1e-5
    assert rolled_difference(wrapped.decode, z, 3, 3 * f) < 1e-5
    assert rolled_difference(flat.encode, x, 3 * f, 3) > 1e-3
    assert rolled_difference(flat.decode, z, 3, 3 * f) > 1e-3


def test_a_wrapped_unet_knows_no_seam_but_that_of_its_positions(make_condition):
    sizes = {"sample_size": 4, "width": 8, "multipliers": (1, 2), "heads": 2}
    condition, timestep = make_condition(1), torch.tensor([500.0])
    for wrap in (True, False):
        torch.manual_seed(0)
        model = UNet(**sizes, condition_width=12, aspect=2, wrap=wrap)
        nn.init.normal_(model.conv_out.weight)
        model.positions.zero_()
        x = torch.randn(1, 3, 4, 8)
        assert model(x, timestep, condition).shape == x.shape

        def velocity(x, model=model):
            return model(x, timestep, condition)

        difference = rolled_difference(velocity, x, 2, 2)
        assert difference < 1e-4 if wrap else difference > 1e-2


def test_positions_on_a_circle_have_no_first_column():
    """Neighbours are as near at the seam as elsewhere, and no two columns are alike."""
    height, width, channels = 4, 12, 32
    grid = position_embedding(height, width, channels, wrap=True).unflatten(0, (height, width))
    step = (grid - grid.roll(1, 1)).norm(dim=-1)
    torch.testing.assert_close(step, step[:1, :1].expand_as(step))
    row = grid[0]
    apart = torch.cdist(row, row) + torch.eye(width) * 9
    assert apart.min() > 0.1


def test_a_recipe_says_that_pictures_are_wide_and_wrap():
    config = FlowConfig(backbone="unet", width=8, multipliers=(1, 2), heads=2, aspect=2, wrap=True)
    autoencoder = Autoencoder(patch_size=2, channels=(8, 8), latent_channels=4, wrap=True)
    generator = build_generator(config, 32, autoencoder, 12)
    assert generator.grid == (4, 8, 16)
    images = torch.rand(2, 3, 32, 64)
    assert generator.behind(autoencoder).prepare(images).shape == (2, 4, 8, 16)
    with pytest.raises(ValueError, match="only unet draws wide pictures"):
        FlowConfig(backbone="dit", aspect=2)
    with pytest.raises(ValueError, match="expected 1 or more"):
        FlowConfig(backbone="unet", aspect=0)


def test_a_codebook_keeps_the_wrap():
    autoencoder = Autoencoder(patch_size=2, channels=(8, 8), latent_channels=4, wrap=True)
    images = torch.rand(4, 3, 8, 16)
    model = VQAutoencoder.from_autoencoder(autoencoder, 8, images, torch.Generator().manual_seed(0))
    assert model.config.wrap
    torch.testing.assert_close(model.posterior(images).mean, autoencoder.posterior(images).mean)
