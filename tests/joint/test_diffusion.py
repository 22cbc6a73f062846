"""A pretrained pipeline: loaded from its folder, refused if of another family, its noise."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from tiny_diffusion import CAPTIONS, LENGTH, SIDE, WIDTH, save_tiny, tiny_pipe

from vislm_tutorial import registry
from vislm_tutorial.diffusion import (
    check_supported,
    image_size,
    load_diffusion,
    min_snr_weight,
    noise_target,
    own_states,
    signal_to_noise,
    to_latents,
    training_scheduler,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "pipe")


def test_a_saved_pipeline_is_loaded_frozen_and_says_what_it_said(folder):
    pipe = load_diffusion(folder)
    assert not any(p.requires_grad for p in pipe.unet.parameters())
    assert not any(p.requires_grad for p in pipe.text_encoder.parameters())
    assert pipe.unet.dtype == torch.float32 and image_size(pipe) == SIDE
    states = own_states(pipe, CAPTIONS[:3])
    assert states.shape == (3, LENGTH, WIDTH)
    torch.testing.assert_close(states, own_states(tiny_pipe(), CAPTIONS[:3]), rtol=0, atol=1e-6)
    assert (states[0] - states[1]).abs().max() > 1e-3  # and does read the caption


def test_what_is_not_here_is_not_looked_for(tmp_path):
    with pytest.raises(registry.AssetError, match="pass allow_network=True"):
        load_diffusion("tiny-sd")
    with pytest.raises(registry.AssetError, match="could not be loaded"):
        load_diffusion(tmp_path)


def test_pickled_weights_are_not_opened(folder, tmp_path):
    pipe = tiny_pipe()
    pipe.save_pretrained(tmp_path / "pickled")
    weights = tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(registry.AssetError, match="Only safetensors"):
        load_diffusion(tmp_path / "pickled")


def test_other_families_are_refused_by_what_differs():
    pipe = tiny_pipe()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler.*alphas_cumprod"):
        check_supported(pipe)
    pipe = tiny_pipe()
    pipe.unet.register_to_config(addition_embed_type="text_time")
    with pytest.raises(ValueError, match="addition_embed_type='text_time'"):
        check_supported(pipe)
    pipe = tiny_pipe()
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="reads 9 channels, its VAE makes 4"):
        check_supported(pipe)
    pipe = tiny_pipe()
    pipe.text_encoder = None
    with pytest.raises(ValueError, match="no text_encoder"):
        check_supported(pipe)


def test_latents_have_the_scale_the_unet_knows():
    pipe = tiny_pipe()
    images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    latents = to_latents(pipe, images)
    assert latents.shape == (2, 4, SIDE // 2, SIDE // 2)
    with torch.no_grad():
        mean = pipe.vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(latents, mean * pipe.vae.config.scaling_factor)


def test_the_pipelines_own_noise_is_used_whatever_it_draws_with():
    pipe = tiny_pipe("v_prediction")
    scheduler = training_scheduler(pipe)
    assert isinstance(scheduler, DDPMScheduler)
    assert scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_from_the_exact_answer_the_scheduler_recovers_the_picture(kind):
    scheduler = DDPMScheduler(prediction_type=kind, clip_sample=False)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    for t in (5, 400, 900):
        step = torch.tensor([t])
        noisy = scheduler.add_noise(clean, noise, step)
        answer = noise_target(scheduler, clean, noise, step)
        scheduler.set_timesteps(1000)
        found = scheduler.step(answer, t, noisy).pred_original_sample
        torch.testing.assert_close(found, clean, rtol=0, atol=2e-3)


def test_an_unknown_prediction_type_is_named():
    scheduler = DDPMScheduler()
    scheduler.register_to_config(prediction_type="flow_prediction")
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match="flow_prediction"):
        noise_target(scheduler, x, x, torch.tensor([1]))


def test_min_snr_counts_an_error_in_the_picture_alike_whatever_is_predicted():
    scheduler = DDPMScheduler()
    t = torch.tensor([10, 300, 990])
    snr = signal_to_noise(scheduler, t)
    assert snr[0] > 5 > snr[2]
    alpha = scheduler.alphas_cumprod[t]
    # The same error in x_0, of size 1, as an error of what is predicted instead.
    squared = {
        "sample": torch.ones(3),
        "epsilon": alpha / (1 - alpha),
        "v_prediction": 1 / (1 - alpha),
    }
    for kind, error in squared.items():
        torch.testing.assert_close(min_snr_weight(snr, 5.0, kind) * error, snr.clamp(max=5.0))
    with pytest.raises(ValueError, match="velocity"):
        min_snr_weight(snr, 5.0, "velocity")
