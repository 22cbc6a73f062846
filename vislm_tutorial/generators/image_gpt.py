"""Image GPT: a causal transformer writes the picture's codes one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from ..losses import guided, pixel_cross_entropy
from ..types import Condition
from .base import Generator, doubled
from .noise import Generators, pick, uniform
from .vq import VQAutoencoder


@dataclass(frozen=True)
class ImageGPTConfig:
    """Shape of the transformer."""

    kind: Literal["image_gpt"] = "image_gpt"
    width: int = 192  # D
    depth: int = 5  # blocks
    heads: int = 6  # of each attention
    max_prefix: int = 64  # longest caption in tokens


class ImageGPT(ModelMixin, ConfigMixin):
    """transformers' GPT-2 over [caption's tokens | start | codes]: logits of each next code.

    Chen et al. 2020, iGPT, with a caption as prefix as in Ramesh et al. 2021, DALL-E. The start
    token is the condition's pooled vector. A code's position does not depend on the length of its
    caption, and padding is never looked at.

    Args:
        codes: K.
        grid_size: h = w of the grid of codes.
        width, depth, heads, max_prefix: as in `ImageGPTConfig`.
        condition_width: D of the `Condition`.
    """

    @register_to_config
    def __init__(
        self,
        codes: int = 1024,
        grid_size: int = 8,
        width: int = 192,
        depth: int = 5,
        heads: int = 6,
        max_prefix: int = 64,
        condition_width: int = 192,
    ):
        super().__init__()
        self.prefix = nn.Linear(condition_width, width)
        self.start = nn.Linear(condition_width, width)
        config = GPT2Config(
            vocab_size=codes,
            n_positions=max_prefix + grid_size**2,
            n_embd=width,
            n_layer=depth,
            n_head=heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,  # safetensors files hold each tensor once
            bos_token_id=None,
            eos_token_id=None,
        )
        self.gpt = GPT2LMHeadModel(config)

    def forward(self, codes: Tensor, condition: Condition) -> Tensor:
        """Codes (B, n), the first of a picture in reading order -> logits (B, n + 1, K).

        Logits i are of code i, given the caption and codes 0 to i - 1.

        Raises:
            ValueError: for a caption of more than `max_prefix` tokens.
        """
        prefix, mask, positions = self.prompt(condition)
        embedded = torch.cat([prefix, self.gpt.transformer.wte(codes)], dim=1)
        ahead = mask.new_ones(codes.shape)
        places = positions[-1] + 1 + torch.arange(codes.shape[1], device=codes.device)
        output = self.gpt(
            inputs_embeds=embedded,
            attention_mask=torch.cat([mask, ahead], dim=1),
            position_ids=torch.cat([positions, places])[None],
            use_cache=False,
        )
        return output.logits[:, prefix.shape[1] - 1 :]

    def prompt(self, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """The embedded caption and start: (B, M + 1, D), its mask, and positions (M + 1,)."""
        states, longest = condition.encoder_hidden_states, self.config.max_prefix
        tokens = states.shape[1]
        if tokens > longest:
            raise ValueError(
                f"the caption has {tokens} tokens; this ImageGPT reads at most {longest}. Use a "
                "fusion with fewer tokens, or a larger max_prefix."
            )
        start = self.start(condition.pooled_projections).unsqueeze(1)  # (B, D) -> (B, 1, D)
        mask = condition.encoder_attention_mask
        positions = torch.arange(tokens + 1, device=states.device)
        positions[-1] = longest - 1  # codes follow from max_prefix on, whatever the length
        return (
            torch.cat([self.prefix(states), start], dim=1),
            torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1),
            positions,
        )

    def step(self, codes: Tensor, mask: Tensor, position: int, cache: DynamicCache) -> Tensor:
        """Logits (B, K) of the next code, after codes (B,) that stand at `position`.

        `mask` (B, tokens so far) covers what `cache` holds and this code.
        """
        output = self.gpt(
            input_ids=codes[:, None],
            attention_mask=mask,
            position_ids=torch.full((1, 1), position, device=codes.device),
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits[:, -1]


class CodeGenerator(Generator):
    """An `ImageGPT` behind the autoencoder whose codes it writes.

    Args:
        transformer: logits of the codes.
        autoencoder: with a codebook; stays frozen. None: only the loss of codes is asked for.
    """

    settings: ClassVar[dict[str, float]] = {"guidance_scale": 2.0, "temperature": 1.0}

    def __init__(self, transformer: ImageGPT, autoencoder: VQAutoencoder | None = None):
        super().__init__()
        self.transformer = transformer
        self.autoencoder = autoencoder
        if autoencoder is not None:
            autoencoder.requires_grad_(False)

    @property
    def network(self) -> ImageGPT:
        """The transformer."""
        return self.transformer

    def behind(self, autoencoder: VQAutoencoder | None) -> CodeGenerator:
        """The same transformer, its codes drawn by an autoencoder that stays frozen."""
        return CodeGenerator(self.transformer, autoencoder)

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> codes (B, h, w)."""
        return self.autoencoder.encode_codes(images)

    def prepared_loss(
        self, x: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """Cross entropy of codes (B, h, w) in nats a code; a scalar. It needs no noise."""
        codes = x.long().flatten(1)  # (B, h, w) -> (B, n)
        logits = self.transformer(codes[:, :-1], condition)  # (B, n, K)
        return pixel_cross_entropy(logits.transpose(1, 2), codes)

    @torch.no_grad()
    def sample(
        self,
        condition: Condition,
        unconditional: Condition | None = None,
        guidance_scale: float = 1.0,
        *,
        temperature: float = 1.0,
        generator: Generators = None,
    ) -> Tensor:
        """One image a condition, (B, 3, H, W) in [-1, 1].

        Args:
            condition: of B captions.
            unconditional: of one or B empty captions; needed when `guidance_scale` is not 1.
            guidance_scale: w in logits_empty + w (logits_caption - logits_empty).
            temperature: divides the logits; 0 takes the likeliest code.
            generator: as for every generator.
        """
        codes = self.sample_codes(condition, unconditional, guidance_scale, temperature, generator)
        return self.autoencoder.decode_codes(codes)

    @torch.no_grad()
    def sample_codes(
        self,
        condition: Condition,
        unconditional: Condition | None = None,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
        generator: Generators = None,
    ) -> Tensor:
        """As `sample`: (B, h, w) codes."""
        model, batch = self.transformer, len(condition)
        both = doubled(condition, unconditional, guidance_scale)
        side, first = model.config.grid_size, model.config.max_prefix
        chance = uniform((batch, side**2), generator, condition.pooled_projections)
        prefix, mask, positions = model.prompt(both)
        cache = DynamicCache()
        output = model.gpt(
            inputs_embeds=prefix,
            attention_mask=mask,
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, codes = output.logits[:, -1], []
        for place in range(side**2):
            if len(both) > batch:
                with_caption, without = logits.chunk(2)
                logits = guided(without, with_caption, guidance_scale)
            codes.append(pick(logits, chance[:, place], temperature))
            if place + 1 < side**2:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                repeated = codes[-1].repeat(len(both) // batch)
                logits = model.step(repeated, mask, first + place, cache)
        return torch.stack(codes, dim=1).unflatten(1, (side, side))  # (B, n) -> (B, h, w)
