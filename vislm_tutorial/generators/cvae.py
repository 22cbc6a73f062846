"""A conditional hierarchical VAE: what the caption leaves open is drawn stage by stage.

One caption allows many separate pictures, and one Gaussian cloud of latents cannot hold them apart.
A ladder of clouds can: first what concerns the whole picture, then a coarse grid, then finer ones,
each drawn from a prior *learned* from the caption and from all that was drawn before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..blocks import position_embedding
from ..losses import gaussian_nll
from ..types import Condition
from .autoencoder import Autoencoder
from .base import PIXEL_CHANNELS, Generator, LatentGenerator
from .noise import Generators, normal
from .unet import GROUPS, ResnetBlock, SpatialAttention

LOG_SCALE_LIMIT = 5.0  # of each log deviation, reached softly: no latent can blow training up
FIRST_STD = 0.5  # a learned std starts here, near the deviation of values; it falls as they are met
LEAST_STD = 1 / 255  # half a grey level in [-1, 1]: no picture file knows its pixels better
MOST_ATTENDING = 8  # cells on the side of the finest grid whose cells attend to each other


@dataclass(frozen=True)
class CVAEConfig:
    """Shape of the ladder, always from coarse to fine; each grid has twice the side of the last."""

    kind: Literal["cvae"] = "cvae"
    patch_size: int = 1  # values on the side of one cell of the finest grid
    widths: tuple[int, ...] = (96, 96)  # channels of each grid, a multiple of 8
    layers: tuple[int, ...] = (2, 4, 3)  # latents: of the whole picture, then on each grid
    latent_channels: tuple[int, ...] = (32, 16, 8)  # of each such latent, a cell
    heads: int = 4  # of each attention
    std: float | None = None  # of a value around its mean; None: learned
    free_nats: float = 0.0  # of each latent's rate, an image, which training does not pay for
    free_passes: tuple[int, int] = (0, 0)  # they begin to fall after the first, are 0 at the second


class Located(nn.Module):
    """Adds fixed positions, because neither convolutions nor attention know where a cell is."""

    def __init__(self, side: int, channels: int):
        super().__init__()
        positions = position_embedding(side, side, channels)  # (side side, channels)
        positions = positions.T.unflatten(1, (side, side))  # -> (channels, side, side)
        self.register_buffer("positions", positions.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return x + self.positions.to(x.dtype)  # loading leaves it float32


def _head(inputs: int, width: int, latent_channels: int) -> nn.Sequential:
    """A perceptron for each cell, (B, C, h, w) -> (B, 2 Z, h, w), whose answers are 0 at first."""
    last = nn.Conv2d(width, 2 * latent_channels, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    norm = nn.GroupNorm(1, inputs, eps=1e-6)
    return nn.Sequential(norm, nn.Conv2d(inputs, width, 1), nn.SiLU(), last)


class LatentLayer(nn.Module):
    """One rung: z given all that was drawn above it, then the state that knows z.

    Args:
        channels: C of the state and of the encoder's features.
        latent_channels: Z.
        block: what works z into the state: a `SpatialAttention`, which reads the caption's tokens,
            or a `ResnetBlock`, which knows its pooled vector.
        whole: one z for the whole picture, in the place of one a cell.
    """

    def __init__(self, channels: int, latent_channels: int, block: nn.Module, whole: bool):
        super().__init__()
        self.whole = whole
        self.prior_head = _head(channels, channels, latent_channels)
        self.posterior_head = _head(2 * channels, channels, latent_channels)
        self.project = nn.Conv2d(latent_channels, channels, 1)
        self.block = block

    def prior(self, h: Tensor) -> Normal:
        """p(z | above, caption) for the state (B, C, h, w): (B, Z, h, w), or (B, Z, 1, 1)."""
        mean, log_scale = self._moments(self.prior_head, h)
        return Normal(mean, log_scale.exp(), validate_args=False)

    def posterior(self, h: Tensor, features: Tensor, prior: Normal) -> Normal:
        """q(z | above, caption, x), told by its difference from the prior.

        With mean mu_p + s_p a and deviation s_p b the rate depends on a and b only, and is 0 at
        first (Vahdat & Kautz 2020, NVAE, "residual normal distributions").
        """
        shift, log_scale = self._moments(self.posterior_head, torch.cat([h, features], dim=1))
        mean, scale = prior.loc + prior.scale * shift, prior.scale * log_scale.exp()
        return Normal(mean, scale, validate_args=False)

    def forward(self, h: Tensor, z: Tensor, pooled: Tensor, condition: Condition) -> Tensor:
        """The next state, (B, C, h, w); a z of the whole picture tells each cell the same."""
        h = h + self.project(z)
        reads = isinstance(self.block, SpatialAttention)
        return self.block(h, condition if reads else pooled)

    def _moments(self, head: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        moments = head(x)
        if self.whole:  # each cell gives its opinion: (B, 2 Z, h, w) -> (B, 2 Z, 1, 1)
            moments = moments.mean(dim=(2, 3), keepdim=True)
        mean, log_scale = moments.chunk(2, dim=1)
        return mean, LOG_SCALE_LIMIT * torch.tanh(log_scale / LOG_SCALE_LIMIT)


# ConfigMixin comes last: its __getattr__ asks no one else.
class CVAE(Generator, ModelMixin, ConfigMixin):
    """p(x | caption) = E p(x | z, caption), with z = z_1 ... z_L drawn from coarse to fine.

    Training maximises the ELBO (Kingma & Welling 2014, eq. 3; with a condition and a learned prior
    Sohn et al. 2015). The encoder reads the picture from fine to coarse; the decoder goes back down
    the ladder, and each rung's posterior sees the decoder's state beside the encoder's features of
    the same grid (Child 2021, VDVAE). Sampling goes the same way with the priors.

    p(x | z) = N(mean(z), std^2). With a fixed `std` the distortion is MSE / (2 std^2) plus a
    constant; learned, std is the error that remains (Rybkin et al. 2021, sigma-VAE). There is no
    factor beta on the rate: with a fixed std it would say the same as another std.

    Args:
        sample_size: side H = W of the pictures, pixels or an autoencoder's latents; a multiple of
            `patch_size` times 2 for each grid but one.
        in_channels: 3 for pixels, which are drawn within [-1, 1].
        condition_width: D of the `Condition`.
        patch_size, widths, layers, latent_channels, heads, std: as in `CVAEConfig`.
        free_nats, free_passes: as in `CVAEConfig`; passes are those forward in training.

    Raises:
        ValueError: if the sizes do not fit together; the message says which.
    """

    settings: ClassVar[dict[str, float]] = {"temperature": 1.0}

    @register_to_config
    def __init__(
        self,
        sample_size: int = 8,
        in_channels: int = 8,
        condition_width: int = 192,
        patch_size: int = 1,
        widths: tuple[int, ...] = (96, 96),
        layers: tuple[int, ...] = (2, 4, 3),
        latent_channels: tuple[int, ...] = (32, 16, 8),
        heads: int = 4,
        std: float | None = None,
        free_nats: float = 0.0,
        free_passes: tuple[int, int] = (0, 0),
    ):
        super().__init__()
        sides = _sides(sample_size, patch_size, widths, layers, latent_channels, std)
        _check_free(free_nats, free_passes)
        cell, top = in_channels * patch_size**2, widths[0]
        steps = list(pairwise(widths))  # (coarse, fine), one a doubling

        def layer(index: int) -> LatentLayer:
            level = max(index - 1, 0)
            width = widths[level]
            if sides[level] <= MOST_ATTENDING:  # cells are few enough
                block = SpatialAttention(width, heads, condition_width)
            else:
                block = ResnetBlock(width, width, top)
            return LatentLayer(width, latent_channels[index], block, whole=index == 0)

        self.pooled_embed = nn.Linear(condition_width, top)
        self.located = nn.ModuleList(Located(*shape) for shape in zip(sides, widths, strict=True))
        # Fine to coarse: features of each grid. shrink[i] leads from the grid of encoder[i + 1].
        self.conv_in = nn.Conv2d(cell, widths[-1], 3, padding=1)
        self.encoder = nn.ModuleList(ResnetBlock(width, width, top) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(b, a, 3, stride=2, padding=1) for a, b in steps)
        # Coarse to fine: latents of the whole picture, then of each grid, which open[i] opens.
        self.ladder = nn.ModuleList(
            nn.ModuleList(layer(index) for _ in range(n)) for index, n in enumerate(layers)
        )
        self.open = nn.ModuleList(ResnetBlock(a, b, top) for a, b in steps)
        self.norm_out = nn.GroupNorm(GROUPS, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], cell, 3, padding=1)
        self.log_std = nn.Parameter(torch.tensor(math.log(FIRST_STD))) if std is None else None
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))  # forward, in training

    def behind(self, autoencoder: Autoencoder | None) -> Generator:
        """The same ladder, drawing through an autoencoder that stays frozen."""
        return self if autoencoder is None else LatentGenerator(self, autoencoder)

    @property
    def latent_sides(self) -> list[int]:
        """Cells on the side of each layer's z, coarse to fine: 1 for the whole picture."""
        sides = [1, *(located.positions.shape[1] for located in self.located)]
        return [side for side, layers in zip(sides, self.ladder, strict=True) for _ in layers]

    @property
    def std(self) -> Tensor | float:
        """The deviation of p(x | z), in units of the values: pixels lie in [-1, 1]."""
        return self.config.std if self.log_std is None else self.log_std.exp() + LEAST_STD

    def encode(self, images: Tensor, condition: Condition) -> list[Tensor]:
        """What the posteriors see of pictures (B, Z, H, W): (B, C, h, w) a grid, coarse to fine.

        Raises:
            ValueError: if they do not have `in_channels`, or are not `sample_size` a side.
        """
        side, channels = self.config.sample_size, self.config.in_channels
        if images.shape[1:] != (channels, side, side):
            raise ValueError(
                f"images are {tuple(images.shape)}; this CVAE knows (B, {channels}, {side}, "
                f"{side}) only. Resize the images, or build another CVAE with sample_size=."
            )
        pooled = self.pooled_embed(condition.pooled_projections)
        x = self.conv_in(F.pixel_unshuffle(images, self.config.patch_size))
        x = self.located[-1](x)
        features: list[Tensor] = []
        for level in reversed(range(len(self.encoder))):
            x = self.encoder[level](x, pooled)
            features.insert(0, x)
            if level:
                x = self.shrink[level - 1](x)
        return features

    def decode(
        self,
        condition: Condition,
        draw: Callable[[Normal], Tensor],
        features: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Down the ladder, from the caption to the mean of p(x | z).

        Args:
            condition: of B captions.
            draw: chooses a layer's z, given its distribution; called once a layer, coarse to fine.
            features: of `encode`; with them `draw` gets each layer's posterior, else its prior.

        Returns:
            The mean, (B, Z, H, W), unbounded; and for each layer KL(q || p) in nats an image,
            (B,), or nothing without `features`.
        """
        pooled = self.pooled_embed(condition.pooled_projections)  # (B, C)
        h = self.located[0](pooled[:, :, None, None])  # (B, C, 1, 1) -> (B, C, h, w)
        rates: list[Tensor] = []
        for index, layers in enumerate(self.ladder):
            level = max(index - 1, 0)  # the whole picture is drawn on the coarsest grid
            if index > 1:
                h = self.open[level - 1](F.interpolate(h, scale_factor=2), pooled)
                h = self.located[level](h)
            for layer in layers:
                distribution = prior = layer.prior(h)
                if features is not None:
                    distribution = layer.posterior(h, features[level], prior)
                    rates.append(kl_divergence(distribution, prior).flatten(1).sum(dim=1))
                h = layer(h, draw(distribution), pooled, condition)
        x = self.conv_out(F.silu(self.norm_out(h)))
        return F.pixel_shuffle(x, self.config.patch_size), rates

    def elbo_parts(
        self, x: Tensor, condition: Condition, generator: Generators = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-ELBO of pictures (B, Z, H, W) in its parts, all in nats a value.

        Args:
            x, condition: B pictures and their captions.
            generator: of the posteriors' noise, one draw a layer.

        Returns:
            The distortion -log p(x | z) and the rate KL(q || p), scalars; and the rate of each
            layer, (L,), coarse to fine, which sum to it. Means over the batch.
        """
        mean, rates = self.decode(condition, _drawing(generator), self.encode(x, condition))
        layer_rates = torch.stack(rates).mean(dim=1) / x[0].numel()
        return gaussian_nll(mean, x, self.std), layer_rates.sum(), layer_rates

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """-ELBO in nats a value for pictures (B, Z, H, W); a scalar.

        In training no layer's rate counts for less than `free_nats_now` ("free bits", Kingma et
        al. 2016, IAF, appendix C.8): a rung that says less gains nothing by falling silent.
        """
        distortion, rate, layer_rates = self.elbo_parts(x, condition, generator)
        if self.training:
            rate = layer_rates.maximum(self.free_nats_now / x[0].numel()).sum()
            self.passes += 1
        return distortion + rate

    @property
    def free_nats_now(self) -> Tensor:
        """What each layer may say for nothing after the passes that were made, in nats an image.

        It falls to 0, because a prior has nothing to learn from a rate that is free.
        """
        first, last = self.config.free_passes
        return self.config.free_nats * ((last - self.passes) / max(1, last - first)).clamp(0, 1)

    @torch.no_grad()
    def sample(
        self, condition: Condition, *, generator: Generators = None, temperature: float = 1.0
    ) -> Tensor:
        """The mean of p(x | z) with z drawn from the priors: (B, Z, H, W).

        Args:
            condition: of B captions.
            generator: of all noise, one draw a layer; with a list of B, one an image, an image
                does not depend on which others are drawn beside it.
            temperature: the priors' deviations are multiplied by it; 0 draws their means.
        """
        return self._bounded(self.decode(condition, _drawing(generator, temperature))[0])

    @torch.no_grad()
    def reconstruct(self, images: Tensor, condition: Condition) -> Tensor:
        """Pictures (B, Z, H, W) by way of their posteriors' means: the same shape."""
        draw = _drawing(temperature=0.0)
        return self._bounded(self.decode(condition, draw, self.encode(images, condition))[0])

    def _bounded(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1) if self.config.in_channels == PIXEL_CHANNELS else x


def _drawing(generator: Generators = None, temperature: float = 1.0) -> Callable[[Normal], Tensor]:
    """Draws z = mean + temperature * deviation * noise, so that gradients reach both."""

    def draw(distribution: Normal) -> Tensor:
        mean = distribution.loc
        if temperature == 0:
            return mean
        return mean + temperature * distribution.scale * normal(mean.shape, generator, mean)

    return draw


def _check_free(free_nats: float, free_passes: tuple[int, int]) -> None:
    """A ValueError unless free nats have passes in which they are free, and only they have."""
    if not free_nats >= 0:
        raise ValueError(f"free_nats is {free_nats}; expected 0 or more.")
    first, last = free_passes
    if not (0 <= first < last if free_nats else first == last == 0):
        raise ValueError(
            f"free_nats is {free_nats} and free_passes {tuple(free_passes)}; expected two growing "
            "numbers of passes with free nats, and (0, 0) without."
        )


def _sides(sample_size, patch_size, widths, layers, latent_channels, std) -> list[int]:
    """Cells on the side of each grid, coarse to fine; a ValueError if sizes do not fit."""
    grids = len(widths)
    unit = patch_size * 2 ** (grids - 1)
    each = f"{grids + 1} numbers: for the whole picture, then for each of the {grids} grids"
    for name, value, fits, expected in (
        ("sample_size", sample_size, sample_size % unit == 0, f"a multiple of {unit}: cells of "
         f"{patch_size} pixels, and {grids} grids, each of half the side of the next"),
        ("widths", widths, not any(w % GROUPS for w in widths), f"multiples of {GROUPS}, their "
         "norms' groups"),
        ("layers", layers, len(layers) == grids + 1 and sum(layers) > 0, f"{each}, not all 0"),
        ("latent_channels", latent_channels, len(latent_channels) == grids + 1, each),
        ("std", std, std is None or std > 0, "a number above 0, or None: it is learned"),
    ):  # fmt: skip
        if not fits:
            raise ValueError(f"{name} is {value}; expected {expected}.")
    return [sample_size // unit * 2**level for level in range(grids)]
