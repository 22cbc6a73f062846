"""How well pictures match captions, measured exactly. A name loads its module on first use."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "ALL_TASKS": "prompts",
    "CONCEPT_TASKS": "concepts",
    "Clause": "clauses",
    "EvalResult": "report",
    "GENEVAL_TASKS": "prompts",
    "GROUPS": "prompts",
    "OUR_TASKS": "prompts",
    "Prompt": "clauses",
    "TASKS": "prompts",
    "VERSION": "clauses",
    "ceiling": "exact_eval",
    "compare": "comparison",
    "evaluate": "exact_eval",
    "judge": "exact_eval",
    "leaderboard_page": "leaderboard",
    "load_function": "outside",
    "load_results": "leaderboard",
    "prompt_hash": "clauses",
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
