"""The optimiser and its learning rate; the optimiser's state by parameter name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import TrainingConfig
from .muon import Muon, muon_matrices
from .switches import fused_switch


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """The learning rate of update `step`, counted from 0: a pure function, so nothing can drift.

    Update w - 1 of w warm-up updates is the first at the peak, update steps - 1 is at
    learning_rate * final_lr_fraction (except with the constant schedule). The trapezoid (Hu et al.
    2024, MiniCPM, "WSD") stays at the peak until `decay_steps` are left, so that a run can still be
    made longer while it is there.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    # Counted from the last warm-up update, which is at the peak; without warm-up, from update 0.
    start = max(config.warmup_steps - 1, 0)
    if config.schedule == "trapezoid":
        start = max(start, config.steps - 1 - config.decay_steps)
    progress = min(1.0, max(0, step - start) / max(1, config.steps - 1 - start))
    fall = (1 - math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else progress
    return config.learning_rate * (1 - (1 - config.final_lr_fraction) * fall)


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that `config` names over the trainable parameters; fused where torch has it.

    "adamw": weight decay shrinks the weights, beside the gradient (Loshchilov and Hutter, arXiv
    1711.05101). "adam" (Kingma and Ba, arXiv 1412.6980) and "sgd" (with momentum): it is an L2
    penalty, added to the gradient. "muon": see `Muon`.

    Decay is on matrices and kernels only: pulling a norm's scale or a bias towards 0 does not make
    a model simpler.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = muon_matrices(model) if config.optimizer == "muon" else set()
    groups = [
        {"params": [p for p in trainable if p in matrices], "orthogonal": True},
        {"params": [p for p in trainable if p.ndim >= 2 and p not in matrices]},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    settings = {
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
        "fused": fused_switch(config, trainable[0].device).on,
    }
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, **settings)
    settings["betas"] = config.betas
    if config.optimizer == "muon":
        return Muon(groups, momentum=config.momentum, **settings)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, **settings)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as {"<parameter>/<entry>": tensor}; empty before the first update."""
    return {
        f"{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)  # SGD without momentum keeps a None
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` gave. `load_state_dict` moves each to its device."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        by_name.setdefault(name, {})[entry] = value
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    state = optimizer.state_dict()
    state["state"] = {index: by_name[name] for index, name in enumerate(order) if name in by_name}
    optimizer.load_state_dict(state)
    for parameter, entries in optimizer.state.items():
        for entry, value in entries.items():
            # A fused kernel walks through both in the order of memory: files hold another one than
            # a channels-last parameter has.
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[entry] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
