"""Condition -> image: families of generators, and the autoencoders they may work behind."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Autoencoder": "autoencoder",
    "AutoencoderConfig": "autoencoder",
    "AutoencoderObjective": "autoencoder",
    "CGAN": "cgan",
    "CGANConfig": "cgan",
    "CVAE": "cvae",
    "CVAEConfig": "cvae",
    "CodeGenerator": "image_gpt",
    "CodebookConfig": "vq",
    "CodebookObjective": "vq",
    "DiT": "dit",
    "FlowConfig": "config",
    "FlowGenerator": "flow",
    "Generator": "base",
    "GeneratorConfig": "config",
    "ImageGPT": "image_gpt",
    "ImageGPTConfig": "image_gpt",
    "PixelCNN": "pixelcnn",
    "PixelCNNConfig": "pixelcnn",
    "UNet": "unet",
    "VQAutoencoder": "vq",
    "as_generator": "config",
    "build_backbone": "config",
    "build_generator": "config",
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
