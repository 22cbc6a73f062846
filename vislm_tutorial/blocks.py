"""What backbones and fusions are built of: attention with a mask, adaLN modulation, sinusoids."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# How a backbone reads the caption: by an attention of its own, or as tokens before the image's.
Conditioning = Literal["cross", "prefix"]


def check_conditioning(conditioning: str) -> None:
    """Raise a ValueError unless it is one of the two."""
    if conditioning not in get_args(Conditioning):
        raise ValueError(f"conditioning is {conditioning!r}; expected 'cross' or 'prefix'.")


def timestep_embedding(timestep: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoids of the timestep: (B,) in [0, 1000] -> (B, width), cosines first.

    Vaswani et al. 2017, section 3.5; equal to diffusers'
    `Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)`.

    Raises:
        ValueError: if `width` is odd.
    """
    if width % 2:
        raise ValueError(
            f"width {width} is odd; sines and cosines come in pairs, so take an even one."
        )
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=timestep.device)
    frequencies = torch.exp(-math.log(max_period) * index / half)
    angles = timestep.float()[:, None] * frequencies[None, :]  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_embedding(height: int, width: int, channels: int, wrap: bool = False) -> Tensor:
    """Fixed 2-D sinusoids, (height * width, channels): half the channels for each axis, rows first.

    With `wrap` the columns lie on a circle: the last one is the first one's neighbour.

    The slowest angle is near 1/100 a cell, not 1/10,000 as in diffusers' `get_2d_sincos_pos_embed`,
    because these grids have tens of cells on a side.

    Raises:
        ValueError: if `channels` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(
            f"channels is {channels}; expected a multiple of 4: a sine and a cosine for each axis."
        )
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across = timestep_embedding(rows.flatten(), channels // 2, max_period=100.0)
    if wrap:
        turns = 1 + torch.arange(channels // 4) % max(1, width // 2)  # whole periods a round
        angles = 2 * math.pi / width * columns.flatten()[:, None] * turns
        along = torch.cat([angles.cos(), angles.sin()], dim=-1)
    else:
        along = timestep_embedding(columns.flatten(), channels // 2, max_period=100.0)
    return torch.cat([across, along], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, N, D) tokens moved by one (B, 1, D) shift and scale (Peebles & Xie 2023, "adaLN")."""
    return x * (1 + scale) + shift


class RMSNorm(nn.RMSNorm):
    """torch's own (Zhang and Sennrich 2019), under autocast too: (..., D) -> (..., D).

    Half-precision input with a float32 scale has no fused kernel, so the scale is rounded; the
    mean of squares is taken in float32 by that kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Each vector divided by its root mean square, times the scale."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Multi-head attention, self or cross, with normalised queries and keys.

    Equal to diffusers' `Attention(qk_norm="rms_norm")`; Vaswani et al. 2017, eq. 1, with the QK
    norm of Dehghani et al. 2023, which bounds the logits whatever the learning rate does.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not split into {heads} heads; choose a divisor.")
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context_width or width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.norm_q = RMSNorm(width // heads, eps=1e-6)
        self.norm_k = RMSNorm(width // heads, eps=1e-6)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) queries read (B, M, D_c) context, or each other -> (B, N, D).

        `mask` (B, M) is True where attention may look; None: everywhere.
        """
        context = x if context is None else context
        query = self._split(self.to_q(x))
        key, value = (self._split(t) for t in self.to_kv(context).chunk(2, dim=-1))
        allowed = None if mask is None else mask[:, None, None, :]  # over heads and queries
        mixed = F.scaled_dot_product_attention(
            self.norm_q(query), self.norm_k(key), value, attn_mask=allowed
        )
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # (B, heads, N, D/heads) -> (B, N, D)

    def with_prefix(self, x: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) queries read each other and, where `mask` (B, M) is True, a prefix (B, M, D).

        The prefix is read and reads nothing itself: out come the N alone, (B, N, D).
        """
        seen = torch.cat([prefix, x], dim=1)  # (B, M + N, D)
        return self(x, seen, torch.cat([mask, mask.new_ones(x.shape[:2])], dim=1))

    def _split(self, x: Tensor) -> Tensor:
        # (B, N, D) -> (B, heads, N, D/heads)
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """The transformer's perceptron of two layers: (..., D) -> (..., D).

    Equal to diffusers' `FeedForward(activation_fn="gelu-approximate")`.
    """

    def __init__(self, width: int, ratio: int = 4):
        super().__init__(
            nn.Linear(width, ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(ratio * width, width),
        )
