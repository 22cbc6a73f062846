"""A codebook for the autoencoder's cells: a picture becomes 64 whole numbers, and back."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401 - pipelines look for it here
from torch import Tensor, nn

from .autoencoder import Autoencoder, AutoencoderConfig

ROUNDS = 20  # of Lloyd's algorithm, which the codebook begins with


@dataclass(frozen=True)
class CodebookConfig:
    """Shape of the codebook, and how its training weighs."""

    codes: int = 1024  # K
    commitment: float = 0.25  # how strongly a cell is drawn to its entry, against the reverse
    pixel_std: float = 0.05  # s of p(x | codes), in units of the pixels' range [-1, 1]


class VQAutoencoder(Autoencoder):
    """An `Autoencoder` whose every cell is replaced by the nearest of K codebook entries.

    Van den Oord et al. 2017, VQ-VAE. The codebook lives in the normalised latents, where all
    channels count alike, and begins as the k-means of an autoencoder that is trained already
    (`from_autoencoder`): no entry is dead from the start.

    Args:
        codes: K.
        others: as for `Autoencoder`.
    """

    @register_to_config
    def __init__(
        self,
        codes: int = 1024,
        patch_size: int = 4,
        channels: tuple[int, ...] = (64, 96),
        layers: int = 1,
        latent_channels: int = 8,
        norm_groups: int = 8,
        wrap: bool = False,
    ):
        super().__init__(patch_size, channels, layers, latent_channels, norm_groups, wrap)
        self.codebook = nn.Parameter(torch.randn(codes, latent_channels))

    @classmethod
    def from_autoencoder(
        cls, autoencoder: Autoencoder, codes: int, images: Tensor, generator: torch.Generator
    ) -> VQAutoencoder:
        """The same networks with a codebook found in the latents of (B, 3, H, W) images.

        Raises:
            ValueError: if the images have fewer cells than the codebook has entries.
        """
        shape = (field.name for field in fields(AutoencoderConfig))
        model = cls(codes, **{name: autoencoder.config[name] for name in shape})
        model.load_state_dict(autoencoder.state_dict(), strict=False)
        with torch.no_grad():
            cells = as_cells(autoencoder.encode(images))
            model.codebook.copy_(k_means(cells, codes, generator))
        return model

    def quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised latents (B, C, h, w) -> their nearest entries, and codes (B, h, w) int64."""
        codes = nearest(as_cells(latents), self.codebook)
        codes = codes.unflatten(0, (len(latents), *latents.shape[2:]))
        return self.entries(codes), codes

    def entries(self, codes: Tensor) -> Tensor:
        """Codebook entries of (B, h, w) codes: (B, C, h, w)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def encode_codes(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, H / f, W / f) codes in [0, K)."""
        return self.quantise(super().encode(images))[1]

    def decode_codes(self, codes: Tensor) -> Tensor:
        """(B, h, w) codes -> (B, 3, f h, f w) images in [-1, 1]."""
        return self.decode(self.entries(codes))

    def encode(self, images: Tensor) -> Tensor:
        """As `Autoencoder.encode`, each cell replaced by its entry."""
        return self.quantise(super().encode(images))[0]


class CodebookObjective(nn.Module):
    """What the codebook, encoder and decoder learn from together; van den Oord et al. 2017, eq. 3.

    Distortion MSE / (2 s^2) as in `AutoencoderObjective`, plus two pulls in the latents: entries
    towards the cells that chose them, and cells towards their entry.
    """

    def __init__(self, autoencoder: VQAutoencoder, config: CodebookConfig):
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss for `batch["image"]`, (B, 3, H, W) in [-1, 1]."""
        model, images = self.autoencoder, batch["image"]
        cells = Autoencoder.encode(model, images)
        entries, _ = model.quantise(cells)
        latents = straight_through(cells, entries) * model.latent_std[:, None, None]
        drawn = model.reconstruct(latents + model.latent_mean[:, None, None])
        distortion = F.mse_loss(drawn, images) / (2 * self.config.pixel_std**2)
        pull = F.mse_loss(entries, cells.detach())
        commit = F.mse_loss(cells, entries.detach())
        return distortion + pull + self.config.commitment * commit


def straight_through(cells: Tensor, entries: Tensor) -> Tensor:
    """`entries` forward; backward the gradient passes to `cells` as if nothing had been rounded.

    Bengio et al. 2013; both of one shape.
    """
    return cells + (entries - cells).detach()


def as_cells(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C), pictures one after the other, rows first."""
    return latents.movedim(1, -1).flatten(0, 2)


def nearest(cells: Tensor, codebook: Tensor, chunk: int = 16_384) -> Tensor:
    """Index of the entry of (K, C) nearest to each of (N, C) cells: (N,) int64."""
    # |a - b|^2 = |a|^2 - 2 a b + |b|^2, and |a|^2 does not choose.
    length = codebook.square().sum(dim=1)
    parts = [(length - 2 * part @ codebook.T).argmin(dim=1) for part in cells.split(chunk)]
    return torch.cat(parts)


def k_means(cells: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """(k, C) centres of (N, C) cells, by Lloyd's algorithm from cells chosen at random.

    A centre that no cell chooses is put on a random cell again.

    Raises:
        ValueError: if there are fewer cells than centres.
    """
    if len(cells) < k:
        raise ValueError(
            f"{len(cells)} cells cannot fill a codebook of {k} entries; give more images, or fewer "
            "codes."
        )

    def some_cells() -> Tensor:
        rows = torch.randperm(len(cells), generator=generator)[:k]
        return cells[rows.to(cells.device)]

    centres = some_cells()
    for _ in range(ROUNDS):
        chosen = nearest(cells, centres)
        number = torch.bincount(chosen, minlength=k)[:, None]
        total = torch.zeros_like(centres).index_add_(0, chosen, cells)
        centres = torch.where(number > 0, total / number.clamp(min=1), some_cells())
    return centres
