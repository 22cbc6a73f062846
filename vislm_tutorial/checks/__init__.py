"""Checks of the book's exercises, one module a chapter; a name loads its module on first use.

A check takes the reader's answer. It prints one line that says what was verified, or raises
`CheckFailed` with a message that names the mistake.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "CheckFailed": "report",
    "check_above": "practice_runs",
    "check_average": "practice_runs",
    "check_calls": "practice_runs",
    "check_centre_square": "practice",
    "check_drop": "practice_runs",
    "check_epochs": "practice_runs",
    "check_guide": "background",
    "check_half_precision": "practice",
    "check_interval": "practice_runs",
    "check_leaks": "practice",
    "check_masked_mean": "background",
    "check_metadata": "practice",
    "check_noisy": "practice",
    "check_number_of_captions": "background",
    "check_overall": "practice_runs",
    "check_psnr": "practice",
    "check_read_label": "background",
    "check_same_scene": "practice",
    "check_shows": "background",
    "check_training_bytes": "practice",
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
