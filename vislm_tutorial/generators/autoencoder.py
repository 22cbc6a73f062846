"""A small autoencoder: image <-> latent grid, so that the flow sees 64 cells, not 4,096 pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, DiagonalGaussianDistribution, Encoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .wrap import wrap_around


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder. The side shrinks by `patch_size` times 2 for each stage but one."""

    patch_size: int = 4  # pixels folded into channels before the first convolution
    channels: tuple[int, ...] = (64, 96)  # width of each stage
    layers: int = 1  # residual blocks a stage
    latent_channels: int = 8  # C of the latent grid
    norm_groups: int = 8  # groups of each GroupNorm
    wrap: bool = False  # the pictures' left and right edges meet, as in a panorama


class Autoencoder(ModelMixin, ConfigMixin):
    """The encoder and decoder of diffusers' AutoencoderKL behind a pixel-unshuffle.

    Full-resolution convolutions are most of an AutoencoderKL's cost; folding 4 x 4 pixels into
    channels first removes them; with `patch_size` 1 this is AutoencoderKL without its 1 x 1
    convolutions. Latents get mean 0 and variance 1 a channel by the buffers `latent_mean` and
    `latent_std`, which `calibrate` measures.

    Args:
        patch_size, channels, layers, latent_channels, norm_groups, wrap: as in
            `AutoencoderConfig`.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        channels: tuple[int, ...] = (64, 96),
        layers: int = 1,
        latent_channels: int = 8,
        norm_groups: int = 8,
        wrap: bool = False,
    ):
        super().__init__()
        shape = {
            "block_out_channels": tuple(channels),
            "layers_per_block": layers,
            "norm_num_groups": norm_groups,
            "mid_block_add_attention": False,  # the layout is the flow's business
        }
        pixels = 3 * patch_size**2
        stages = len(channels)
        self.encoder = Encoder(
            pixels, latent_channels, ("DownEncoderBlock2D",) * stages, double_z=True, **shape
        )
        self.decoder = Decoder(latent_channels, pixels, ("UpDecoderBlock2D",) * stages, **shape)
        if wrap:
            wrap_around(self)
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @property
    def downsampling(self) -> int:
        """Pixels on the side of one latent cell: f."""
        return self.config.patch_size * 2 ** (len(self.config.channels) - 1)

    def cells(self, image_size: int) -> int:
        """Cells on the side of the latent grid of a picture with `image_size` pixels on its side.

        Raises:
            ValueError: if the picture does not divide into cells.
        """
        side, rest = divmod(image_size, self.downsampling)
        if rest:
            raise ValueError(
                f"image_size is {image_size}; expected a multiple of {self.downsampling}, the "
                "pixels on the side of one of the autoencoder's cells."
            )
        return side

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        """q(z | x) for (B, 3, H, W) images in [-1, 1]; its mode is (B, C, H / f, W / f)."""
        folded = F.pixel_unshuffle(images, self.config.patch_size)
        return DiagonalGaussianDistribution(self.encoder(folded))

    def reconstruct(self, z: Tensor) -> Tensor:
        """The mean of p(x | z): (B, C, h, w) -> (B, 3, f h, f w), unbounded."""
        return F.pixel_shuffle(self.decoder(z), self.config.patch_size)

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images: (B, 3, H, W) in [-1, 1] -> (B, C, H / f, W / f).

        After `calibrate` each channel has mean 0 and variance 1 over the training images.
        """
        z = self.posterior(images).mode()
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """The way back from `encode`: (B, C, h, w) -> (B, 3, f h, f w), clamped to [-1, 1]."""
        z = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        return self.reconstruct(z).clamp(-1, 1)

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Measure each latent channel's mean and deviation on (B, 3, H, W) images, about 1,000."""
        z = self.posterior(images).mode()
        self.latent_mean.copy_(z.mean(dim=(0, 2, 3)))
        self.latent_std.copy_(z.std(dim=(0, 2, 3)))


class AutoencoderObjective(nn.Module):
    """The negative ELBO a pixel value, up to a constant: MSE / (2 s^2) + KL / D, with D = 3HW.

    This is p(x | z) = N(decoder(z), s^2) with s fixed (Kingma & Welling 2014, eq. 10). A detail
    that changes the picture by less than s is not worth its nats: the latents stay easy to model.

    Args:
        autoencoder: the one to train.
        pixel_std: s, in units of the pixels' range [-1, 1].
    """

    def __init__(self, autoencoder: Autoencoder, pixel_std: float = 0.05):
        super().__init__()
        self.autoencoder = autoencoder
        self.pixel_std = pixel_std

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss for `batch["image"]`, (B, 3, H, W) in [-1, 1]."""
        images = batch["image"]
        posterior = self.autoencoder.posterior(images)
        drawn = self.autoencoder.reconstruct(posterior.sample(generator))
        distortion = F.mse_loss(drawn, images) / (2 * self.pixel_std**2)
        rate = posterior.kl().mean() / images[0].numel()  # nats a pixel value
        return distortion + rate
