"""TextStates -> Condition: a caption as one vector, or as its own tokens.

The fusions in `resamplers` gather it in learned queries instead. All of them first normalise the
language model's states, whose scale differs a hundredfold between models (Xie et al. 2024, SANA,
found training to diverge without), and none lets padding through.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Attention, FeedForward
from ..types import Condition, TextStates


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens: (B, L, D) with mask (B, L) -> (B, D)."""
    weight = mask.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


LEAST_SPREAD = 1e-3  # of a channel, as a share of the states' own: rounding is not to be amplified


@torch.no_grad()
def standardise(fusion: ModelMixin, states: TextStates) -> None:
    """Begin a fusion's first norm such that each channel of its output has mean 0 and variance 1.

    Two or three channels of a decoder's inner layers are hundreds of times as large as the median
    ("massive activations", Sun et al. 2024, arXiv 2402.17762). A norm over the width leaves all
    others small beside them.

    Args:
        fusion: any of this package, before training.
        states: of captions as in training; at least two real tokens.

    Raises:
        ValueError: for fewer tokens.
    """
    tokens = states.encoder_hidden_states[states.encoder_attention_mask]  # (B, L, D) -> (N, D)
    if len(tokens) < 2:
        raise ValueError(
            f"standardise was given {len(tokens)} tokens; it needs two at least, and a few hundred "
            "captions to measure each channel's spread well."
        )
    spread, mean = torch.std_mean(functional.layer_norm(tokens.float(), tokens.shape[-1:]), dim=0)
    spread = spread.clamp(min=LEAST_SPREAD)
    fusion.norm.weight.copy_(1 / spread)
    fusion.norm.bias.copy_(-mean / spread)


class Block(nn.Module):
    """One pre-norm transformer block that may read a context beside its own tokens."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> the same shape.

        Each token attends to all N, and to `context` (B, M, D) where there is one. `mask` is the
        context's, (B, M), or without one the tokens', (B, N).
        """
        x = x + self.read(self.norm1(x), context, mask)
        return x + self.ff(self.norm2(x))

    def read(self, queries: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """The attention of `forward`, for tokens that are normalised."""
        if context is None:
            return self.attn(queries, mask=mask)
        return self.attn.with_prefix(queries, context, mask)


class PooledFusion(ModelMixin, ConfigMixin):
    """The caption as one vector: the mean of its states. All a FiLM-style generator needs.

    M is 1: the vector is also the only token to attend to, so any backbone works with it.

    Args:
        states_width: D_lm of the encoder.
        width: D of the condition.
    """

    @register_to_config
    def __init__(self, states_width: int = 384, width: int = 192):
        super().__init__()
        self.norm = nn.LayerNorm(states_width)
        self.proj = nn.Sequential(
            nn.Linear(states_width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, states: TextStates) -> Condition:
        """TextStates of B captions -> Condition with M = 1."""
        mask = states.encoder_attention_mask
        pooled = self.proj(masked_mean(self.norm(states.encoder_hidden_states), mask))
        token = pooled.unsqueeze(1)  # (B, D) -> (B, 1, D)
        return Condition(token, mask.new_ones(token.shape[:2]), pooled)


class Neighbours(nn.Module):
    """Adds to each token the words around it: a convolution along the caption, channel by channel.

    Which colour is whose stands next to the shape's word, but a language model may say it softly in
    the word's own state. Here a neighbour begins as loud as the word itself. Transformers take the
    same convolution into their blocks as "Canon layers" (Allen-Zhu 2025, arXiv 2512.17351).

    Args:
        width: channels.
        reach: tokens read on each side.
    """

    def __init__(self, width: int, reach: int):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 2 * reach + 1, padding=reach, groups=width)
        nn.init.normal_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) -> the same shape; nothing is read where `mask` (B, L) is False."""
        x = x * mask.unsqueeze(-1)
        return x + self.conv(x.transpose(1, 2)).transpose(1, 2)


class ProjectorFusion(ModelMixin, ConfigMixin):
    """Every token of the caption, projected to the generator's width; M is L.

    The two-layer perceptron of LLaVA-1.5 (Liu et al. 2023). Between its layers a token may read its
    `reach` neighbours on each side, and after them `depth` blocks of self-attention may follow:
    what HunyuanVideo calls a token refiner.

    Args:
        states_width: D_lm of the encoder.
        width: D of the condition.
        reach: neighbours on each side; 0: each token by itself.
        depth, heads: of the refiner.
        rank: of the first layer's weight; 0: as large as it can be.
        noise: standard deviation of what training adds to each number of the normalised states.

    Raises:
        ValueError: if rank or noise is below 0.
    """

    @register_to_config
    def __init__(
        self,
        states_width: int = 384,
        width: int = 192,
        reach: int = 3,
        depth: int = 0,
        heads: int = 6,
        rank: int = 0,
        noise: float = 0.0,
    ):
        super().__init__()
        if min(rank, noise) < 0:
            raise ValueError(
                f"rank is {rank} and noise {noise}; neither can be below 0, which means full rank "
                "and no noise."
            )
        self.norm = nn.LayerNorm(states_width)
        self.noise = noise
        if rank:
            thin = nn.Linear(states_width, rank, bias=False), nn.Linear(rank, width)
            self.proj_in = nn.Sequential(*thin)
        else:
            self.proj_in = nn.Linear(states_width, width)
        self.neighbours = Neighbours(width, reach) if reach else None
        self.proj_out = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)

    def forward(self, states: TextStates) -> Condition:
        """TextStates of B captions -> Condition with M = L."""
        mask = states.encoder_attention_mask
        x = self.norm(states.encoder_hidden_states)
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        x = self.proj_in(x)
        if self.neighbours is not None:
            x = self.neighbours(x, mask)
        x = self.proj_out(x)
        for block in self.blocks:
            x = block(x, None, mask)
        x = self.norm_out(x) * mask.unsqueeze(-1)  # padding carries nothing, not even a norm's bias
        return Condition(x, mask, masked_mean(x, mask))
