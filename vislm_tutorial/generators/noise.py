"""Random numbers for drawing, from one generator or one an image; alike on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..types import Condition, TimedCondition

Generators = torch.Generator | Sequence[torch.Generator] | None


def normal(
    shape: tuple[int, ...], generator: Generators, like: Tensor | Condition | TimedCondition
) -> Tensor:
    """Normal noise with the device and dtype of `like`; a seed gives the same in each dtype.

    Args:
        shape: (B, ...).
        generator: one for all, a list of B, or None for torch's global one. One on the CPU serves
            every device.

    Raises:
        TypeError, ValueError: for anything else.
    """
    several = isinstance(generator, (list, tuple))
    generators = list(generator) if several else [generator]
    for each in generators:
        if each is not None and not isinstance(each, torch.Generator):
            raise TypeError(
                f"generator is or holds {each!r}; expected a torch.Generator. A seed becomes one "
                "with torch.Generator().manual_seed(seed)."
            )
    if several and len(generators) != shape[0]:
        raise ValueError(
            f"generator is a list of {len(generators)}; expected {shape[0]}, one an image."
        )
    wide = torch.promote_types(like.dtype, torch.float32)  # half precision draws other numbers
    source = generators if several else generator
    return randn_tensor(shape, source, like.device, wide).to(like.dtype)


def uniform(shape: tuple[int, ...], generator: Generators, like: Tensor) -> Tensor:
    """Numbers in (0, 1), float32, on the device of `like`; arguments as for `normal`."""
    # A normal number's own quantile is uniform, and `normal` knows all about generators.
    quantile = torch.special.ndtr(normal(shape, generator, like.float()))
    return quantile.clamp(1e-6, 1 - 1e-6)


def pick(logits: Tensor, chance: Tensor, temperature: float = 1.0) -> Tensor:
    """Draws a class: the one at quantile `chance` of softmax(logits / temperature).

    `logits` are (B, K, ...), `chance` (B, ...) in (0, 1), the classes (B, ...). Temperature 0 takes
    the likeliest.
    """
    if temperature == 0:
        return logits.argmax(dim=1)
    reached = (logits.double() / temperature).softmax(dim=1).cumsum(dim=1)
    return (reached < chance[:, None]).sum(dim=1).clamp(max=logits.shape[1] - 1)
