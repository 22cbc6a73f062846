"""What every fusion has to do: right shapes, deaf to padding, saved whole, every weight in use."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from vislm_tutorial.fusion import FusionConfig, build_fusion, standardise
from vislm_tutorial.fusion.networks import Neighbours, masked_mean
from vislm_tutorial.types import Condition, TextStates

B, L, STATES, WIDTH, TOKENS = 3, 6, 20, 24, 4
M = {"pooled": 1, "projector": L, "resampler": TOKENS, "timestep_resampler": TOKENS}
M |= {"queries": TOKENS}
KINDS = tuple(M)
TIMES = torch.tensor([20.0, 500.0, 970.0])  # of the three captions; most fusions do not ask
LENGTHS = torch.tensor([[6], [2], [1]])


def fusion(kind: str) -> nn.Module:
    """A small one with random weights in its norms too."""
    config = FusionConfig(kind, width=WIDTH, tokens=TOKENS, depth=2, heads=3)
    module = build_fusion(config, STATES).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.2)
    return module


@pytest.fixture
def states() -> TextStates:
    mask = torch.arange(L) < LENGTHS
    return TextStates(torch.randn(B, L, STATES) * mask[..., None], mask)


def assert_same(a: Condition, b: Condition, atol: float = 2e-6) -> None:
    """Equal, up to rounding, but for more padding in one of them."""
    tokens = min(a.encoder_attention_mask.shape[1], b.encoder_attention_mask.shape[1])
    for one, other in ((a, b), (b, a)):
        assert not one.encoder_attention_mask[:, tokens:].any()
        assert torch.equal(
            one.encoder_attention_mask[:, :tokens], other.encoder_attention_mask[:, :tokens]
        )
        torch.testing.assert_close(
            one.encoder_hidden_states[:, :tokens],
            other.encoder_hidden_states[:, :tokens],
            rtol=0,
            atol=atol,
        )
    torch.testing.assert_close(a.pooled_projections, b.pooled_projections, rtol=0, atol=atol)


def test_every_kind_of_the_recipes_is_tested():
    assert set(KINDS) == set(get_args(get_type_hints(FusionConfig)["kind"]))


@pytest.mark.parametrize(("kind", "tokens"), M.items())
def test_a_condition_has_the_tokens_that_its_kind_says(kind, tokens, states):
    condition = fusion(kind)(states).at(TIMES)
    assert condition.encoder_hidden_states.shape == (B, tokens, WIDTH)
    assert condition.pooled_projections.shape == (B, WIDTH)
    expected = (
        states.encoder_attention_mask if kind == "projector" else torch.ones(B, tokens).bool()
    )
    assert torch.equal(condition.encoder_attention_mask, expected)
    assert not condition.encoder_hidden_states[~condition.encoder_attention_mask].any()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind, states):
    module = fusion(kind)
    mask = states.encoder_attention_mask
    garbage = 100 * torch.randn(B, L, STATES)
    spoiled = torch.where(mask[..., None], states.encoder_hidden_states, garbage)
    spoiled = TextStates(spoiled, mask)
    assert_same(module(states).at(TIMES), module(spoiled).at(TIMES), atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_longer_padding_and_other_captions_change_nothing(kind, states):
    module = fusion(kind)
    whole = module(states).at(TIMES)
    longer = TextStates.cat(
        [states, TextStates(torch.randn(1, 11, STATES), torch.ones(1, 11).bool())]
    )
    assert_same(whole, module(longer)[:B].at(TIMES))
    for i, length in enumerate(LENGTHS.flatten().tolist()):  # each caption alone and unpadded
        row = slice(i, i + 1)
        alone = TextStates(
            states.encoder_hidden_states[row, :length], states.encoder_attention_mask[row, :length]
        )
        assert_same(whole[row], module(alone).at(TIMES[row]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_real_token_is_read(kind, states):
    module = fusion(kind)
    before = module(states).at(TIMES)
    for position in range(L):
        changed = states.encoder_hidden_states.clone()
        changed[:, position] += torch.randn(STATES)
        after = module(replace(states, encoder_hidden_states=changed)).at(TIMES)
        moved = (after.pooled_projections - before.pooled_projections).abs().amax(dim=1) > 1e-4
        assert torch.equal(moved, states.encoder_attention_mask[:, position])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_token_states_read_the_whole_caption(kind, states):
    """What a bag of words cannot: a token's output depends on the other tokens."""
    states.encoder_hidden_states.requires_grad_()
    condition = fusion(kind)(states).at(TIMES)
    condition.encoder_hidden_states[0, 0].square().sum().backward()
    felt = states.encoder_hidden_states.grad.abs().amax(dim=-1)  # (B, L)
    assert (felt[0] > 0).all() and not felt[1:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_offset_of_the_states_do_not_matter(kind, states):
    """Language models differ a hundredfold in the scale of their states."""
    module = fusion(kind)
    scaled = replace(states, encoder_hidden_states=100 * states.encoder_hidden_states + 7)
    assert_same(module(states).at(TIMES), module(scaled).at(TIMES), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_a_fusion_gives_the_same(kind, states, tmp_path):
    module = fusion(kind)
    module.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = type(module).from_pretrained(tmp_path)
    own = {name: value for name, value in module.config.items() if not name.startswith("_")}
    assert own == {name: loaded.config[name] for name in own}
    assert_same(module(states).at(TIMES), loaded(states).at(TIMES), atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind, states):
    module = fusion(kind)
    condition = module(states).at(TIMES)
    (condition.encoder_hidden_states.square().sum() + condition.pooled_projections.sum()).backward()
    idle = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_masked_mean_counts_real_tokens_only():
    x = torch.tensor([[[1.0], [3.0], [50.0]], [[7.0], [8.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x, mask).tolist() == [[2.0], [0.0]]  # no token at all: zeros, not NaN


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_a_projector_without_blocks_reads_its_neighbours_and_no_further(reach):
    module = build_fusion(FusionConfig("projector", width=WIDTH, reach=reach, depth=0), STATES)
    hidden = torch.randn(1, 10, STATES, requires_grad=True)
    condition = module(TextStates(hidden, torch.ones(1, 10, dtype=torch.bool)))
    condition.encoder_hidden_states[0, 5].square().sum().backward()
    read = hidden.grad[0].abs().amax(dim=-1).nonzero().flatten().tolist()
    assert read == [*range(5 - reach, 5 + reach + 1)]


def test_neighbours_are_as_loud_as_the_word_itself():
    """What a language model says softly is heard from the first step."""
    torch.manual_seed(0)
    neighbours, x = Neighbours(192, 1), torch.zeros(1, 3, 192)
    x[0, 1] = torch.randn(192)
    heard = neighbours(x, torch.ones(1, 3, dtype=torch.bool))[0].norm(dim=-1) / x[0, 1].norm()
    assert 0.7 < heard[0] < 1.4 and 0.7 < heard[2] < 1.4


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="width 24 does not split into 5 heads"):
        build_fusion(FusionConfig("resampler", width=24, heads=5), STATES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_standardised_fusion_hears_every_channel_alike(kind):
    torch.manual_seed(0)
    loud = torch.ones(STATES)
    loud[3] = 300.0  # as one channel of a decoder's inner layers is
    states = TextStates(torch.randn(64, L, STATES) * loud + 2, torch.ones(64, L, dtype=torch.bool))
    states.encoder_attention_mask[:, 4:] = False
    module = build_fusion(FusionConfig(kind, width=WIDTH, depth=2, heads=3), STATES)
    tokens = states.encoder_hidden_states[states.encoder_attention_mask]
    assert module.norm(tokens).std(dim=0).amin() < 0.3
    standardise(module, states)
    heard = module.norm(tokens)
    torch.testing.assert_close(heard.mean(dim=0), torch.zeros(STATES), atol=1e-4, rtol=0)
    torch.testing.assert_close(heard.std(dim=0), torch.ones(STATES), atol=1e-3, rtol=0)


def test_nothing_can_be_standardised_by_one_token():
    module = build_fusion(FusionConfig("projector", width=WIDTH, heads=3), STATES)
    states = TextStates(torch.randn(1, 1, STATES), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="given 1 tokens; it needs two"):
        standardise(module, states)


def test_noise_on_the_states_is_for_training_only(states):
    module = build_fusion(FusionConfig(kind="projector", noise=1.0), STATES)
    quiet = build_fusion(FusionConfig(kind="projector"), STATES)
    quiet.load_state_dict(module.state_dict())
    same = quiet(states).encoder_hidden_states
    torch.testing.assert_close(module.eval()(states).encoder_hidden_states, same)
    assert not torch.allclose(module.train()(states).encoder_hidden_states, same, atol=1e-2)


def test_a_first_layer_of_small_rank_reads_no_more_directions(states):
    module = build_fusion(FusionConfig(kind="projector", rank=4), STATES)
    inner, outer = module.proj_in
    assert torch.linalg.matrix_rank(outer.weight @ inner.weight) == 4
    assert module(states).encoder_hidden_states.shape[-1] == 192


@pytest.mark.parametrize("wrong", [{"rank": -1}, {"noise": -0.1}])
def test_a_rank_or_noise_below_zero_is_refused(wrong):
    with pytest.raises(ValueError, match="neither can be below 0"):
        build_fusion(FusionConfig(kind="projector", **wrong), STATES)
