"""DiT: a transformer over patches that predicts the flow's velocity (Peebles & Xie 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ..blocks import (
    Attention,
    Conditioning,
    FeedForward,
    check_conditioning,
    modulate,
    position_embedding,
    timestep_embedding,
)
from ..types import Condition


class DiTBlock(nn.Module):
    """Self-attention, cross-attention to the caption, perceptron; adaLN gates the first and last.

    One projection of the timestep serves all blocks and each block adds a table of its own
    (Chen et al. 2023, PixArt-alpha, "adaLN-single"). Gates and the cross-attention's output start
    at zero, so that the block starts as the identity. With `conditioning="prefix"` there is no
    cross-attention: the caption's tokens stand before the image's in the self-attention.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        condition_width: int,
        conditioning: Conditioning = "cross",
        dropout: float = 0.0,
    ):
        super().__init__()
        check_conditioning(conditioning)
        self.conditioning = conditioning
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn1 = Attention(width, heads)
        if conditioning == "prefix":
            self.prefix = nn.Linear(condition_width, width)
        else:
            self.norm2 = nn.LayerNorm(width, eps=1e-6)
            self.attn2 = Attention(width, heads, context_width=condition_width)
            nn.init.zeros_(self.attn2.to_out.weight)
            nn.init.zeros_(self.attn2.to_out.bias)
        self.norm3 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.ff = FeedForward(width)
        self.dropout = nn.Dropout(dropout)
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, modulation: Tensor, condition: Condition) -> Tensor:
        """(B, N, D) tokens -> the same shape; `modulation` is (B, 6, D)."""
        table = (modulation + self.scale_shift_table).unsqueeze(2)  # (B, 6, 1, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = table.unbind(1)
        states, mask = condition.encoder_hidden_states, condition.encoder_attention_mask
        tokens = modulate(self.norm1(x), shift1, scale1)
        if self.conditioning == "prefix":
            x = x + gate1 * self.attn1.with_prefix(tokens, self.prefix(states), mask)
        else:
            x = x + gate1 * self.attn1(tokens)
            x = x + self.attn2(self.norm2(x), states, mask)
        return x + gate2 * self.dropout(self.ff(modulate(self.norm3(x), shift2, scale2)))


class DiT(ModelMixin, ConfigMixin):
    """(x_sigma, timestep, condition) -> velocity, all tokens of the image at once.

    Args:
        sample_size: side h = w of the latent (or image) grid.
        in_channels: C of the grid; the output has as many.
        patch_size: cells on the side of one token; N = (sample_size / patch_size) ** 2.
        width, depth, heads: D, number of blocks, attention heads.
        condition_width: D of the `Condition`.
        conditioning: how the caption is read: "cross", by an attention of its own, or "prefix", as
            tokens before the image's in theirs. A GPT and an MM-DiT (Esser et al. 2024) read it so
            too, but rewrite the caption's tokens from block to block; here they stay.
        dropout: share of features set to 0 in training, after each perceptron.
    """

    _supports_gradient_checkpointing = True  # diffusers' enable_gradient_checkpointing works

    @register_to_config
    def __init__(
        self,
        sample_size: int = 8,
        in_channels: int = 8,
        patch_size: int = 1,
        width: int = 192,
        depth: int = 8,
        heads: int = 6,
        condition_width: int = 192,
        conditioning: Conditioning = "cross",
        dropout: float = 0.0,
    ):
        super().__init__()
        if sample_size % patch_size:
            raise ValueError(
                f"sample_size {sample_size} is not a multiple of patch_size {patch_size}; "
                "choose a divisor."
            )
        cells = sample_size // patch_size
        self.gradient_checkpointing = False
        self.proj_in = nn.Linear(in_channels * patch_size**2, width)
        self.register_buffer("positions", position_embedding(cells, cells, width), persistent=False)
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled_embed = nn.Linear(condition_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, condition_width, conditioning, dropout) for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.proj_out = nn.Linear(width, in_channels * patch_size**2)
        for layer in (self.modulation, self.modulation_out, self.proj_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Predict v = eps - x_0.

        Args:
            sample: (B, C, h, w), x_sigma.
            timestep: (B,), 1000 sigma.
            condition: of B captions.

        Returns:
            (B, C, h, w).

        Raises:
            ValueError: if the grid is not `sample_size` cells a side.
        """
        patch, side = self.config.patch_size, self.config.sample_size
        if sample.shape[2:] != (side, side):
            raise ValueError(
                f"sample is {tuple(sample.shape)}; this DiT knows the positions of {side} x {side} "
                "grids only. Resize the images, or build a DiT with their sample_size."
            )
        tokens = F.pixel_unshuffle(sample, patch).flatten(2).transpose(1, 2)  # (B, N, C p^2)
        x = self.proj_in(tokens) + self.positions.to(sample.dtype)  # loading leaves buffers float32
        time = timestep_embedding(timestep, self.config.width).to(sample.dtype)
        vector = F.silu(self.time_embed(time) + self.pooled_embed(condition.pooled_projections))
        modulation = self.modulation(vector).unflatten(-1, (6, -1))  # (B, 6, D)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, modulation, condition)
            else:
                x = block(x, modulation, condition)
        shift, scale = self.modulation_out(vector).unsqueeze(1).chunk(2, dim=-1)
        x = self.proj_out(modulate(self.norm_out(x), shift, scale))  # (B, N, C p^2)
        grid = x.transpose(1, 2).unflatten(-1, (side // patch, -1))
        return F.pixel_shuffle(grid, patch)  # (B, C p^2, h/p, w/p) -> (B, C, h, w)
