"""How well pictures match captions, measured exactly. A name loads its module on first use."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Clause": "prompts",
    "EvalResult": "report",
    "GENEVAL_TASKS": "prompts",
    "OUR_TASKS": "prompts",
    "Prompt": "prompts",
    "TASKS": "prompts",
    "ceiling": "exact_eval",
    "evaluate": "exact_eval",
    "judge": "exact_eval",
    "prompts_for": "prompts",
    "scene_for": "prompts",
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
