"""TextStates -> Condition: the networks between a language model and a generator."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "FusionConfig": "config",
    "PooledFusion": "networks",
    "ProjectorFusion": "networks",
    "QueryFusion": "resamplers",
    "ResamplerFusion": "resamplers",
    "TimestepResamplerFusion": "resamplers",
    "build_fusion": "config",
    "standardise": "networks",
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
