"""The training loop and what it is made of. A public name loads its module on first use."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Checkpoint": "checkpoint",
    "Precision": "precision",
    "StepSampler": "data",
    "TrainingConfig": "config",
    "TrainingResult": "state",
    "choose_precision": "precision",
    "latest": "checkpoint",
    "learning_rate_at": "optim",
    "load_dataclass": "config",
    "train": "loop",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
