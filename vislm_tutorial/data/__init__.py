"""Pictures with captions: worlds that a program draws, OpenMoji drawings, the reader's own folder.

The world of shapes lies here; `data.panoramas`, `data.phantoms`, `data.products` and `data.styles`
hold those of chapter 6.

A name loads its module (and torch) on first use.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Scene": "scenes",
    "SceneObject": "scenes",
    "sample_scenes": "scenes",
    "render": "rendering",
    "caption": "captions",
    "parse": "parsing",
    "load_folder": "folder",
    "load_openmoji": "openmoji",
    "load_shards": "shards",
    "write_shards": "shards",
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
