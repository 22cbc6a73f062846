"""Putting a strategy onto an encoder, in place, and folding low-rank updates into its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..encoders import TextEncoder
from .adapter import insert_adapters
from .config import AdaLoRA, Adapters, Full, LoRA, TopLayers, Tuning

if TYPE_CHECKING:
    from .adaptive import AdaptiveRank

ADAPTER_NAME = "default"  # peft's name for the one update that is attached
# Names that a family's linear layers end in: BERT, Llama, GPT-2.
ATTENTION = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("c_attn",))
SUBLAYER_ENDS = (("output.dense",), ("o_proj", "down_proj"))  # before each residual sum
UNUSED = ("pooler.",)  # weights that no state goes through
LAST_NORMS = ("norm.", "ln_f.")  # behind the last layer: Llama, GPT-2


def attach(
    encoder: TextEncoder, tuning: Tuning, steps: int = 1000, seed: int = 0
) -> AdaptiveRank | None:
    """Let of an encoder learn what `tuning` says, and freeze the rest; in place.

    The states do not change until something has been learned. Afterwards `encoder.tuning` is the
    strategy, `encoder.learned` names its weights, and the model is in eval mode. Where the states
    are those of one layer, those above it stay as they are: nothing they learn would be seen.

    Args:
        encoder: one that nothing is attached to.
        tuning: the strategy.
        steps: of the whole training; AdaLoRA's ranks fall by it.
        seed: of new weights.

    Returns:
        For AdaLoRA, what has to be told of each update of the weights; else None.

    Raises:
        TypeError: for what is no TextEncoder; a cache would hand out the states of before.
        ValueError: if something is attached already, or the strategy does not fit the model.
    """
    if not isinstance(encoder, TextEncoder):
        raise TypeError(
            f"attach got a {type(encoder).__name__}; expected a TextEncoder. The one in a "
            "CachedEncoder is its attribute `encoder`; use it without the cache then."
        )
    if encoder.tuning is not None:
        raise ValueError(
            f"the encoder {encoder.name!r} has {encoder.tuning} attached already; load it again."
        )
    unused, adaptive = _unused(encoder, tuning), None
    model = encoder.model.requires_grad_(False)
    if isinstance(tuning, Full):
        model.requires_grad_(True)
    elif isinstance(tuning, TopLayers):
        _thaw_top(model, tuning.layers, unused)
    elif isinstance(tuning, Adapters):
        names = _linear_layers(model, SUBLAYER_ENDS, (), unused)
        insert_adapters(model, names, tuning.bottleneck, seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".adapter." in name)
    else:
        adaptive = _attach_low_rank(model, tuning, steps, seed, unused)
    for name, parameter in model.named_parameters():
        if name.startswith(unused):
            parameter.requires_grad_(False)
    model.eval()  # new modules are born in training mode, with their dropout on
    encoder.tuning = tuning
    encoder.learned = tuple(name for name, p in model.named_parameters() if p.requires_grad)
    return adaptive


def merge(encoder: TextEncoder) -> None:
    """Fold the updates of LoRA or AdaLoRA into the matrices, in place: W <- W + (alpha / r) B A.

    The states stay the same, and cost no more than the base model's. What is saved of it from then
    on is the whole model.

    Raises:
        ValueError: if neither is attached.
    """
    if not isinstance(encoder.tuning, LoRA | AdaLoRA):
        raise ValueError(
            f"the encoder {encoder.name!r} has {encoder.tuning} attached; only the updates of LoRA "
            "and AdaLoRA are sums of matrices, which can be merged."
        )
    from peft.tuners.lora import LoraLayer

    model = encoder.model
    with torch.no_grad():
        for name, layer in [*model.named_modules()]:
            if isinstance(layer, LoraLayer):
                layer.merge()
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, layer.get_base_layer())
    encoder.tuning = None
    attach(encoder, Full())


def _unused(encoder: TextEncoder, tuning: Tuning) -> tuple[str, ...]:
    """How the names of weights begin that the chosen states do not go through."""
    chosen = encoder.layers
    if isinstance(chosen, str) or chosen == encoder.num_layers:
        return UNUSED
    if chosen == 0 and not isinstance(tuning, Full):
        raise ValueError(
            f"the states of the encoder {encoder.name!r} are those of layer 0, the embeddings; "
            f"{tuning} teaches layers above. Choose Full, or other layers."
        )
    above = tuple(f"{name}." for name in _layers(encoder.model)[chosen:])
    return (*UNUSED, *LAST_NORMS, *above)


def _thaw_top(model: nn.Module, count: int, unused: tuple[str, ...]) -> None:
    layers = [name for name in _layers(model) if not f"{name}.".startswith(unused)]
    if count > len(layers):
        raise ValueError(
            f"TopLayers.layers={count}, but the chosen states go through {len(layers)} layers."
        )
    for name in layers[-count:]:
        model.get_submodule(name).requires_grad_(True)


def _layers(model: nn.Module) -> list[str]:
    """Names of the layers: the one list of modules that is as long as the model has layers."""
    depth = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return [f"{name}.{number}" for number in range(depth)]
    raise ValueError(
        f"{type(model).__name__} has no list of {depth} layers; choose LoRA, and the states of all "
        "layers or of the last."
    )


def _linear_layers(
    model: nn.Module,
    families: tuple[tuple[str, ...], ...],
    asked: tuple[str, ...],
    unused: tuple[str, ...],
) -> list[str]:
    """Full names of the layers that end in the names asked for, else in those of a family."""
    found: list[str] = []
    for ends in (asked,) if asked else families:
        found = [
            name
            for name, module in model.named_modules()
            if any(name == end or name.endswith("." + end) for end in ends)
            and hasattr(module, "weight")
            and not name.startswith(unused)
        ]
        if found:
            return found
    expected = asked or " or ".join(map(str, families))
    kinds = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if type(m) is nn.Linear})
    raise ValueError(
        f"{type(model).__name__} has no layer whose name ends in {expected}; its linear layers are "
        f"called {', '.join(kinds)}. Name some in `targets`, where the strategy has them."
    )


def _attach_low_rank(
    model: nn.Module, tuning: LoRA | AdaLoRA, steps: int, seed: int, unused: tuple[str, ...]
) -> AdaptiveRank | None:
    from peft import AdaLoraConfig, LoraConfig
    from peft.tuners.adalora import AdaLoraModel
    from peft.tuners.lora import LoraModel

    from .adaptive import AdaptiveRank

    shared = {
        "target_modules": _linear_layers(model, ATTENTION, tuning.targets, unused),
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(tuning, LoRA):
            LoraModel(model, LoraConfig(r=tuning.rank, **shared), ADAPTER_NAME)
            return None
        config = AdaLoraConfig(
            init_r=tuning.initial_rank,
            target_r=tuning.target_rank,
            total_step=steps,
            tinit=round(tuning.warmup_fraction * steps),
            tfinal=round(tuning.final_fraction * steps),
            deltaT=tuning.every,
            **shared,
        )
        tuner = AdaLoraModel(model, config, ADAPTER_NAME)
    return AdaptiveRank(tuner, tuning.orthogonality)
