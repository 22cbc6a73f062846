"""Each block gives what diffusers' own class gives with the same weights."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention import FeedForward as LibraryFeedForward
from diffusers.models.attention_processor import Attention as LibraryAttention
from diffusers.models.embeddings import Timesteps, get_2d_sincos_pos_embed
from diffusers.models.normalization import AdaLayerNormSingle, AdaLayerNormZero
from torch import Tensor, nn

from vislm_tutorial.blocks import (
    Attention,
    FeedForward,
    modulate,
    position_embedding,
    timestep_embedding,
)
from vislm_tutorial.generators.dit import DiT, DiTBlock
from vislm_tutorial.generators.unet import SpatialAttention
from vislm_tutorial.types import Condition

WIDTH, HEADS, CONTEXT = 24, 3, 20
TIMES = torch.tensor([0.0, 0.5, 10.0, 499.25, 1000.0])


def library_attention(ours: Attention) -> LibraryAttention:
    """diffusers' attention with our weights; our key and value weights lie in one matrix."""
    width, context_width = ours.to_q.in_features, ours.to_kv.in_features
    theirs = LibraryAttention(
        query_dim=width,
        cross_attention_dim=None if context_width == width else context_width,
        heads=ours.heads,
        dim_head=width // ours.heads,
        qk_norm="rms_norm",
        eps=1e-6,
    )
    key, value = ours.to_kv.weight.chunk(2)
    names = ("to_q", "norm_q", "norm_k")
    state = {f"{name}.weight": getattr(ours, name).weight for name in names}
    state |= {"to_k.weight": key, "to_v.weight": value}
    state |= {f"to_out.0.{name}": p for name, p in ours.to_out.named_parameters()}
    theirs.load_state_dict(state)
    return theirs


def library_feed_forward(ours: FeedForward) -> LibraryFeedForward:
    """diffusers' perceptron with our weights."""
    theirs = LibraryFeedForward(ours[0].in_features, activation_fn="gelu-approximate")
    theirs.net[0].proj.load_state_dict(ours[0].state_dict())
    theirs.net[2].load_state_dict(ours[2].state_dict())
    return theirs


def library_block(ours: nn.Module, **norms) -> BasicTransformerBlock:
    """diffusers' transformer block with our attentions and perceptron; `norms` are its options."""
    theirs = BasicTransformerBlock(
        WIDTH,
        HEADS,
        WIDTH // HEADS,
        cross_attention_dim=CONTEXT,
        activation_fn="gelu-approximate",
        **norms,
    )
    theirs.attn1 = library_attention(ours.attn1)  # the block itself offers no QK norm
    theirs.attn2 = library_attention(ours.attn2)
    theirs.ff = library_feed_forward(ours.ff)
    return theirs


def scramble(module: nn.Module) -> nn.Module:
    """Every weight random, so that no zero and no one hides a mistake."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


# --- against the library's classes --------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 64])
def test_timesteps_become_the_librarys_sinusoids(width):
    theirs = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)(TIMES)
    torch.testing.assert_close(timestep_embedding(TIMES, width), theirs, rtol=0, atol=1e-6)


def test_positions_are_the_fast_half_of_the_librarys_at_twice_the_width():
    height, width, channels = 3, 5, 16
    # `base_size` is the side that positions are stretched to: one cell apart when it is the side.
    square = get_2d_sincos_pos_embed(2 * channels, width, base_size=width)
    theirs = square.view(width, width, -1)[:height].flatten(0, 1)
    by_part = theirs.unflatten(-1, (2, 2, channels // 2))  # axis (columns first), sin or cos, speed
    fast = by_part[..., : channels // 4].flip(1, 2)  # rows first, cosines first
    torch.testing.assert_close(
        position_embedding(height, width, channels), fast.flatten(1).float(), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("context_width", [None, CONTEXT])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_the_librarys(context_width, masked):
    ours = scramble(Attention(WIDTH, HEADS, context_width))
    x = torch.randn(2, 5, WIDTH)
    context = None if context_width is None else torch.randn(2, 7, context_width)
    tokens = 5 if context is None else 7
    mask = torch.arange(tokens) < torch.tensor([[2], [4]]) if masked else None
    # The library takes the mask as a term of the logits, (B, 1, M).
    bias = None if mask is None else torch.where(mask, 0.0, -1e9)[:, None]
    close(ours(x, context, mask), library_attention(ours)(x, context, attention_mask=bias))


def test_feed_forward_equals_the_librarys():
    ours = scramble(FeedForward(WIDTH))
    x = torch.randn(2, 5, WIDTH)
    close(ours(x), library_feed_forward(ours)(x))


def test_modulation_is_ada_layer_norm_zeros():
    theirs = scramble(AdaLayerNormZero(WIDTH, norm_type="layer_norm"))
    x, vector = torch.randn(2, 5, WIDTH), torch.randn(2, WIDTH)
    expected, *_ = theirs(x, emb=vector)
    shift, scale = theirs.linear(nn.functional.silu(vector))[:, None].chunk(6, dim=-1)[:2]
    close(modulate(theirs.norm(x), shift, scale), expected)


def test_dit_block_equals_the_librarys_ada_norm_single():
    ours = scramble(DiTBlock(WIDTH, HEADS, CONTEXT))
    theirs = library_block(
        ours, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6
    )
    theirs.scale_shift_table.data.copy_(ours.scale_shift_table)
    # PixArt reads the caption with tokens as they are; ours are normalised first.
    theirs.attn2.register_forward_pre_hook(lambda _, args: (ours.norm2(args[0]), *args[1:]))

    x, modulation = torch.randn(2, 5, WIDTH), torch.randn(2, 6, WIDTH)
    states, mask = torch.randn(2, 4, CONTEXT), torch.arange(4) < torch.tensor([[1], [4]])
    expected = theirs(
        x,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.where(mask, 0.0, -1e9)[:, None],
        timestep=modulation.flatten(1),  # (B, 6, D) -> (B, 6D)
    )
    close(ours(x, modulation, Condition(states, mask, states[:, 0])), expected)


def test_spatial_attention_equals_the_librarys_block():
    ours = scramble(SpatialAttention(WIDTH, HEADS, CONTEXT))
    theirs = library_block(ours)
    for name in ("norm1", "norm2", "norm3"):
        getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())

    x = torch.randn(2, WIDTH, 3, 5)
    states, mask = torch.randn(2, 4, CONTEXT), torch.arange(4) < torch.tensor([[1], [4]])
    expected = theirs(
        x.flatten(2).transpose(1, 2),
        encoder_hidden_states=states,
        encoder_attention_mask=torch.where(mask, 0.0, -1e9)[:, None],
    )
    out = ours(x, Condition(states, mask, states[:, 0]))
    close(out.flatten(2).transpose(1, 2), expected)


def test_dit_makes_modulations_from_time_as_ada_layer_norm_single_does():
    ours = scramble(DiT(sample_size=2, in_channels=1, width=256, depth=1, heads=2))
    theirs = AdaLayerNormSingle(256)
    embedder = theirs.emb.timestep_embedder
    embedder.linear_1.load_state_dict(ours.time_embed[0].state_dict())
    embedder.linear_2.load_state_dict(ours.time_embed[2].state_dict())
    theirs.linear.load_state_dict(ours.modulation.state_dict())
    nn.init.zeros_(ours.pooled_embed.weight)
    nn.init.zeros_(ours.pooled_embed.bias)

    seen = []
    ours.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    states = torch.randn(5, 3, 192)
    condition = Condition(states, torch.ones(5, 3, dtype=torch.bool), states[:, 0])
    ours(torch.randn(5, 1, 2, 2), TIMES, condition)
    expected, _ = theirs(TIMES, hidden_dtype=torch.float32)
    torch.testing.assert_close(seen[0].flatten(1), expected, rtol=1e-4, atol=1e-4)


# --- properties ---------------------------------------------------------------------------------


def test_position_products_depend_on_the_offset_alone():
    embedding = position_embedding(6, 6, 32).view(6, 6, 32)
    products = embedding[:4, :4].flatten(0, 1) @ embedding[2, 1]
    shifted = embedding[2:, 1:5].flatten(0, 1) @ embedding[4, 2]
    torch.testing.assert_close(products, shifted)
    flat = embedding.flatten(0, 1)
    assert torch.pdist(flat).min() > 0.1  # no two cells look alike


def test_masked_context_is_never_read():
    attention = scramble(Attention(WIDTH, HEADS))
    x, context = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH)
    mask = torch.arange(7) < torch.tensor([[3], [1]])
    spoiled = torch.where(mask[..., None], context, 1e3 * torch.randn_like(context))
    assert torch.equal(attention(x, context, mask), attention(x, spoiled, mask))
    real = attention(x[:1], context[:1, :3])
    torch.testing.assert_close(attention(x, context, mask)[:1], real)


def test_query_scale_does_not_change_attention():
    attention = Attention(WIDTH, HEADS)
    x = torch.randn(2, 5, WIDTH)
    before = attention(x)
    with torch.no_grad():
        attention.to_q.weight *= 50
    torch.testing.assert_close(attention(x), before, rtol=1e-4, atol=1e-4)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width 24 does not split into 5 heads"):
        Attention(24, 5)
    with pytest.raises(ValueError, match="width 7 is odd"):
        timestep_embedding(TIMES, 7)
    with pytest.raises(ValueError, match="channels is 10; expected a multiple of 4"):
        position_embedding(2, 2, 10)
