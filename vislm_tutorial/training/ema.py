"""The running average of the weights, which draws better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class AveragedWeights(EMAModel):
    """diffusers' EMAModel of a model's trainable parameters, updated in one pass over memory.

    After the n-th update the average moves by a = a + (1 - d) (w - a), where
    d = min(decay, n / (9 + n)), and d = 0 for n = 1 so that the average starts at the weights
    of the first update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.names, parameters = zip(
            *((name, p) for name, p in model.named_parameters() if p.requires_grad), strict=True
        )
        super().__init__(parameters, decay=decay, foreach=True)

    @torch.no_grad()
    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Counts one update and moves the average towards `parameters`."""
        self.optimization_step += 1
        self.cur_decay_value = self.get_decay(self.optimization_step)
        # EMAModel's subtract, scale, subtract reads memory thrice as often as one lerp.
        torch._foreach_lerp_(self.shadow_params, list(parameters), 1 - self.cur_decay_value)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self.names, self.shadow_params, strict=True))

    def load_tensors(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Puts back what `tensors` gave, after `updates` updates."""
        self.optimization_step = updates
        with torch.no_grad():
            for shadow, name in zip(self.shadow_params, self.names, strict=True):
                shadow.copy_(tensors[name])


@contextmanager
def averaged(model: nn.Module, ema: AveragedWeights) -> Iterator[nn.Module]:
    """Inside, `model` holds the averaged weights, in eval mode and without gradients."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    ema.store(parameters)
    ema.copy_to(parameters)
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        ema.restore(parameters)
        model.train()
