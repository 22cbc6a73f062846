"""caption -> TextStates: pretrained language models, their random twins, and a disk cache.

`TokenReader` takes the cache's place where the language model learns too.

Beside them, a language model that writes captions (`load_writer`).
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "load_encoder": "pretrained",
    "TextEncoder": "base",
    "CachedEncoder": "cache",
    "TokenReader": "learning",
    "InstructionWriter": "instructions",
    "load_writer": "instructions",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
