"""Muon: steps whose singular values are all about equal, so no direction of a matrix is left out.

torch.optim.Muon takes matrices only and computes in bfloat16, some 200 times slower than float32 on
a CPU without instructions for it. Here kernels are matrices too, all other parameters get AdamW in
the same optimiser, and the arithmetic is float32 where there is no GPU.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from .sharding import sliced_like, whole

# Of x -> a x + b x^3 + c x^5, chosen so that small values grow fastest: five rounds bring
# singular values between about 0.005 and 1 to somewhere near 1. They do not converge to 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
ADAMW_RMS = 0.2  # root mean square of a usual AdamW step at learning rate 1


def newton_schulz(matrices: Tensor, rounds: int = ROUNDS) -> Tensor:
    """About U V^T for matrices U S V^T: the singular values become 0.7 to 1.2, none stays small.

    A quintic Newton-Schulz iteration: only products, no singular value decomposition (Jordan et
    al. 2024, "Muon: an optimizer for hidden layers in neural networks").

    Args:
        matrices: (..., n, m) floating point, at any scale.

    Returns:
        The same shape and dtype.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT  # the smaller side first, for the smaller products
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # all singular values <= 1
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def orthogonalised(matrices: Tensor) -> Tensor:
    """`newton_schulz` as fast as the device allows: (..., n, m) float32 -> the same.

    A GPU computes in bfloat16. Elsewhere, if one side is much the smaller, the rounds act on the
    Gram matrix alone: with g = x x^T each is x <- q(g) x, q(g) = a + b g + c g^2, and so
    g <- q(g) g q(g); x is multiplied once, by the product of all q. Rounding errors of g grow some
    12-fold a round, which is fine in float32 and not in less.
    """
    if _has_bfloat16(matrices.device):
        return newton_schulz(matrices.bfloat16()).to(matrices.dtype)
    n, m = sorted(matrices.shape[-2:])
    if 2 * m < 3 * n:
        return newton_schulz(matrices)
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] == n
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    gram, factors = x @ x.mT, []
    for _ in range(ROUNDS):
        if factors:
            gram = factors[-1] @ gram @ factors[-1]
        inner = _plus(c * gram, b)
        factors.append(_plus(gram @ inner, a))  # q(g) = a + g (b + c g)
    x = functools.reduce(torch.matmul, factors) @ x
    return x if wide else x.mT


def _plus(matrices: Tensor, number: float) -> Tensor:
    """Adds a multiple of the identity, in place."""
    matrices.diagonal(dim1=-2, dim2=-1).add_(number)
    return matrices


def muon_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The trainable parameters that Muon moves: weights of linear layers and of convolutions.

    Embeddings and other tables are left to AdamW: a row of a table is not a direction to balance.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = {layer.weight for layer in model.modules() if isinstance(layer, layers)}
    tables = {layer.weight for layer in model.modules() if isinstance(layer, nn.Embedding)}  # tied
    return {weight for weight in weights - tables if weight.requires_grad}


class Muon(torch.optim.AdamW):
    """Muon for groups with `orthogonal=True`, AdamW for all others, at one learning rate.

    W <- (1 - lr wd) W - lr 0.2 sqrt(max(n, m)) NS(g + momentum (m - g)), with m the running mean
    of the gradients and kernels (n, C, k, k) read as (n, C k k). The factor gives the step the
    size that AdamW's has (Liu et al. 2025, arXiv 2502.16982, eq. 4), so that one rate fits both.

    Args:
        groups: as any optimiser's; `orthogonal` groups hold parameters of 2 or more dimensions.
        momentum: of the `orthogonal` groups.
        settings: of AdamW; `lr` and `weight_decay` count for all groups.
    """

    def __init__(self, groups: list[dict], momentum: float = 0.95, **settings) -> None:
        super().__init__(groups, **settings)
        self._step_supports_amp_scaling = False  # GradScaler leaves an overflowed step out itself
        for group in self.param_groups:
            group.setdefault("orthogonal", False)
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all groups."""
        groups = self.param_groups
        try:  # AdamW's own step sees the groups that are AdamW's
            self.param_groups = [group for group in groups if not group["orthogonal"]]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict) -> None:
        by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for parameters in by_shape.values():  # of one shape together: fewer, larger products
            directions = [self._direction(p, group["momentum"]) for p in parameters]
            directions = torch.stack([whole(d) for d in directions])  # a slice has other directions
            flat = directions.flatten(2)  # (N, n, C, k, k) -> (N, n, C k k)
            steps = orthogonalised(flat).reshape(directions.shape)
            size = ADAMW_RMS * math.sqrt(max(flat.shape[1:]))
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            steps = [sliced_like(s, p) for s, p in zip(steps, parameters, strict=True)]
            torch._foreach_add_(parameters, steps, alpha=-group["lr"] * size)

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's mix of the gradient and its running mean, which it also renews."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # not used, but AdamW's loader asks for it
        average = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
