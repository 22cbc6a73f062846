"""Which backbone, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers.models.modeling_utils import ModelMixin

from .dit import DiT
from .unet import UNet


@dataclass(frozen=True)
class BackboneConfig:
    """A flow backbone by name; what a kind does not use is ignored."""

    kind: Literal["dit", "unet"] = "dit"
    width: int = 192  # D of the transformer; channels of the U-Net's first stage
    depth: int = 8  # DiT: blocks
    heads: int = 6  # of each attention
    patch_size: int = 2  # DiT: cells on the side of one token
    multipliers: tuple[int, ...] = (1, 2, 3)  # U-Net: channels of each stage, in widths


def build_backbone(
    config: BackboneConfig, sample_size: int, channels: int, condition_width: int
) -> ModelMixin:
    """The network that `config` names, for (B, channels, sample_size, sample_size) grids."""
    sizes = {
        "sample_size": sample_size,
        "in_channels": channels,
        "condition_width": condition_width,
    }
    if config.kind == "unet":
        return UNet(**sizes, width=config.width, heads=config.heads, multipliers=config.multipliers)
    return DiT(
        **sizes,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        patch_size=config.patch_size,
    )
