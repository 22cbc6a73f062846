"""Which fusion, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers.models.modeling_utils import ModelMixin

from .networks import PooledFusion, ProjectorFusion
from .resamplers import QueryFusion, ResamplerFusion, TimestepResamplerFusion

QUERIES = {
    "resampler": ResamplerFusion,
    "timestep_resampler": TimestepResamplerFusion,
    "queries": QueryFusion,
}


@dataclass(frozen=True)
class FusionConfig:
    """A fusion network by name; what a kind does not use is ignored."""

    kind: Literal["pooled", "projector", "resampler", "timestep_resampler", "queries"] = "resampler"
    width: int = 192  # D of the condition
    reach: int = 3  # projector: neighbours that a token reads on each side
    tokens: int = 16  # resamplers and queries: M, the number of learned queries
    depth: int = 2  # all but pooled: transformer blocks
    heads: int = 6  # of each of them
    standardise: bool = False  # begin with each channel of the states at variance 1
    rank: int = 0  # projector: of its first layer; 0: full
    noise: float = 0.0  # projector: on the normalised states in training, standard deviation


def build_fusion(config: FusionConfig, states_width: int) -> ModelMixin:
    """The network that `config` names, for states of width D_lm."""
    sizes = {"states_width": states_width, "width": config.width}
    blocks = {"depth": config.depth, "heads": config.heads}
    if config.kind == "pooled":
        return PooledFusion(**sizes)
    if config.kind == "projector":
        more = {"reach": config.reach, "rank": config.rank, "noise": config.noise}
        return ProjectorFusion(**sizes, **more, **blocks)
    return QUERIES[config.kind](**sizes, tokens=config.tokens, **blocks)
