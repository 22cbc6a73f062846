"""A caption becomes an image: language models as conditions for image generators.

Importing the package is cheap: a public name loads its module (and torch) on first use.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "VisLMPipeline": "pipeline",
    "load_encoder": "encoders",
    "Scene": "data.scenes",
    "TextStates": "types",
    "Condition": "types",
    "TimedCondition": "types",
}

__all__ = [
    "Condition",
    "Scene",
    "TextStates",
    "TimedCondition",
    "VisLMPipeline",
    "__version__",
    "load_encoder",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
