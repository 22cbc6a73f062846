"""What all generators share, whatever their mathematics: a loss to learn from, a way to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..types import Condition, TimedCondition
from .noise import Generators

if TYPE_CHECKING:
    from .autoencoder import Autoencoder

PIXEL_CHANNELS = 3  # as many mean pixels, which lie in [-1, 1]; otherwise latents


class Generator(nn.Module):
    """Condition -> image. One loop trains every family, because a family is only these methods.

    Attributes:
        settings: what may be turned while drawing, with defaults: keyword arguments of `sample`.
    """

    settings: ClassVar[dict[str, float]] = {}

    @property
    def network(self) -> nn.Module:
        """What is saved of it, a diffusers model; `as_generator` is the way back."""
        return self

    @property
    def guided(self) -> bool:
        """Whether `sample` takes `unconditional` and `guidance_scale`."""
        return "guidance_scale" in self.settings

    def behind(self, autoencoder: Autoencoder | None) -> Generator:
        """The same networks, drawing through an autoencoder that stays frozen."""
        if autoencoder is not None:
            raise ValueError(f"a {type(self).__name__} draws pixels; it uses no autoencoder.")
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] as the loss sees them: pixels, latents or codes.

        Nothing that learns takes part in it, so training does this once for each picture.
        """
        return images

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """Scalar loss of what `prepare` gave for B images with their captions' condition."""
        raise NotImplementedError

    def loss(
        self, images: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """The same for (B, 3, H, W) images in [-1, 1]; a scalar."""
        with torch.no_grad():
            x = self.prepare(images)
        return self.prepared_loss(x, condition, generator)

    def sample(self, condition: Condition, *, generator: Generators = None) -> Tensor:
        """One image a condition: (B, 3, H, W) in [-1, 1].

        Args:
            condition: of B captions.
            generator: of all noise; with a list of B, one an image, an image does not depend on
                which others are drawn beside it.
        """
        raise NotImplementedError


class LatentGenerator(Generator):
    """A generator of latents behind the autoencoder whose latents it draws.

    Args:
        latents: the generator; what is saved and what learns is this.
        autoencoder: stays frozen.
    """

    def __init__(self, latents: Generator, autoencoder: Autoencoder):
        super().__init__()
        self.latents = latents
        self.autoencoder = autoencoder.requires_grad_(False)
        self.settings = latents.settings

    @property
    def network(self) -> nn.Module:
        """The generator of latents."""
        return self.latents.network

    def behind(self, autoencoder: Autoencoder | None) -> Generator:
        """The same generator behind another autoencoder, or behind none."""
        return self.latents.behind(autoencoder)

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> latents (B, C, h, w)."""
        return self.autoencoder.encode(images)

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """That of the latents."""
        return self.latents.prepared_loss(x, condition, generator)

    @torch.no_grad()
    def sample(self, condition: Condition, *, generator: Generators = None, **settings) -> Tensor:
        """One image a condition: (B, 3, H, W) in [-1, 1]; `settings` as the latents' own."""
        drawn = self.latents.sample(condition, generator=generator, **settings)
        return self.autoencoder.decode(drawn).clamp(-1, 1)


_Condition = TypeVar("_Condition", Condition, TimedCondition)


def doubled(condition: _Condition, unconditional: _Condition | None, scale: float) -> _Condition:
    """The captions' condition, and behind it the empty caption's for each: what guidance asks for.

    Args:
        condition: of B captions.
        unconditional: of one or B empty captions.
        scale: the guidance scale; 1 asks the captions alone, and `condition` comes back.

    Raises:
        ValueError: if it is not 1 and there is no `unconditional`.
    """
    if scale == 1.0:
        return condition
    if unconditional is None:
        raise ValueError(
            f"guidance_scale is {scale}, which needs the condition of the empty "
            "caption; pass unconditional=, or guidance_scale=1."
        )
    if len(unconditional) == 1:
        unconditional = unconditional[torch.zeros(len(condition), dtype=torch.long)]
    return condition.cat([condition, unconditional])
