"""diffusers' own networks as backbones: what every backbone has to do, and the way to disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import nn

from vislm_tutorial.generators import FlowGenerator
from vislm_tutorial.generators.stock import stock_transformer, stock_unet
from vislm_tutorial.types import Condition

SIDE, CHANNELS, WIDTH = 8, 3, 12  # the last is that of make_condition


@pytest.fixture(params=["unet", "transformer"])
def backbone(request) -> nn.Module:
    if request.param == "unet":
        return stock_unet(SIDE, CHANNELS, WIDTH, widths=(24,)).eval()
    return stock_transformer(SIDE, CHANNELS, WIDTH, width=24, layers=2).eval()


@pytest.fixture
def inputs(make_condition) -> tuple:
    sample = torch.randn(3, CHANNELS, SIDE, SIDE)
    return sample, torch.tensor([20.0, 500.0, 970.0]), make_condition(3)


def test_gradient_reaches_every_parameter(backbone, inputs):
    velocity = backbone(*inputs)
    assert velocity.shape == inputs[0].shape
    velocity.square().sum().backward()
    idle = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@torch.no_grad()
def test_padding_is_never_read(backbone, inputs):
    sample, timestep, condition = inputs
    states, mask = condition.encoder_hidden_states, condition.encoder_attention_mask
    before = backbone(*inputs)
    spoiled = torch.where(mask[..., None], states, 100 * torch.randn_like(states))
    spoiled = replace(condition, encoder_hidden_states=spoiled)
    torch.testing.assert_close(backbone(sample, timestep, spoiled), before, rtol=0, atol=1e-5)
    padded = Condition(
        torch.cat([states, torch.randn(3, 4, WIDTH)], dim=1),
        torch.cat([mask, mask.new_zeros(3, 4)], dim=1),
        condition.pooled_projections,
    )
    torch.testing.assert_close(backbone(sample, timestep, padded), before, rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_input_changes_the_velocity_of_its_own_row_alone(backbone, inputs):
    sample, timestep, condition = inputs
    before = backbone(*inputs)
    states, pooled = (
        condition.encoder_hidden_states.clone(),
        condition.pooled_projections.clone(),
    )
    states[1, 0] += 1
    pooled[1] += 1
    for changed in (
        (sample + torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1, 1), timestep, condition),
        (sample, timestep + torch.tensor([0.0, 50.0, 0.0]), condition),
        (sample, timestep, replace(condition, encoder_hidden_states=states)),
        (sample, timestep, replace(condition, pooled_projections=pooled)),
    ):
        moved = (backbone(*changed) - before).abs().amax(dim=(1, 2, 3))
        assert moved[1] > 1e-4 and moved[0] < 1e-5 and moved[2] < 1e-5


def test_it_draws_with_guidance_and_learns(backbone, make_condition):
    generator, condition = FlowGenerator(backbone), make_condition(2)

    def drawn(scale: float) -> torch.Tensor:
        return generator.sample(
            condition, make_condition(1), scale, 2, generator=torch.Generator().manual_seed(0)
        )

    torch.manual_seed(0)
    plain, guided = drawn(1.0), drawn(4.0)
    assert plain.shape == (2, CHANNELS, SIDE, SIDE) and (plain - guided).abs().max() > 0.01
    optimizer = torch.optim.AdamW(backbone.parameters(), 1e-3)
    pictures, losses = torch.randn(2, CHANNELS, SIDE, SIDE), []
    for _ in range(12):
        loss = generator.prepared_loss(pictures, condition, torch.Generator().manual_seed(0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@torch.no_grad()
def test_the_library_reads_what_it_wrote(backbone, inputs, tmp_path):
    backbone.save_pretrained(tmp_path)
    again = type(backbone).from_pretrained(tmp_path).eval()
    assert torch.equal(again(*inputs), backbone(*inputs))
    sample, timestep, condition = inputs
    if isinstance(backbone, UNet2DConditionModel):  # the file is one of diffusers' own class, too
        parent = UNet2DConditionModel.from_pretrained(tmp_path).eval()
        velocity = parent(
            sample,
            timestep,
            condition.encoder_hidden_states,
            class_labels=condition.pooled_projections,
            encoder_attention_mask=condition.encoder_attention_mask,
        ).sample
        assert torch.equal(velocity, backbone(*inputs))
    else:
        PixArtTransformer2DModel.from_pretrained(tmp_path).load_state_dict(backbone.state_dict())


def test_they_are_as_large_as_the_shipped_backbone():
    shipped = 5_543_464
    for network in (stock_unet(), stock_transformer()):
        parameters = sum(p.numel() for p in network.parameters())
        assert abs(parameters / shipped - 1) < 0.05, f"{parameters:,}"
