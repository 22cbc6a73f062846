"""A conditional GAN: one network draws pictures, another says whether they are real and fitting."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, FrozenDict, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.func import functional_call

from ..losses import discriminator_hinge, generator_hinge, r1_penalty
from ..types import Condition
from .autoencoder import Autoencoder
from .base import PIXEL_CHANNELS, Generator, LatentGenerator
from .noise import Generators, normal
from .unet import GROUPS

COARSEST = 4  # cells on the side of the grid that drawing starts from
SLOPE = 0.2  # of the leaky ReLUs


@dataclass(frozen=True)
class CGANConfig:
    """Shape of both players, from the coarsest grid to the finest."""

    kind: Literal["cgan"] = "cgan"
    patch_size: int = 1  # values on the side of one cell of the finest grid
    widths: tuple[int, ...] = (96, 96)  # channels of each grid, a multiple of 8
    depth: int = 2  # blocks on each grid but the coarsest
    latent_width: int = 64  # of z
    r1_weight: float = 1.0  # gamma: pulls the discriminator flat around real pictures
    batch_std: bool = True  # the discriminator sees how much a batch's pictures differ


class DrawingBlock(nn.Module):
    """A residual block, often onto a grid twice as fine, which z and the caption scale and shift.

    The norms are an image's own (`GroupNorm`): with batch norm a picture would depend on those
    drawn beside it.
    """

    def __init__(self, in_channels: int, out_channels: int, code_width: int, grows: bool):
        super().__init__()
        self.grows = grows
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, affine=False)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, affine=False)
        self.modulation1 = nn.Linear(code_width, 2 * in_channels)
        self.modulation2 = nn.Linear(code_width, 2 * out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(B, C_in, h, w) with code (B, V) -> (B, C_out, h, w), or (B, C_out, 2h, 2w)."""
        hidden = F.relu(_modulated(self.norm1(x), self.modulation1(code)))
        # A 1 x 1 convolution and a nearest upsampling commute: on the coarse grid it costs less.
        shortcut = self.shortcut(x)
        if self.grows:
            hidden, shortcut = (F.interpolate(y, scale_factor=2) for y in (hidden, shortcut))
        hidden = F.relu(_modulated(self.norm2(self.conv1(hidden)), self.modulation2(code)))
        return shortcut + self.conv2(hidden)


def _modulated(x: Tensor, scale_and_shift: Tensor) -> Tensor:
    scale, shift = scale_and_shift[:, :, None, None].chunk(2, dim=1)
    return x * (1 + scale) + shift


class JudgingBlock(nn.Module):
    """A residual block, often onto a grid half as fine; no norm: R1 needs the images' own slope."""

    def __init__(self, in_channels: int, out_channels: int, shrinks: bool):
        super().__init__()
        self.shrinks = shrinks
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h, w), or (B, C_out, h/2, w/2)."""
        hidden = self.conv1(F.leaky_relu(x, SLOPE))
        if self.shrinks:
            hidden, x = F.avg_pool2d(hidden, 2), F.avg_pool2d(x, 2)
        return self.shortcut(x) + self.conv2(F.leaky_relu(hidden, SLOPE))


class Drawer(nn.Module):
    """z and the caption -> picture: DCGAN's way up from a 4 x 4 grid (Radford et al. 2016)."""

    def __init__(self, config: FrozenDict):
        super().__init__()
        widths, code_width = config.widths, config.latent_width + config.condition_width
        self.first = nn.Linear(code_width, widths[0] * COARSEST**2)
        self.blocks = nn.ModuleList(
            DrawingBlock(b if i else a, b, code_width, grows=i == 0)
            for a, b in pairwise(widths)
            for i in range(config.depth)
        )
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.patch_size = config.patch_size
        self.last = nn.Conv2d(widths[-1], config.in_channels * self.patch_size**2, 3, padding=1)
        self.bounded = config.in_channels == PIXEL_CHANNELS

    def forward(self, z: Tensor, pooled: Tensor) -> Tensor:
        """z (B, Z) and the pooled vector (B, D) -> (B, C, S, S); pixels in (-1, 1)."""
        code = torch.cat([z, pooled], dim=1)
        x = self.first(code).unflatten(1, (-1, COARSEST, COARSEST))  # -> (B, C, 4, 4)
        for block in self.blocks:
            x = block(x, code)
        drawn = F.pixel_shuffle(self.last(F.relu(self.norm(x))), self.patch_size)
        return drawn.tanh() if self.bounded else drawn


class Discriminator(nn.Module):
    """Picture and caption -> score = a . h + b + <h, V pooled> (Miyato & Koyama 2018, figure 1d).

    The first part says whether the picture is real, the product whether it is the caption's. h is
    read off a 4 x 4 grid and not off its mean, because captions say places.

    With `batch_std` one more channel says how much the pictures beside it differ (Karras et al.
    2018, "minibatch standard deviation"): drawn ones that are all alike give themselves away.
    """

    def __init__(self, config: FrozenDict):
        super().__init__()
        self.batch_std, self.patch_size = config.batch_std, config.patch_size
        fine_first, width = config.widths[::-1], config.condition_width
        self.first = nn.Conv2d(config.in_channels * self.patch_size**2, fine_first[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            JudgingBlock(a, b if last else a, shrinks=last)
            for a, b in pairwise(fine_first)
            for last in [False] * (config.depth - 1) + [True]
        )
        self.to_features = nn.Linear((fine_first[-1] + self.batch_std) * COARSEST**2, width)
        self.realism = nn.Linear(width, 1)
        self.question = nn.Linear(width, width, bias=False)  # V

    def features(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> h (B, D), without a caption: several can be tried on them."""
        x = self.first(F.pixel_unshuffle(images, self.patch_size))
        for block in self.blocks:
            x = block(x)
        if self.batch_std:
            spread = (x.var(dim=0, correction=0) + 1e-8).sqrt().mean()
            x = torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)
        return F.leaky_relu(self.to_features(F.leaky_relu(x, SLOPE).flatten(1)), SLOPE)

    def scores(self, h: Tensor, pooled: Tensor) -> Tensor:
        """(B,), from h (B, D) and pooled (B, D)."""
        fit = (h * self.question(pooled)).sum(dim=1) / h.shape[1] ** 0.5
        return self.realism(h)[:, 0] + fit

    def forward(self, images: Tensor, pooled: Tensor) -> Tensor:
        """(B, C, S, S) and pooled (B, D) -> scores (B,)."""
        return self.scores(self.features(images), pooled)


class CGAN(Generator, ModelMixin, ConfigMixin):  # last: its __getattr__ asks no one else
    """Two players under one loss: each term trains one of them and takes the other as it stands.

    The discriminator learns by the hinge loss (Lim & Ye 2017), R1 (Mescheder et al. 2018, eq. 9)
    and mismatched captions: a real picture with another's caption is as wrong as a drawn one
    (Reed et al. 2016, GAN-CLS). Both players are updated at once, from the same weights. The sum of
    their losses says nothing about quality; and AdamW's beta_1 should be small (0 to 0.5), because
    a momentum chases where the other player no longer is.

    Only the caption's pooled vector is read.

    Args:
        sample_size: side S of the pictures, pixels or an autoencoder's latents: 4 x patch_size x 2
            for each width but one.
        in_channels: C; 3 for pixels, which are drawn within [-1, 1].
        condition_width: D of the `Condition`.
        patch_size, widths, depth, latent_width, r1_weight, batch_std: as in `CGANConfig`.

    Raises:
        ValueError: if the sizes do not fit together.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 8,
        in_channels: int = 8,
        condition_width: int = 192,
        patch_size: int = 1,
        widths: tuple[int, ...] = (96, 96),
        depth: int = 2,
        latent_width: int = 64,
        r1_weight: float = 1.0,
        batch_std: bool = True,
    ):
        super().__init__()
        side = COARSEST * patch_size * 2 ** (len(widths) - 1)
        if sample_size != side:
            raise ValueError(
                f"sample_size is {sample_size}; expected {side}: {len(widths)} widths double "
                f"{COARSEST} cells {len(widths) - 1} times, and patch_size is {patch_size}. "
                "Change widths or patch_size."
            )
        if any(width % GROUPS for width in widths):
            raise ValueError(
                f"widths are {tuple(widths)}; expected multiples of {GROUPS}, the norms' groups."
            )
        if depth < 1:
            raise ValueError(f"depth is {depth}; expected 1 block or more on each grid.")
        self.drawer = Drawer(self.config)
        self.discriminator = Discriminator(self.config)

    def behind(self, autoencoder: Autoencoder | None) -> Generator:
        """The same players, drawing through an autoencoder that stays frozen."""
        return self if autoencoder is None else LatentGenerator(self, autoencoder)

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures (B, C, S, S), as they are.

        Raises:
            ValueError: if they have another shape.
        """
        side, channels = self.config.sample_size, self.config.in_channels
        if images.ndim != 4 or images.shape[1:] != (channels, side, side):
            raise ValueError(
                f"images are {tuple(images.shape)}; this CGAN was built for (B, {channels}, {side},"
                f" {side}). Resize them, or build another with sample_size=."
            )
        return images

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """The discriminator's loss plus the generator's, for images (B, C, S, S); a scalar.

        The condition's gradient comes from the picture drawn for it and from nothing else: were the
        discriminator's reading of it trained too, the fusion would learn to ask for less.

        Args:
            generator: of z.

        Raises:
            ValueError: for fewer than two images: captions are exchanged between them.
        """
        drawn = self.draw(condition, generator)
        asked = condition.pooled_projections.detach()
        return self.discriminator_loss(x, drawn, asked) + self.generator_loss(drawn, asked)

    def discriminator_loss(self, real: Tensor, drawn: Tensor, pooled: Tensor) -> Tensor:
        """Hinge of real, drawn and mismatched pairs, and R1; trains the discriminator alone.

        Args:
            real, drawn: (B, C, S, S) in [-1, 1], B at least 2.
            pooled: (B, D), without gradient. A real picture's wrong caption is the one before it in
                the batch, which now and then says the same.
        """
        if len(real) < 2:
            raise ValueError(
                f"the batch has {len(real)} image; a GAN needs at least 2, because a real picture "
                "is also shown with another's caption. Raise batch_size."
            )
        judge = self.discriminator
        real = real.detach().requires_grad_()  # R1 asks for the slope in the pixels
        h = judge.features(real)
        right, wrong = judge.scores(h, pooled), judge.scores(h, pooled.roll(1, dims=0))
        fooled = judge(drawn.detach(), pooled)
        loss = discriminator_hinge(right, torch.cat([fooled, wrong]))  # each counts a half
        if self.config.r1_weight:
            loss = loss + self.config.r1_weight * r1_penalty(right, real)
        return loss

    def generator_loss(self, drawn: Tensor, pooled: Tensor) -> Tensor:
        """-E D(drawn), for the discriminator as it stands; trains whatever drew."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return generator_hinge(functional_call(self.discriminator, frozen, (drawn, pooled)))

    def discriminate(self, images: Tensor, condition: Condition) -> Tensor:
        """Scores (B,) of images (B, C, S, S) in [-1, 1] with their captions; above 0: real."""
        return self.discriminator(self.prepare(images), condition.pooled_projections)

    def draw(self, condition: Condition, generator: Generators = None) -> Tensor:
        """As `sample`, but with gradients."""
        pooled = condition.pooled_projections
        z = normal((len(condition), self.config.latent_width), generator, pooled)
        return self.drawer(z, pooled)

    @torch.no_grad()
    def sample(self, condition: Condition, *, generator: Generators = None) -> Tensor:
        """One image a condition, in one pass: (B, C, S, S) in [-1, 1]; as `Generator.sample`."""
        return self.draw(condition, generator)
