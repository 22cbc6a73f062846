"""Adversarial training on a caption's states: learn from the small change that hurts most.

Miyato, Dai and Goodfellow (arXiv 1605.07725) moved a classifier's word vectors a little way
uphill on the loss and let it learn from there too. A caption is words, so its states take the
place of pixels: nobody can add a little to a word, but one can to its vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..types import TextStates

# A gradient is normalised before use, so any factor will do; this one keeps fp16's from becoming 0.
_SCALE = 1024.0


@dataclass(frozen=True)
class Adversarial:
    """How far the states are moved, how, and how much what comes of it counts.

    Raises:
        ValueError: when a field is outside its range.
    """

    epsilon: float = 0.05  # length of the move, relative to the length of the caption's states
    steps: int = 1  # gradients it is made of: 1 is the fast method, more search longer (PGD)
    weight: float = 1.0  # of the moved states' loss, beside 1 for the true states'

    def __post_init__(self) -> None:
        for name, low in (("epsilon", 0), ("weight", 0)):
            if not getattr(self, name) > low:
                raise ValueError(f"Adversarial.{name}={getattr(self, name)!r}; expected above 0.")
        if self.steps < 1:
            raise ValueError(f"Adversarial.steps={self.steps!r}; expected at least 1.")


def adversarial_loss(
    loss: Callable[[TextStates], Tensor], states: TextStates, settings: Adversarial
) -> Tensor:
    """(loss(s) + weight loss(s + r)) / (1 + weight), r the move that raises the loss most.

    With one step r = epsilon |s| g / |g|, g the loss's gradient in s (eq. 5). With k, each goes
    2 epsilon / k along its gradient, and what leaves the ball of radius epsilon |s| is brought back
    (Madry et al., arXiv 1706.06083). r itself is a constant: no gradient flows through its making.

    Args:
        loss: states -> a scalar; called steps + 1 times, with the same noise each time.
        states: of B captions; |s| is taken over all of a caption's tokens.
    """
    hidden = states.encoder_hidden_states
    leaf = hidden if hidden.requires_grad else hidden.detach().requires_grad_()
    true = loss(replace(states, encoder_hidden_states=leaf))
    radius = settings.epsilon * _length(hidden.detach())
    stride = radius if settings.steps == 1 else 2 * radius / settings.steps
    (gradient,) = torch.autograd.grad(_SCALE * true, leaf, retain_graph=True)
    move = stride * _direction(gradient, states)
    for _ in range(settings.steps - 1):
        tried = (hidden + move).detach().requires_grad_()
        value = _SCALE * loss(replace(states, encoder_hidden_states=tried))
        (gradient,) = torch.autograd.grad(value, tried)
        move = move + stride * _direction(gradient, states)
        move = move * (radius / _length(move).clamp(min=1e-12)).clamp(max=1)
    moved = loss(replace(states, encoder_hidden_states=hidden + move))
    return (true + settings.weight * moved) / (1 + settings.weight)


def _length(x: Tensor) -> Tensor:
    """(B, L, D) -> (B, 1, 1), over tokens and width."""
    return x.float().square().sum(dim=(1, 2), keepdim=True).sqrt()


def _direction(gradient: Tensor, states: TextStates) -> Tensor:
    """The gradient with length 1 for each caption, 0 at padding; 0 where there is none."""
    gradient = gradient.float() * states.encoder_attention_mask[..., None]
    return gradient / _length(gradient).clamp(min=1e-20)
