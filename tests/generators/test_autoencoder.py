"""The autoencoder is diffusers' AutoencoderKL behind a fold; its objective is a negative ELBO."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vislm_tutorial.generators import Autoencoder, AutoencoderConfig, AutoencoderObjective


def small(**sizes) -> Autoencoder:
    """Two stages behind a fold of 2: four pixels a side for each latent cell."""
    defaults = {"patch_size": 2, "channels": (8, 16), "latent_channels": 4}
    return Autoencoder(**(defaults | sizes))


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(6, 3, 16, 16) - 1


def test_with_patches_of_one_it_is_the_librarys_autoencoder(images):
    ours = small(patch_size=1, layers=2)
    theirs = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    state = ours.state_dict()
    calibration = {name: state.pop(name) for name in ("latent_mean", "latent_std")}
    theirs.load_state_dict(state)
    with torch.no_grad():
        expected = theirs.encode(images).latent_dist
        torch.testing.assert_close(ours.posterior(images).mean, expected.mean)
        torch.testing.assert_close(ours.posterior(images).logvar, expected.logvar)
        z = expected.mode()
        torch.testing.assert_close(ours.reconstruct(z), theirs.decode(z).sample)
    assert not calibration["latent_mean"].any() and (calibration["latent_std"] == 1).all()


@pytest.mark.parametrize(
    ("patch_size", "channels", "factor"), [(1, (8,), 1), (2, (8, 8), 4), (4, (8, 8), 8)]
)
def test_latents_are_smaller_by_the_downsampling(patch_size, channels, factor, images):
    autoencoder = small(patch_size=patch_size, channels=channels)
    assert autoencoder.downsampling == factor
    latents = autoencoder.encode(images)
    assert latents.shape == (6, 4, 16 // factor, 16 // factor)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == images.shape
    assert decoded.min() >= -1 and decoded.max() <= 1


def test_calibrated_latents_have_mean_zero_and_variance_one_in_each_channel(images):
    autoencoder = small()
    raw = autoencoder.encode(images)
    reconstruction = autoencoder.reconstruct(autoencoder.posterior(images).mode())
    autoencoder.calibrate(images)
    latents = autoencoder.encode(images)
    assert (raw.std(dim=(0, 2, 3)) - 1).abs().min() > 0.1  # there was something to do
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.var(dim=(0, 2, 3)), torch.ones(4), rtol=0, atol=1e-4)
    # decode undoes it: the picture does not depend on the calibration
    torch.testing.assert_close(autoencoder.decode(latents), reconstruction.clamp(-1, 1))


def test_saved_and_loaded_it_keeps_its_calibration(images, tmp_path):
    autoencoder = small()
    autoencoder.calibrate(images)
    autoencoder.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = Autoencoder.from_pretrained(tmp_path)
    assert loaded.downsampling == autoencoder.downsampling
    latents = autoencoder.encode(images)
    assert torch.equal(loaded.encode(images), latents)
    assert torch.equal(loaded.decode(latents), autoencoder.decode(latents))


def test_config_holds_the_constructors_defaults():
    own = Autoencoder().config
    assert {name: own[name] for name in asdict(AutoencoderConfig())} == asdict(AutoencoderConfig())


@pytest.mark.parametrize("pixel_std", [0.05, 0.5])
def test_objective_is_the_negative_elbo_a_pixel_value(pixel_std, images):
    autoencoder = small()
    seed = torch.Generator().manual_seed(0)
    loss = AutoencoderObjective(autoencoder, pixel_std)({"image": images}, seed)

    moments = autoencoder.encoder(torch.nn.functional.pixel_unshuffle(images, 2))
    mean, logvar = moments.chunk(2, dim=1)
    posterior = Normal(mean, (logvar / 2).exp())
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    likelihood = Normal(autoencoder.reconstruct(mean + posterior.scale * noise), pixel_std)
    rate = kl_divergence(posterior, Normal(0.0, 1.0)).flatten(1).sum(dim=1)  # nats an image
    elbo = likelihood.log_prob(images).flatten(1).sum(dim=1) - rate
    constant = math.log(pixel_std * math.sqrt(2 * math.pi))
    torch.testing.assert_close(loss, -elbo.mean() / (3 * 16 * 16) - constant)


def test_objective_trains_every_weight_and_lowers_the_loss(images):
    objective = AutoencoderObjective(small())
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = objective({"image": images}, torch.Generator().manual_seed(0))
        loss.backward()
        idle = [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
        assert not idle
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
