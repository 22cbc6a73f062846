"""What of a language model learns: all of it, its top, adapters, LoRA, AdaLoRA, or nothing.

`attach` puts a strategy onto an encoder in place; `save_learned` and `load_learned` keep the few
weights that it taught; `merge` folds low-rank updates into the weights that they update.
`low_rank_difference` finds such an update for any two networks, one trained from the other.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "AdaLoRA": "config",
    "AdaptiveRank": "adaptive",
    "Adapter": "adapter",
    "Adapters": "config",
    "Full": "config",
    "LoRA": "config",
    "TopLayers": "config",
    "Tuning": "config",
    "add_difference": "difference",
    "attach": "strategies",
    "learned_size": "storage",
    "learned_state": "storage",
    "load_learned": "storage",
    "low_rank_difference": "difference",
    "merge": "strategies",
    "ranks_left": "adaptive",
    "save_learned": "storage",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
