"""A U-Net that predicts the flow's velocity: convolutions; coarse stages read the caption."""

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
    position_embedding,
    timestep_embedding,
)
from ..types import Condition
from .wrap import wrap_around

GROUPS = 8  # of each GroupNorm


class ResnetBlock(nn.Module):
    """Two convolutions with the time added between them; equal to diffusers' ResnetBlock2D."""

    def __init__(self, in_channels: int, out_channels: int, time_width: int, dropout: float = 0.0):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, out_channels)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C_in, h, w) with time (B, D) -> (B, C_out, h, w)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return self.conv_shortcut(x) + hidden


class SpatialAttention(nn.Module):
    """Cells attend to each other, then to the caption; a perceptron mixes what each cell has read.

    A transformer's block between convolutions; equal to diffusers' `BasicTransformerBlock` but for
    the normalised queries and keys. With `conditioning="prefix"` one attention does both: the
    caption's tokens stand before the cells.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        condition_width: int,
        conditioning: Conditioning = "cross",
        dropout: float = 0.0,
    ):
        super().__init__()
        check_conditioning(conditioning)
        self.conditioning = conditioning
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads)
        if conditioning == "prefix":
            self.prefix = nn.Linear(condition_width, channels)
        else:
            self.norm2 = nn.LayerNorm(channels)
            self.attn2 = Attention(channels, heads, context_width=condition_width)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """(B, C, h, w) -> the same."""
        states, mask = condition.encoder_hidden_states, condition.encoder_attention_mask
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, hw, C)
        cells = self.norm1(tokens)
        if self.conditioning == "prefix":
            tokens = tokens + self.attn1.with_prefix(cells, self.prefix(states), mask)
        else:
            tokens = tokens + self.attn1(cells)
            tokens = tokens + self.attn2(self.norm2(tokens), states, mask)
        tokens = tokens + self.dropout(self.ff(self.norm3(tokens)))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Stage(nn.Module):
    """A residual block and, where cells are few enough, attention."""

    def __init__(
        self, in_channels, out_channels, time_width, attention: SpatialAttention | None, dropout=0.0
    ):
        super().__init__()
        self.resnet = ResnetBlock(in_channels, out_channels, time_width, dropout)
        self.attention = attention

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h, w)."""
        x = self.resnet(x, time)
        return x if self.attention is None else self.attention(x, condition)


class UNet(ModelMixin, ConfigMixin):
    """(x_sigma, timestep, condition) -> velocity, fine to coarse and back, with skips.

    The shape is Ronneberger et al. 2015's; each residual block adds the time (Ho et al. 2020), and
    cross-attention reads the caption (Rombach et al. 2022). Convolutions and attention do not know
    where in the picture they are, so fixed positions are added to the first feature map.

    Args:
        sample_size: height h of the grid; a multiple of 2 ** (number of stages - 1).
        in_channels: C of the grid; the output has as many.
        width: channels of the first stage; a multiple of 8, the norms' groups.
        multipliers: channels of each stage, in units of `width`.
        heads: of each attention; attention is used from `attention_size` cells a side downwards.
        condition_width: D of the `Condition`.
        conditioning: how the caption is read: "cross", by an attention of its own, or "prefix", as
            tokens before the cells in theirs.
        dropout: share of features set to 0 in training, inside each residual block and after each
            perceptron.
        aspect: width of the grid in heights, w / h.
        wrap: the grid's left and right edges meet, as in a panorama.
    """

    _supports_gradient_checkpointing = True  # diffusers' enable_gradient_checkpointing works

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        width: int = 48,
        multipliers: tuple[int, ...] = (1, 2, 3),
        heads: int = 4,
        attention_size: int = 16,
        condition_width: int = 192,
        conditioning: Conditioning = "cross",
        dropout: float = 0.0,
        aspect: int = 1,
        wrap: bool = False,
    ):
        super().__init__()
        if width % GROUPS:
            raise ValueError(
                f"width is {width}; expected a multiple of {GROUPS}, its norms' groups."
            )
        halvings = len(multipliers) - 1
        if sample_size % 2**halvings:
            raise ValueError(
                f"sample_size is {sample_size}; expected a multiple of {2**halvings}, "
                f"because {len(multipliers)} stages halve it {halvings} times."
            )
        self.gradient_checkpointing = False
        channels = [width * m for m in multipliers]
        time_width = 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        self.pooled_embed = nn.Linear(condition_width, time_width)
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        grid = (sample_size, aspect * sample_size)
        positions = position_embedding(*grid, width, wrap)  # (h w, width)
        positions = positions.T.unflatten(1, grid)  # -> (width, h, w)
        self.register_buffer("positions", positions.contiguous(), persistent=False)

        def stage(inputs: int, outputs: int, level: int) -> Stage:
            few = sample_size // 2**level <= attention_size
            reader = (outputs, heads, condition_width, conditioning, dropout)
            attention = SpatialAttention(*reader) if few else None
            return Stage(inputs, outputs, time_width, attention, dropout)

        last = len(channels) - 1
        previous = [width, *channels[:-1]]
        self.down = nn.ModuleList(stage(previous[i], channels[i], i) for i in range(last + 1))
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = stage(channels[-1], channels[-1], last)
        self.up = nn.ModuleList(
            stage(channels[min(i + 1, last)] + channels[i], channels[i], i)
            for i in range(last, -1, -1)
        )
        self.norm_out = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, in_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        if wrap:
            wrap_around(self)

    def forward(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """As `DiT.forward`: (B, C, h, w), (B,) and a Condition -> (B, C, h, w).

        Raises:
            ValueError: if the grid is not of the height and width that this network was built for.
        """
        height, width = self.positions.shape[1:]
        if sample.shape[2:] != (height, width):
            raise ValueError(
                f"sample is {tuple(sample.shape)}; this UNet knows positions of "
                f"{height} x {width} grids only. Resize the images, or build another UNet."
            )
        time = timestep_embedding(timestep, self.config.width).to(sample.dtype)
        time = self.time_embed(time) + self.pooled_embed(condition.pooled_projections)
        x = self.conv_in(sample) + self.positions.to(sample.dtype)  # loading leaves it float32
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            x = self._run(stage, x, time, condition)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self._run(self.middle, x, time, condition)
        for number, stage in enumerate(self.up):
            if number:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self._run(stage, torch.cat([x, skips.pop()], dim=1), time, condition)
        return self.conv_out(F.silu(self.norm_out(x)))

    def _run(self, stage: Stage, *inputs) -> Tensor:
        """A stage, which with checkpointing forgets what is inside and computes it again."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(stage, *inputs)
        return stage(*inputs)
