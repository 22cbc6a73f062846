"""diffusers' own networks behind this package's border, to be trained and judged beside ours.

Each is the library's class, started as the library starts it; here is only the translation of a
`Condition` into the arguments that it takes. `FlowGenerator(stock_unet(...))` is a generator as any
other: same loss, same sampler, and `save_pretrained` and `from_pretrained` are diffusers'.
"""

from __future__ import annotations

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor

from ..types import Condition

HEADS = 6  # of each attention, in both
GROUPS = 8  # of the U-Net's norms


class StockUNet(UNet2DConditionModel):
    """diffusers' U-Net with cross-attention (Rombach et al. 2022), asked as our backbones are."""

    def forward(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Predict v = eps - x_0: (B, C, h, w), (B,) and a Condition -> (B, C, h, w).

        The pooled caption joins the time, as class labels do.
        """
        return super().forward(
            sample,
            timestep,
            condition.encoder_hidden_states,
            class_labels=condition.pooled_projections,
            encoder_attention_mask=condition.encoder_attention_mask,
            return_dict=False,
        )[0]


class StockTransformer(PixArtTransformer2DModel):
    """diffusers' PixArt-alpha (Chen et al. 2023), a DiT with cross-attention, asked as ours are."""

    def forward(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Predict v = eps - x_0: (B, C, h, w), (B,) and a Condition -> (B, C, h, w).

        PixArt has no place for a pooled caption, so it is read as one more token.
        """
        pooled, mask = condition.pooled_projections[:, None], condition.encoder_attention_mask
        return super().forward(
            sample,
            torch.cat([pooled, condition.encoder_hidden_states], dim=1),  # -> (B, 1 + M, D)
            timestep,
            encoder_attention_mask=torch.cat([mask.new_ones(len(mask), 1), mask], dim=1),
            return_dict=False,
        )[0]


def stock_unet(
    sample_size: int = 8,
    channels: int = 8,
    condition_width: int = 192,
    widths: tuple[int, ...] = (72, 144),
    layers: int = 1,
) -> StockUNet:
    """A U-Net for (B, channels, sample_size, sample_size) grids; a stage for each of `widths`.

    The defaults come near the parameters of the shipped backbone, whose groups of a norm and heads
    they share: `widths` are multiples of 24. Every stage reads the caption.
    """
    stages = len(widths)
    return StockUNet(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D",) * stages,
        up_block_types=("CrossAttnUpBlock2D",) * stages,
        cross_attention_dim=condition_width,
        norm_num_groups=GROUPS,
        attention_head_dim=HEADS,  # the library's name for the number of heads
        class_embed_type="projection",
        projection_class_embeddings_input_dim=condition_width,
    )


def stock_transformer(
    sample_size: int = 8,
    channels: int = 8,
    condition_width: int = 192,
    width: int = 192,
    layers: int = 9,
    patch_size: int = 1,
) -> StockTransformer:
    """A transformer over the same grids; the defaults come near the shipped backbone's parameters.

    `width` is a multiple of the six heads.
    """
    return StockTransformer(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        num_attention_heads=HEADS,
        attention_head_dim=width // HEADS,
        cross_attention_dim=width,
        caption_channels=condition_width,
        num_layers=layers,
        patch_size=patch_size,
    )
