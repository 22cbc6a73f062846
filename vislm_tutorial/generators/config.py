"""Which family, and how large: from a recipe's `generator` section to the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from diffusers.models.modeling_utils import ModelMixin

from ..blocks import Conditioning
from .autoencoder import Autoencoder
from .base import PIXEL_CHANNELS, Generator
from .cgan import CGAN, CGANConfig
from .cvae import CVAE, CVAEConfig
from .dit import DiT
from .flow import FlowGenerator
from .image_gpt import CodeGenerator, ImageGPT, ImageGPTConfig
from .pixelcnn import PixelCNN, PixelCNNConfig
from .unet import UNet
from .vq import VQAutoencoder


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching with a backbone by name; what a backbone does not use is ignored."""

    kind: Literal["flow"] = "flow"
    backbone: Literal["dit", "unet"] = "dit"
    width: int = 192  # D of the transformer; channels of the U-Net's first stage
    depth: int = 8  # DiT: blocks
    heads: int = 6  # of each attention
    patch_size: int = 2  # DiT: cells on the side of one token
    multipliers: tuple[int, ...] = (1, 2, 3)  # U-Net: channels of each stage, in widths
    conditioning: Conditioning = "cross"  # an attention to the caption, or its tokens as a prefix
    dropout: float = 0.0  # share of features set to 0 in training, in each block
    aspect: int = 1  # U-Net: width of the pictures in heights
    wrap: bool = False  # U-Net: the pictures' left and right edges meet

    def __post_init__(self) -> None:
        if self.backbone != "unet" and (self.aspect != 1 or self.wrap):
            raise ValueError(
                f"FlowConfig.aspect={self.aspect!r}, wrap={self.wrap!r} with the backbone "
                f"{self.backbone!r}; only unet draws wide pictures, or such that wrap around."
            )
        if self.aspect < 1:
            raise ValueError(f"FlowConfig.aspect={self.aspect!r}; expected 1 or more.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"FlowConfig.dropout={self.dropout!r}; expected in [0, 1).")


GeneratorConfig = FlowConfig | ImageGPTConfig | CVAEConfig | CGANConfig | PixelCNNConfig


def build_generator(
    config: GeneratorConfig,
    image_size: int,
    autoencoder: Autoencoder | None,
    condition_width: int,
) -> Generator:
    """The generator that `config` names, with fresh weights, to be trained.

    Args:
        image_size: side of the pictures in pixels.
        autoencoder: what it will draw behind (`Generator.behind`), here only for its shape; None:
            it draws pixels.
        condition_width: D of the condition.

    Raises:
        ValueError: if the pictures do not divide into cells, or the family asks for another kind of
            autoencoder.
    """
    shape = asdict(config)
    kind = shape.pop("kind")
    if isinstance(config, PixelCNNConfig):
        if autoencoder is not None:
            raise ValueError(f"a {kind} draws pixels; set `autoencoder: null` in the recipe.")
        return PixelCNN(sample_size=image_size, condition_width=condition_width, **shape)
    side = image_size if autoencoder is None else autoencoder.cells(image_size)
    if isinstance(config, ImageGPTConfig):
        if not isinstance(autoencoder, VQAutoencoder):
            raise ValueError(
                "image_gpt writes codes, so it needs an autoencoder with a codebook; add a "
                "`codebook:` section to the recipe."
            )
        codes = autoencoder.config.codes
        return CodeGenerator(
            ImageGPT(codes=codes, grid_size=side, condition_width=condition_width, **shape)
        )
    channels = PIXEL_CHANNELS if autoencoder is None else autoencoder.config.latent_channels
    if isinstance(config, CVAEConfig | CGANConfig):
        family = CVAE if isinstance(config, CVAEConfig) else CGAN
        if autoencoder is not None and channels == PIXEL_CHANNELS:
            raise ValueError(
                f"the autoencoder has {channels} latent channels, which {kind} takes for pixels; "
                "train one with another number of `latent_channels`."
            )
        sizes = {"sample_size": side, "in_channels": channels, "condition_width": condition_width}
        return family(**sizes, **shape)
    return FlowGenerator(build_backbone(config, side, channels, condition_width))


def as_generator(network: ModelMixin, autoencoder: Autoencoder | None) -> Generator:
    """The generator that a saved network belongs to (`Generator.network`), ready to draw."""
    if isinstance(network, Generator):
        return network.behind(autoencoder)
    if isinstance(network, ImageGPT):
        return CodeGenerator(network, autoencoder)
    return FlowGenerator(network, autoencoder)


def build_backbone(
    config: FlowConfig, sample_size: int, channels: int, condition_width: int
) -> ModelMixin:
    """The flow's network that `config` names, for (B, channels, sample_size, sample_size) grids."""
    sizes = {
        "sample_size": sample_size,
        "in_channels": channels,
        "condition_width": condition_width,
        "conditioning": config.conditioning,
        "dropout": config.dropout,
    }
    if config.backbone == "unet":
        return UNet(
            **sizes,
            width=config.width,
            heads=config.heads,
            multipliers=config.multipliers,
            aspect=config.aspect,
            wrap=config.wrap,
        )
    return DiT(
        **sizes,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        patch_size=config.patch_size,
    )
