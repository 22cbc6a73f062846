"""What is particular to fusions with queries of their own: who reads what, and when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vislm_tutorial.fusion import (
    FusionConfig,
    QueryFusion,
    ResamplerFusion,
    TimestepResamplerFusion,
    build_fusion,
)
from vislm_tutorial.types import Condition, TextStates, TimedCondition

B, L, SIZES = 3, 6, {"states_width": 20, "width": 24, "tokens": 4, "depth": 2, "heads": 3}
KINDS = ("resampler", "timestep_resampler", "queries")


@pytest.fixture
def states() -> TextStates:
    return TextStates(torch.randn(B, L, 20), torch.arange(L) < torch.tensor([[6], [2], [1]]))


@pytest.fixture
def timed() -> TimestepResamplerFusion:
    """With the weights that start at zero drawn at random."""
    module = TimestepResamplerFusion(**SIZES)
    for block in module.blocks:
        nn.init.normal_(block.modulation.weight, std=0.2)
    return module


def at(*times: float) -> torch.Tensor:
    return torch.tensor(times)


def moved(a: Condition, b: Condition) -> list[bool]:
    """Which captions' tokens differ."""
    gap = (a.encoder_hidden_states - b.encoder_hidden_states).abs().amax(dim=(1, 2))
    return (gap > 1e-3).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_queries_ask_different_things_from_the_start(kind, states):
    config = FusionConfig(kind, width=24, tokens=4, heads=3)
    condition = build_fusion(config, 20)(states).at(at(500.0, 500.0, 500.0))
    assert torch.pdist(condition.encoder_hidden_states[0]).min() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_queries_without_a_block_would_read_nothing_and_are_refused(kind):
    with pytest.raises(ValueError, match="depth is 0; queries read in blocks"):
        build_fusion(FusionConfig(kind, depth=0), 20)


def test_each_caption_is_read_at_its_own_time(timed, states):
    condition = timed(states)
    assert isinstance(condition, TimedCondition) and len(condition) == B
    before = condition.at(at(900.0, 500.0, 100.0))
    after = condition.at(at(900.0, 400.0, 100.0))
    assert moved(before, after) == [False, True, False]
    assert not torch.equal(before.pooled_projections[1], after.pooled_projections[1])
    assert moved(before, condition.at(at(900.0, 500.0, 100.0))) == [False] * B


def test_early_and_late_it_reads_other_words(timed, states):
    """The gradient says how much each word counts: in other proportions at other times."""

    def shares(time: float) -> torch.Tensor:
        hidden = states.encoder_hidden_states[:1].clone().requires_grad_()
        whole = TextStates(hidden, states.encoder_attention_mask[:1])
        timed(whole).at(at(time)).encoder_hidden_states[0, 0].square().sum().backward()
        felt = hidden.grad[0].norm(dim=-1)
        return felt / felt.sum()

    assert (shares(980.0) - shares(20.0)).abs().max() > 0.01


def test_training_begins_with_a_plain_resampler(states):
    """Until the modulation has learned something, all times are the same."""
    fresh, plain = TimestepResamplerFusion(**SIZES), ResamplerFusion(**SIZES)
    missing, unexpected = plain.load_state_dict(fresh.state_dict(), strict=False)
    assert not missing and all("modulation" in n or "time_embed" in n for n in unexpected)
    condition, expected = fresh(states).at(at(10.0, 500.0, 990.0)), plain(states)
    for name in ("encoder_hidden_states", "pooled_projections"):
        torch.testing.assert_close(getattr(condition, name), getattr(expected, name))


def test_a_joined_condition_is_asked_row_by_row(timed, states):
    """As guidance does: captions and the empty one, of other lengths, in one batch."""
    short = timed(TextStates(torch.randn(1, 2, 20), torch.ones(1, 2, dtype=torch.bool)))
    both = TimedCondition.cat([timed(states), short]).at(at(900.0, 500.0, 100.0, 700.0))
    parts = [timed(states).at(at(900.0, 500.0, 100.0)), short.at(at(700.0))]
    assert moved(both, Condition.cat(parts)) == [False] * 4


@pytest.mark.parametrize(("family", "rewritten"), [(ResamplerFusion, False), (QueryFusion, True)])
def test_a_captions_words_are_rewritten_beside_queries_alone(family, rewritten, states):
    """What the last block is given of word 0 depends on word 1, or it does not."""
    module, seen = family(**SIZES), []
    attention = module.blocks[-1].attn.to_kv
    attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    changed = states.encoder_hidden_states.clone()
    changed[0, 1] += torch.randn(20)
    module(states)
    module(TextStates(changed, states.encoder_attention_mask))
    word = 0 if family is ResamplerFusion else SIZES["tokens"]  # its place in the sequence
    assert torch.equal(seen[0][0, word], seen[1][0, word]) is not rewritten
