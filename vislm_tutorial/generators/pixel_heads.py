"""What a PixelCNN says about one pixel: a distribution over its red, then green, then blue value.

Both heads read the features of a pixel, which know the pixels before it and nothing of itself, and
handle the three channels on their own. So drawing a pixel takes one pass of the network, not three.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from ..blocks import timestep_embedding
from ..losses import discretised_logistic_nll
from .noise import pick

WAVES = 16  # sines and cosines in which the categorical head reads one value
MIN_LOG_SCALE = -7.0  # a logistic of a ninth of a step's width: narrower only overflows


def round_to_levels(x: Tensor, levels: int) -> Tensor:
    """Values in [-1, 1] to the nearest of `levels` equally spaced ones, -1 and 1 among them."""
    steps = (levels - 1) / 2
    return ((x + 1) * steps).round().clamp(0, levels - 1) / steps - 1


class CategoricalHead(nn.Module):
    """A softmax over each channel's values; nothing tells it that 127 lies beside 128.

    The channels' order is in a mask over groups of hidden units (van den Oord et al. 2016, "Pixel
    Recurrent Neural Networks", section 3.4): red's read no value, green's read red, blue's both.

    Args:
        width: C of the features.
        levels: K, values of a channel.
        hidden: units a channel.
    """

    draws = 3  # uniform numbers that a pixel takes

    def __init__(self, width: int, levels: int, hidden: int = 64):
        super().__init__()
        self.levels = levels
        self.from_features = nn.Conv2d(width, 3 * hidden, 1)
        self.from_values = nn.Conv2d(3 * WAVES, 3 * hidden, 1, bias=False)
        self.to_logits = nn.Conv2d(3 * hidden, 3 * levels, 1, groups=3)
        earlier = torch.ones(3, 3).tril(-1)  # (to, from): a channel sees those before it
        earlier = earlier.repeat_interleave(hidden, dim=0).repeat_interleave(WAVES, dim=1)
        self.register_buffer("earlier", earlier[:, :, None, None], persistent=False)
        nn.init.zeros_(self.to_logits.weight)  # an untrained network finds all values as likely
        nn.init.zeros_(self.to_logits.bias)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        """Logits (B, 3, K, h, w) from features (B, C, h, w) and the same pixels x (B, 3, h, w).

        Those of a channel depend on the values of earlier channels alone.
        """
        steps = (x + 1) * (self.levels - 1) / 2
        waves = timestep_embedding(steps.flatten(), WAVES, max_period=self.levels)
        waves = waves.unflatten(0, x.shape)  # (B 3 h w, WAVES) -> (B, 3, h, w, WAVES)
        waves = waves.movedim(-1, 2).flatten(1, 2).to(features.dtype)  # -> (B, 3 WAVES, h, w)
        seen = F.conv2d(waves, self.from_values.weight * self.earlier.to(features.dtype))
        hidden = F.gelu(self.from_features(features) + seen)
        return self.to_logits(hidden).float().unflatten(1, (3, self.levels))

    def log_likelihood(self, features: Tensor, x: Tensor) -> Tensor:
        """log P(pixel) in nats, (B, h, w)."""
        index = ((x + 1) * (self.levels - 1) / 2).round().long()
        log_p = self(features, x).log_softmax(dim=2).gather(2, index[:, :, None])
        return log_p.sum(dim=(1, 2))  # (B, 3, 1, h, w) -> (B, h, w)

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Pixels (B, 3, h, w) from uniform (B, 3, h, w) numbers in (0, 1)."""
        x = torch.zeros_like(uniform)
        for channel in range(3):
            logits = self(features, x)[:, channel]
            index = pick(logits, uniform[:, channel], temperature)
            x[:, channel] = index / ((self.levels - 1) / 2) - 1
        return x


class LogisticHead(nn.Module):
    """A mixture of discretised logistics over a pixel (Salimans et al. 2017, PixelCNN++, eq. 2-3).

    A component is a colour: it is drawn once for the three channels. Within one, green's mean is
    linear in red, blue's in red and green. Values have 256 levels.

    Args:
        width: C of the features.
        components: J of the mixture.
    """

    draws = 4  # uniform numbers that a pixel takes: the component, then each channel

    def __init__(self, width: int, components: int):
        super().__init__()
        self.components = components
        # a weight, and for each channel a mean, a scale and a coefficient
        self.to_parameters = nn.Conv2d(width, 10 * components, 1)
        with torch.no_grad():  # components that start alike would stay alike
            bias = self.to_parameters.bias.view(10, components)
            bias[1:4].uniform_(-1, 1)
            bias[4:7].fill_(math.log(0.2))

    def forward(self, features: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture at each pixel, from features (B, C, h, w) and the same pixels x (B, 3, h, w).

        Returns:
            logits (B, J, h, w), means (B, 3, J, h, w), log scales (B, 3, J, h, w); a channel's
            mean depends on the values of earlier channels alone.
        """
        # (B, 10 J, h, w) -> (B, 10, J, h, w)
        parameters = self.to_parameters(features).float().unflatten(1, (10, self.components))
        logits, (means, log_scales, c) = parameters[:, 0], parameters[:, 1:].chunk(3, dim=1)
        c = c.tanh()
        red, green = x[:, 0:1], x[:, 1:2]
        shift = [torch.zeros_like(logits), c[:, 0] * red, c[:, 1] * red + c[:, 2] * green]
        return logits, means + torch.stack(shift, dim=1), log_scales.clamp(min=MIN_LOG_SCALE)

    def log_likelihood(self, features: Tensor, x: Tensor) -> Tensor:
        """log P(pixel) in nats, (B, h, w)."""
        logits, means, log_scales = self(features, x)
        values = x.float()[:, :, None].expand_as(means)
        # The loss is of a mixture and a mean; mapped over single values it is each logistic's own.
        one = torch.zeros_like(means).flatten()[:, None]
        nats = vmap(discretised_logistic_nll)(
            one, means.flatten()[:, None], log_scales.flatten()[:, None], values.flatten()
        )
        colour = -nats.view_as(means).sum(dim=1)  # over the channels: (B, J, h, w)
        return torch.logsumexp(logits.log_softmax(dim=1) + colour, dim=1)

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Pixels (B, 3, h, w) from uniform (B, 4, h, w) numbers in (0, 1)."""
        x = torch.zeros_like(uniform[:, :3])
        component = pick(self(features, x)[0], uniform[:, 0], temperature)[:, None]
        for channel in range(3):
            _, means, log_scales = self(features, x)
            mean = means[:, channel].gather(1, component)[:, 0]
            scale = log_scales[:, channel].gather(1, component)[:, 0].exp()
            value = mean + temperature * scale * uniform[:, channel + 1].logit()
            x[:, channel] = round_to_levels(value, 256)
        return x
