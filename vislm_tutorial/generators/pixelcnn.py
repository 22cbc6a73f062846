"""A gated PixelCNN: each pixel's distribution, given the caption and the pixels before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ..blocks import Attention, position_embedding
from ..types import Condition
from .base import Generator
from .noise import Generators, uniform
from .pixel_heads import CategoricalHead, LogisticHead, round_to_levels


@dataclass(frozen=True)
class PixelCNNConfig:
    """Shape of the PixelCNN. Every layer works at full size: width x depth is the cost."""

    kind: Literal["pixelcnn"] = "pixelcnn"
    width: int = 48  # channels of each stack
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2)  # one layer each; their sum is how far it sees
    attention_layers: tuple[int, ...] = (1, 3)  # after which layers a pixel reads the caption
    heads: int = 4  # of each attention
    likelihood: Literal["categorical", "logistic"] = "logistic"
    levels: int = 256  # categorical: values of a channel; logistic: always 256
    components: int = 10  # logistic: of the mixture


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of the halves of (B, 2C, h, w): (B, C, h, w)."""
    signal, opening = x.chunk(2, dim=1)
    return signal.tanh() * opening.sigmoid()


class GatedLayer(nn.Module):
    """Two gated convolutions (van den Oord et al. 2016, figure 2): rows above, pixels to the left.

    The vertical one sees rows above to both sides, so nothing of them hides behind the mask of a
    convolution over both, the "blind spot". It never hears the horizontal one, which would tell it
    of pixels to come. Normalising over the picture would do so too: there is no norm here.
    """

    def __init__(
        self, width: int, dilation: int, vector_width: int, attention: Attention | None = None
    ):
        super().__init__()
        self.dilation = dilation
        self.vertical_conv = nn.Conv2d(width, 2 * width, (2, 3), dilation=dilation)
        self.horizontal_conv = nn.Conv2d(width, 2 * width, (1, 2), dilation=dilation)
        self.down = nn.Conv2d(width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.condition = nn.Linear(vector_width, 4 * width)
        self.norm = None if attention is None else nn.LayerNorm(width)  # over channels alone
        self.attention = attention

    def vertical(self, v: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, C, h, w) and the caption's vector (B, V) -> v, and a message (B, 2C, h, w) to h."""
        d = self.dilation
        for_vertical, for_horizontal = self.condition(vector)[:, :, None, None].chunk(2, dim=1)
        v = v + gate(self.vertical_conv(F.pad(v, (d, d, d, 0))) + for_vertical)
        return v, self.down(v) + for_horizontal

    def horizontal(self, h: Tensor, message: Tensor, condition: Condition) -> Tensor:
        """h (B, C, h, w) and the message from `vertical` -> h."""
        left = F.pad(h, (self.dilation, 0, 0, 0))
        h = h + self.out(gate(self.horizontal_conv(left) + message))
        if self.attention is None:
            return h
        queries = self.norm(h.flatten(2).transpose(1, 2))  # (B, C, h, w) -> (B, h w, C)
        read = self.attention(
            queries, condition.encoder_hidden_states, condition.encoder_attention_mask
        )
        return h + read.transpose(1, 2).unflatten(2, h.shape[2:])


class PixelCNN(Generator, ModelMixin, ConfigMixin):  # last: its __getattr__ asks no one else
    """p(image | caption) = product over pixels, row by row, of p(pixel | pixels before, caption).

    The gated PixelCNN of van den Oord et al. 2016, "Conditional Image Generation with PixelCNN
    Decoders" (eq. 3 and 4), with dilated convolutions, so that few layers see far; the channels'
    order is left to the head (`pixel_heads`). The caption is in each gate, as one vector, and its
    tokens are read by cross-attention, which is causal because pixels read no pixels there. Fixed
    positions are added, because captions say places and convolutions do not know them.

    The only family here whose likelihood is exact, and the slowest to draw from.

    Args:
        sample_size: side S of the picture; drawing takes S x S passes.
        condition_width: D of the `Condition`.
        width, dilations, attention_layers, heads, likelihood, levels, components: as in
            `PixelCNNConfig`.

    Raises:
        ValueError: for values that do not fit together.
    """

    settings: ClassVar[dict[str, float]] = {"temperature": 1.0}

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        condition_width: int = 192,
        width: int = 48,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2),
        attention_layers: tuple[int, ...] = (1, 3),
        heads: int = 4,
        likelihood: Literal["categorical", "logistic"] = "logistic",
        levels: int = 256,
        components: int = 10,
    ):
        super().__init__()
        _check(likelihood, levels, len(dilations), attention_layers)
        self.vertical_in = nn.Conv2d(3, width, (2, 3))
        self.horizontal_in = nn.Conv2d(3, width, (1, 2))
        vector_width = 2 * condition_width
        self.embed = nn.Sequential(nn.Linear(condition_width, vector_width), nn.SiLU())
        self.layers = nn.ModuleList(
            GatedLayer(
                width,
                dilation,
                vector_width,
                Attention(width, heads, condition_width) if number in attention_layers else None,
            )
            for number, dilation in enumerate(dilations)
        )
        categorical = likelihood == "categorical"
        self.head = (
            CategoricalHead(width, levels) if categorical else LogisticHead(width, components)
        )
        positions = position_embedding(sample_size, sample_size, width)  # (h w, width)
        positions = positions.T.unflatten(1, (sample_size, sample_size))  # -> (width, h, w)
        self.register_buffer("positions", positions.contiguous(), persistent=False)
        self.reach = 2 + sum(dilations)  # rows above, and pixels to the left, that a pixel sees

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images in [-1, 1], rounded to the values that the model knows.

        Raises:
            ValueError: if S is not `sample_size`.
        """
        side = self.config.sample_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(
                f"images are {tuple(images.shape)}; this PixelCNN was built for (B, 3, {side}, "
                f"{side}). Resize them, or build another with sample_size=."
            )
        return round_to_levels(images, self.config.levels)

    def log_likelihood(self, x: Tensor, condition: Condition) -> Tensor:
        """log P(x | caption) in nats, (B,), of images (B, 3, S, S) that `prepare` gave.

        They are rounded once more, because data sets keep them as bytes, whatever `levels` is.
        """
        x = round_to_levels(x, self.config.levels)
        return self.head.log_likelihood(self.features(x, condition), x).sum(dim=(1, 2))

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """-log P(x | caption) in nats a value, exact, the mean over the batch; a scalar.

        `losses.bits_per_dim` gives bits. With fewer `levels` it is the likelihood of the coarser
        picture, not to be compared with that of 256. No random number is drawn.
        """
        return -self.log_likelihood(x, condition).mean() / x[0].numel()

    def forward(self, x: Tensor, condition: Condition) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """The distributions of all pixels of x (B, 3, S, S), as the head's `forward` gives them."""
        return self.head(self.features(x, condition), x)

    def features(self, x: Tensor, condition: Condition) -> Tensor:
        """(B, C, S, S): at each pixel, what the pixels before it and the caption say of it."""
        messages = self._vertical(x, self.positions, self.embed(condition.pooled_projections))
        return self._horizontal(x, self.positions, messages, condition)

    def _vertical(self, x: Tensor, positions: Tensor, vector: Tensor) -> list[Tensor]:
        """Each layer's message (B, 2C, h, w) from the rows above, for rows x (B, 3, h, S)."""
        above = F.pad(x, (1, 1, 2, 0))[:, :, :-1]  # output row i reads rows i - 2 and i - 1
        v = self.vertical_in(above) + positions.to(x.dtype)
        messages = []
        for layer in self.layers:
            v, message = layer.vertical(v, vector)
            messages.append(message)
        return messages

    def _horizontal(
        self, x: Tensor, positions: Tensor, messages: list[Tensor], condition: Condition
    ) -> Tensor:
        """Features (B, C, h, w) of pixels x (B, 3, h, w)."""
        left = F.pad(x, (2, 0, 0, 0))[..., :-1]  # output column j reads columns j - 2 and j - 1
        h = self.horizontal_in(left) + positions.to(x.dtype)
        for layer, message in zip(self.layers, messages, strict=True):
            h = layer.horizontal(h, message, condition)
        return h

    @torch.no_grad()
    def sample(
        self, condition: Condition, *, generator: Generators = None, temperature: float = 1.0
    ) -> Tensor:
        """One image a condition, pixel after pixel: (B, 3, S, S) in [-1, 1].

        The vertical stack runs once a row, the horizontal one once a pixel, each only on what can
        reach that row or pixel.

        Args:
            condition: of B captions.
            generator: as in `Generator.sample`.
            temperature: divides logits and narrows logistics: below 1 pixels are likelier and
                pictures plainer; 0 takes the likeliest value, or of a logistic the mean.

        Raises:
            ValueError: for a negative temperature.
        """
        if not temperature >= 0:
            raise ValueError(f"temperature is {temperature}; expected 0 or more.")
        side, pooled = self.config.sample_size, condition.pooled_projections
        numbers = uniform((len(condition), self.head.draws, side, side), generator, pooled)
        x = pooled.new_zeros(len(condition), 3, side, side)
        vector = self.embed(pooled)
        for i in range(side):
            rows = slice(max(0, i - self.reach), i + 1)
            messages = self._vertical(x[:, :, rows], self.positions[:, rows], vector)
            row = slice(i, i + 1)
            for j in range(side):
                columns = slice(max(0, j - self.reach), j + 1)
                seen = [message[:, :, -1:, columns] for message in messages]
                features = self._horizontal(
                    x[:, :, row, columns], self.positions[:, row, columns], seen, condition
                )
                number = numbers[:, :, row, j : j + 1]
                x[:, :, row, j : j + 1] = self.head.draw(features[..., -1:], number, temperature)
        return x


def _check(likelihood: str, levels: int, layers: int, attention_layers: tuple[int, ...]) -> None:
    if likelihood not in ("categorical", "logistic"):
        raise ValueError(f"likelihood is {likelihood!r}; expected 'categorical' or 'logistic'.")
    if likelihood == "logistic" and levels != 256:
        raise ValueError(
            f"levels is {levels}; the logistic likelihood has 256. "
            "Leave levels out, or take likelihood='categorical'."
        )
    if not 2 <= levels <= 256:
        raise ValueError(f"levels is {levels}; expected 2 to 256 values of a channel.")
    if any(not 0 <= number < layers for number in attention_layers):
        raise ValueError(
            f"attention_layers is {tuple(attention_layers)}; expected numbers from 0 to "
            f"{layers - 1}, because dilations has {layers}."
        )
