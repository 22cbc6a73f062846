"""Condition -> image: flow matching, its backbones, and the autoencoder it may work behind."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Autoencoder": "autoencoder",
    "AutoencoderConfig": "autoencoder",
    "AutoencoderObjective": "autoencoder",
    "BackboneConfig": "config",
    "DiT": "dit",
    "FlowGenerator": "flow",
    "UNet": "unet",
    "build_backbone": "config",
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
