"""TextStates -> Condition by learned queries: M tokens, whatever the caption's length.

The three networks here differ in who may change while the queries gather what a generator needs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ..blocks import modulate, timestep_embedding
from ..types import Condition, TextStates, TimedCondition
from .networks import Block


class TimedBlock(Block):
    """A block whose norms are moved by the time (Peebles & Xie 2023, "adaLN").

    The projection starts at zero: training begins with a block that is the same at all times.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.modulation = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Tensor, context: Tensor | None, mask: Tensor | None, time: Tensor
    ) -> Tensor:
        """As `Block.forward`, at a time embedded as (B, D)."""
        moves = self.modulation(F.silu(time)).unsqueeze(1)  # (B, 1, 4 D)
        shift1, scale1, shift2, scale2 = moves.chunk(4, dim=-1)
        x = x + self.read(modulate(self.norm1(x), shift1, scale1), context, mask)
        return x + self.ff(modulate(self.norm2(x), shift2, scale2))


class QueryNetwork(ModelMixin, ConfigMixin):
    """What the three share: a projection of the caption, M queries, blocks in which they read.

    Args:
        states_width: D_lm of the encoder.
        width: D of the condition.
        tokens: M, the number of queries.
        depth, heads: of the blocks.

    Raises:
        ValueError: if `depth` is 0: nothing would be read.
    """

    block: type[Block] = Block

    @register_to_config
    def __init__(
        self,
        states_width: int = 384,
        width: int = 192,
        tokens: int = 16,
        depth: int = 2,
        heads: int = 6,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; queries read in blocks, so give 1 or more.")
        self.norm = nn.LayerNorm(states_width)
        self.proj = nn.Linear(states_width, width)
        self.queries = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.blocks = nn.ModuleList(self.block(width, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)

    def start(self, states: TextStates) -> tuple[Tensor, Tensor, Tensor]:
        """Before the first block: the queries (B, M, D), the caption (B, L, D), its mask (B, L)."""
        batch = states.encoder_hidden_states.size(0)  # len() is a constant to ONNX's tracer
        queries = self.queries.expand(batch, -1, -1)  # (M, D) -> (B, M, D)
        caption = self.proj(self.norm(states.encoder_hidden_states))
        return queries, caption, states.encoder_attention_mask

    def end(self, queries: Tensor) -> Condition:
        """After the last block: queries (B, M, D) -> Condition with M tokens, none masked."""
        x = self.norm_out(queries)
        every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return Condition(x, every, x.mean(dim=1))


class ResamplerFusion(QueryNetwork):
    """A fixed number of learned queries that read the caption.

    Perceiver attention as in Flamingo (Alayrac et al. 2022, section 3.1.1): in each block the
    queries attend to the caption's tokens and to themselves. Arguments as for `QueryNetwork`.
    """

    def forward(self, states: TextStates) -> Condition:
        """TextStates of B captions -> Condition with M = `tokens`."""
        x, caption, mask = self.start(states)
        for block in self.blocks:
            x = block(x, caption, mask)
        return self.end(x)


class TimestepResamplerFusion(QueryNetwork):
    """A resampler that knows how far the drawing is, and may read other things early than late.

    The "timestep-aware semantic connector" of ELLA (Hu et al. 2024): the flow's time modulates the
    norms of each block. Arguments as for `QueryNetwork`; `width` is even.
    """

    block = TimedBlock

    @register_to_config
    def __init__(
        self,
        states_width: int = 384,
        width: int = 192,
        tokens: int = 16,
        depth: int = 2,
        heads: int = 6,
    ):
        super().__init__(states_width, width, tokens, depth, heads)
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, states: TextStates) -> TimedCondition:
        """TextStates of B captions -> what gives a Condition with M = `tokens` at each timestep."""
        return TimedCondition(states, self.fuse)

    def fuse(self, states: TextStates, timestep: Tensor) -> Condition:
        """B captions at `timestep`, (B,) in [0, 1000] -> Condition with M = `tokens`."""
        x, caption, mask = self.start(states)
        time = timestep_embedding(timestep, self.config.width).to(caption.dtype)
        time = self.time_embed(time)  # (B, D)
        for block in self.blocks:
            x = block(x, caption, mask, time)
        return self.end(x)


class QueryFusion(QueryNetwork):
    """Learned queries in one sequence with the caption: each block rewrites both.

    A resampler's queries read a caption that stays as it is; here its tokens read on, too.
    In the end the queries are the condition, and the caption's tokens are dropped. After BLIP-2's
    Q-Former (Li et al. 2023), where queries and text share their attention, and MetaQueries
    (Pan et al. 2025), where the sequence is the language model's own. Arguments as for
    `QueryNetwork`.
    """

    def forward(self, states: TextStates) -> Condition:
        """TextStates of B captions -> Condition with M = `tokens`."""
        queries, caption, mask = self.start(states)
        tokens = queries.shape[1]
        x = torch.cat([queries, caption], dim=1)  # (B, M + L, D)
        seen = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)
        for block in self.blocks:
            x = block(x, None, seen)
        return self.end(x[:, :tokens])
