"""Flow matching: learn the velocity from data to noise, follow it back (Lipman et al. 2023)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ClassVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from ..losses import flow_matching, guided
from ..types import Condition, TimedCondition
from .autoencoder import Autoencoder
from .base import Generator, doubled
from .noise import Generators, normal

TRAIN_TIMESTEPS = 1000  # diffusers' unit of time: timestep = 1000 sigma
SIGMA_LOGIT_MEAN = 1.0  # above 0: where things stand is decided at high noise, and must be learned


def sample_sigma(n: int, generator: torch.Generator | None = None) -> Tensor:
    """(n,) noise levels in (0, 1), logit-normal (Esser et al. 2024, eq. 19), half above 0.73.

    Stratified: one draw from each n-th part of the distribution, which lowers the loss's variance.
    """
    device = generator.device if generator is not None else None
    strata = torch.arange(n, device=device) + torch.rand(n, generator=generator, device=device)
    normal = torch.special.ndtri((strata / n).clamp(1e-4, 1 - 1e-4))
    return torch.sigmoid(SIGMA_LOGIT_MEAN + normal)


class FlowGenerator(Generator):
    """A backbone trained by flow matching, in an autoencoder's latent space or in pixel space.

    Time runs as in diffusers: x_sigma = (1 - sigma) x_0 + sigma eps, and the backbone predicts
    v = eps - x_0; sampling goes from sigma = 1 to 0. A condition may depend on the time: each call
    of the backbone gets the one at its timestep.

    Args:
        backbone: `forward(sample (B, C, h, w), timestep (B,), condition) -> (B, C, h, w)`.
        autoencoder: an `Autoencoder` that stays frozen; None: the backbone works on pixels.
    """

    settings: ClassVar[dict[str, float]] = {"guidance_scale": 4.0, "num_inference_steps": 40}

    def __init__(self, backbone: nn.Module, autoencoder: Autoencoder | None = None):
        super().__init__()
        self.backbone = backbone
        self.autoencoder = autoencoder
        if autoencoder is not None:
            autoencoder.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    @property
    def grid(self) -> tuple[int, int, int]:
        """(C, h, w) of what the backbone draws."""
        config = self.backbone.config
        return (
            config.in_channels,
            config.sample_size,
            config.sample_size * getattr(config, "aspect", 1),
        )

    def behind(self, autoencoder: Autoencoder | None) -> FlowGenerator:
        """The same backbone, drawing through an autoencoder that stays frozen."""
        return FlowGenerator(self.backbone, autoencoder)

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] as the backbone sees them, (B, C, h, w)."""
        return images if self.autoencoder is None else self.autoencoder.encode(images)

    def prepared_loss(
        self,
        x0: Tensor,
        condition: Condition | TimedCondition,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean squared error of the velocity for latents or pixels (B, C, h, w); a scalar."""
        sigma = sample_sigma(len(x0), generator).to(x0)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        level = sigma[:, None, None, None]
        noisy = (1 - level) * x0 + level * noise
        timestep = TRAIN_TIMESTEPS * sigma
        velocity = self.backbone(noisy, timestep, condition.at(timestep))
        return flow_matching(velocity, x0, noise)

    @torch.no_grad()
    def sample(
        self,
        condition: Condition | TimedCondition,
        unconditional: Condition | TimedCondition | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int = 20,
        scheduler=None,
        generator: Generators = None,
        on_step: Callable[[int, Tensor, Tensor], Tensor | None] | None = None,
    ) -> Tensor:
        """Draw one image a condition.

        Args:
            condition: of B captions.
            unconditional: of one or B empty captions, from the same fusion; needed when
                `guidance_scale` is not 1.
            guidance_scale: w in v = v_empty + w (v_caption - v_empty) (Ho & Salimans 2022, eq. 6,
                with w = 1 + their w); 1 asks the caption alone.
            num_inference_steps: n; the backbone is called n times, by diffusers' Heun 2 n - 1.
            scheduler: a diffusers flow-matching scheduler; None: Euler.
            generator: of the starting noise, and of the noise that a stochastic scheduler adds.
                With a list of B, one an image, an image does not depend on which others are drawn
                beside it.
            on_step: called after each call of the backbone with its number (from 0), the timestep
                and x (B, C, h, w); a tensor that it returns takes the place of x.

        Returns:
            (B, 3, H, W) in [-1, 1].
        """
        batch = len(condition)
        condition = doubled(condition, unconditional, guidance_scale)
        x = self.noise(condition[:batch], generator)
        scheduler = scheduler or FlowMatchEulerDiscreteScheduler(TRAIN_TIMESTEPS)
        _set_steps(scheduler, num_inference_steps, x.device)
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        noise = {"generator": generator} if takes_noise else {}
        for number, timestep in enumerate(scheduler.timesteps):
            velocity = self.velocity(x, timestep, condition, guidance_scale)
            x = scheduler.step(velocity, timestep, x, return_dict=False, **noise)[0]
            replaced = on_step(number, timestep, x) if on_step else None
            x = x if replaced is None else replaced
        return x.clamp(-1, 1) if self.autoencoder is None else self.autoencoder.decode(x)

    def velocity(
        self,
        x: Tensor,
        timestep: Tensor,
        condition: Condition | TimedCondition,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """The backbone's answer for x (B, C, h, w) at one timestep, guided unless the scale is 1.

        With guidance the condition is `doubled`: 2 B rows, those with a caption first.
        """
        guide = guidance_scale != 1.0
        twice = torch.cat([x, x]) if guide else x
        times = timestep.expand(len(twice))
        velocity = self.backbone(twice, times, condition.at(times))
        if guide:
            with_caption, without = velocity.chunk(2)
            velocity = guided(without, with_caption, guidance_scale)
        return velocity

    def noise(self, condition: Condition | TimedCondition, generator: Generators = None) -> Tensor:
        """Where drawing for B captions begins: (B, C, h, w), standard normal."""
        return normal((len(condition), *self.grid), generator, condition)


def _set_steps(scheduler, steps: int, device: torch.device) -> None:
    """Lay out `steps` steps from sigma = 1 to 0."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        # Equal steps: by itself this scheduler ends with one from 0.001 to 0, a call wasted.
        sigmas = [1 - i / steps for i in range(steps)]
        scheduler.set_timesteps(steps, device=device, sigmas=sigmas)
    else:
        scheduler.set_timesteps(steps, device=device)
