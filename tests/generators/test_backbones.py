"""What every backbone has to do: the DiT and the U-Net under the same tests, however they read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vislm_tutorial import registry
from vislm_tutorial.generators import DiT, FlowConfig, FlowGenerator, UNet, build_backbone
from vislm_tutorial.generators.unet import SpatialAttention
from vislm_tutorial.types import Condition

SIDE, CHANNELS = 8, 3
SIZES = {
    "dit": FlowConfig(backbone="dit", width=32, depth=2, heads=2, patch_size=2),
    "unet": FlowConfig(backbone="unet", width=8, heads=2),
}
SIZES |= {f"{name}-prefix": replace(size, conditioning="prefix") for name, size in SIZES.items()}


@pytest.fixture(params=list(SIZES))
def backbone(request) -> nn.Module:
    return build_backbone(SIZES[request.param], SIDE, CHANNELS, condition_width=12).eval()


@pytest.fixture
def awake(backbone) -> nn.Module:
    """The backbone with the weights that start at zero drawn at random."""
    for parameter in backbone.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return backbone


@pytest.fixture
def inputs(make_condition) -> tuple:
    return (
        torch.randn(3, CHANNELS, SIDE, SIDE),
        torch.tensor([20.0, 500.0, 970.0]),
        make_condition(3),
    )


def test_velocity_has_the_shape_of_the_sample_and_starts_at_zero(backbone, inputs):
    velocity = backbone(*inputs)
    assert velocity.shape == inputs[0].shape
    assert not velocity.any()


def test_gradient_reaches_every_parameter(awake, inputs):
    awake(*inputs).square().sum().backward()
    idle = [name for name, p in awake.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_masked_condition_tokens_are_never_read(awake, inputs):
    sample, timestep, condition = inputs
    mask = condition.encoder_attention_mask
    states = condition.encoder_hidden_states
    spoiled = torch.where(mask[..., None], states, 100 * torch.randn_like(states))
    before = awake(sample, timestep, condition)
    assert torch.equal(
        awake(sample, timestep, replace(condition, encoder_hidden_states=spoiled)), before
    )
    padded = Condition(
        torch.cat([states, torch.randn(3, 4, 12)], dim=1),
        torch.cat([mask, mask.new_zeros(3, 4)], dim=1),
        condition.pooled_projections,
    )
    torch.testing.assert_close(awake(sample, timestep, padded), before, rtol=0, atol=1e-5)


def test_every_input_changes_the_velocity_of_its_own_row_alone(awake, inputs):
    sample, timestep, condition = inputs
    before = awake(*inputs)
    states = condition.encoder_hidden_states.clone()
    states[1, 0] += 1
    pooled = condition.pooled_projections.clone()
    pooled[1] += 1
    for changed in (
        (sample + torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1, 1), timestep, condition),
        (sample, timestep + torch.tensor([0.0, 50.0, 0.0]), condition),
        (sample, timestep, replace(condition, encoder_hidden_states=states)),
        (sample, timestep, replace(condition, pooled_projections=pooled)),
    ):
        moved = (awake(*changed) - before).abs().amax(dim=(1, 2, 3)) > 1e-4
        assert moved.tolist() == [False, True, False]


def test_each_output_cell_sees_the_whole_image(awake, inputs):
    sample, timestep, condition = inputs
    sample.requires_grad_()
    awake(sample, timestep, condition)[0, 0, 0, 0].backward()
    felt = sample.grad[0].abs().amax(dim=0)  # (C, h, w) -> (h, w)
    assert (felt > 0).all() and not sample.grad[1:].any()


def test_saved_and_loaded_a_backbone_gives_the_same(awake, inputs, tmp_path):
    awake.save_pretrained(tmp_path)
    loaded = type(awake).from_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert torch.equal(loaded(*inputs), awake(*inputs))


def test_loaded_in_half_precision_a_backbone_gives_nearly_the_same(awake, inputs, tmp_path):
    sample, timestep, condition = inputs
    exact = awake(*inputs)
    awake.save_pretrained(tmp_path)
    loaded = type(awake).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    half = loaded(sample.bfloat16(), timestep, condition.to(dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half - exact).square().mean() < 1e-3 * exact.square().mean()


def test_one_tiny_batch_is_learned_and_drawn_again(backbone, make_condition):
    """Each of two conditions has one picture: the loss falls, and sampling gives that picture."""
    coarse = torch.rand(1, CHANNELS, 2, 2)
    coarse = torch.cat([coarse, -coarse])
    images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)  # 2 x 2 -> 8 x 8
    condition, generator = make_condition(2), torch.Generator().manual_seed(0)
    flow = FlowGenerator(backbone.train())
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    rows = torch.arange(2).repeat(8)  # 16 noise levels a step
    losses = []
    for _ in range(120):
        loss = flow.loss(images[rows], condition[rows], generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < losses[0] / 8
    drawn = flow.sample(condition, num_inference_steps=8, generator=generator)
    error, confusion = ((drawn - x).square().mean() for x in (images, images.flip(0)))
    assert error < confusion / 5


# --- captions as a prefix -----------------------------------------------------------------------

# Names of the attention blocks' parameters as the shipped weights have them.
OF_PIXELS, OF_CAPTIONS = {"norm1", "attn1", "norm3", "ff"}, {"norm2", "attn2"}


def attention_blocks(backbone: nn.Module) -> list[nn.Module]:
    return [module for module in backbone.modules() if hasattr(module, "attn1")]


def test_a_prefix_takes_the_place_of_the_cross_attention(backbone):
    for block in attention_blocks(backbone):
        parts = {name for name, _ in block.named_children()}
        prefix = backbone.config.conditioning == "prefix"
        assert parts - {"dropout"} == OF_PIXELS | ({"prefix"} if prefix else OF_CAPTIONS)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_both_ways_have_the_other_parameters_in_common(name):
    cross, prefix = (
        build_backbone(SIZES[key], SIDE, CHANNELS, condition_width=12).state_dict()
        for key in (name, f"{name}-prefix")
    )
    assert all(OF_CAPTIONS & {*key.split(".")} for key in cross.keys() - prefix.keys())
    assert all("prefix" in key.split(".") for key in prefix.keys() - cross.keys())


def test_the_shipped_weights_have_the_names_of_cross():
    folder = registry.find("scenes-weights") / "backbone"
    names = {key for file in folder.glob("*.safetensors") for key in load_file(file)}
    model = UNet(**{k: v for k, v in UNet.load_config(folder).items() if k[:1] != "_"})
    assert model.config.conditioning == "cross" and set(model.state_dict()) == names


def test_a_config_without_the_choice_means_cross(tmp_path, inputs):
    """As in files that are older than it."""
    model = build_backbone(SIZES["unet"], SIDE, CHANNELS, condition_width=12)
    model.save_pretrained(tmp_path)
    file = tmp_path / model.config_name
    config = json.loads(file.read_text())
    assert config.pop("conditioning") == "cross"
    file.write_text(json.dumps(config))
    assert torch.equal(type(model).from_pretrained(tmp_path)(*inputs), model(*inputs))


def test_cells_read_words_and_cells_in_one_softmax(make_condition):
    """The U-Net's attention with a prefix, written out for one caption and one head."""
    block, x = SpatialAttention(8, 1, 12, "prefix"), torch.randn(1, 8, 2, 3)
    condition = make_condition(2)[1:]  # its last token is masked
    cells = x[0].flatten(1).T  # (C, h, w) -> (hw, C)
    words = block.prefix(condition.encoder_hidden_states[0, :-1])
    seen = torch.cat([words, block.norm1(cells)])
    keys, values = block.attn1.to_kv(seen).chunk(2, dim=-1)
    queries = block.attn1.norm_q(block.attn1.to_q(block.norm1(cells)))
    weights = (queries @ block.attn1.norm_k(keys).T / 8**0.5).softmax(dim=-1)  # (hw, M - 1 + hw)
    cells = cells + block.attn1.to_out(weights @ values)
    cells = cells + block.ff(block.norm3(cells))
    expected = cells.T.unflatten(1, (2, 3))
    torch.testing.assert_close(block(x, condition)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", [DiT, UNet])
def test_another_way_of_conditioning_is_refused(family):
    with pytest.raises(ValueError, match="'prefx'; expected 'cross' or 'prefix'"):
        family(conditioning="prefx")
