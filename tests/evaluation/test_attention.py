"""What is recorded is what the attention did: rows that sum to 1, at real tokens alone."""

from __future__ import annotations

import pytest
import torch

from vislm_tutorial.blocks import Attention
from vislm_tutorial.evaluation.attention import attention_weights, watch_attention
from vislm_tutorial.generators import DiT, UNet
from vislm_tutorial.types import Condition

B, M, D = 2, 5, 16
MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])


def unet(conditioning="cross"):
    return UNet(8, 3, 16, (1, 2), 2, 8, condition_width=D, conditioning=conditioning)


def dit(conditioning="cross"):
    return DiT(8, 3, 2, 16, 2, 2, condition_width=D, conditioning=conditioning)


@pytest.fixture
def condition() -> Condition:
    torch.manual_seed(0)
    return Condition(torch.randn(B, M, D), MASK, torch.randn(B, D))


def ask(backbone, condition):
    return backbone(torch.randn(B, 3, 8, 8), torch.full((B,), 500.0), condition)


@pytest.mark.parametrize("mask", [None, MASK])
def test_the_weights_are_those_that_the_attention_mixes_with(mask):
    torch.manual_seed(0)
    attention = Attention(16, 2, context_width=12)
    torch.nn.init.normal_(attention.norm_k.weight)
    x, context = torch.randn(B, 7, 16), torch.randn(B, M, 12)
    weights = attention_weights(attention, x, context, mask)
    values = attention.to_kv(context).chunk(2, dim=-1)[1].unflatten(-1, (2, 8)).transpose(1, 2)
    mixed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.to_out(mixed), attention(x, context, mask))


@pytest.mark.parametrize(("build", "side"), [(unet, 8), (dit, 4)])
def test_a_map_for_each_call_caption_and_token(build, side, condition):
    backbone = build()
    with watch_attention(backbone) as seen:
        for _ in range(3):
            ask(backbone, condition)
    maps = seen.maps(B)
    assert maps.shape == (3, B, M, side, side)
    torch.testing.assert_close(maps.sum(dim=2), torch.ones(3, B, side, side))
    assert maps[:, 1, 2:].abs().max() == 0, "padding was looked at"
    torch.testing.assert_close(seen.maps(1), maps[:, :1])


def test_watching_changes_nothing_and_ends_with_the_block(condition):
    backbone = unet()
    torch.nn.init.normal_(backbone.conv_out.weight)
    torch.manual_seed(1)
    alone = ask(backbone, condition)
    torch.manual_seed(1)
    with watch_attention(backbone) as seen:
        torch.testing.assert_close(ask(backbone, condition), alone, rtol=0, atol=0)
    ask(backbone, condition)
    assert len(seen.calls) == 1


def test_what_cannot_be_watched_is_refused(condition):
    for build in (unet, dit):
        with (
            pytest.raises(ValueError, match="no cross-attention"),
            watch_attention(build("prefix")),
        ):
            pass
    with watch_attention(unet()) as seen:
        pass
    with pytest.raises(ValueError, match="No call of the backbone"):
        seen.maps(1)
    backbone = dit()
    with watch_attention(backbone) as seen:
        ask(backbone, condition)
    for rows in (0, B + 1):
        with pytest.raises(ValueError, match="expected 1 to 2"):
            seen.maps(rows)
