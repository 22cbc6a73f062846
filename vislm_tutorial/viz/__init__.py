"""Pictures of pictures: figures, galleries, and explorers that need no running kernel.

A name loads its module (and matplotlib) on first use.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "show_images": "figures",
    "plot_curve": "figures",
    "bar_with_intervals": "figures",
    "style": "figures",
    "gallery": "gallery",
    "frames_explorer": "explorer",
    "mask_painter": "painter",
    "panorama_viewer": "panorama",
    "product_sheet": "product_sheet",
    "drawing_widget": "widget",
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
