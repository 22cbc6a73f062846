"""How much a page or a test may spend: `quick` on a slow CPU, `full` on a GPU or when asked."""

from __future__ import annotations

import os
from typing import TypeVar

Value = TypeVar("Value")

PROFILES = ("quick", "full")
VARIABLE = "VISLM_PROFILE"


def profile() -> str:
    """The profile in force, "quick" or "full".

    The environment variable VISLM_PROFILE decides where it is set; otherwise a machine with
    CUDA is "full" and every other one "quick".

    Raises:
        ValueError: if VISLM_PROFILE is set to something else.
    """
    return _profile_and_reason()[0]


def budget(quick: Value, full: Value) -> Value:
    """The value that belongs to the profile in force, e.g. `budget(quick=200, full=20_000)`.

    Raises:
        ValueError: if VISLM_PROFILE is set to an unknown profile.
    """
    return {"quick": quick, "full": full}[profile()]


def describe() -> str:
    """One line for the reader: the profile, why it was chosen, and how to choose the other."""
    chosen, reason = _profile_and_reason()
    other = PROFILES[1 - PROFILES.index(chosen)]
    return f"profile {chosen!r} ({reason}); set {VARIABLE}={other} for the other one"


def _profile_and_reason() -> tuple[str, str]:
    asked = os.environ.get(VARIABLE, "").strip().lower()
    if asked:
        if asked not in PROFILES:
            raise ValueError(
                f"{VARIABLE} is {asked!r}; expected one of {', '.join(PROFILES)}. "
                f"Set it to one of them, or unset it to choose by device."
            )
        return asked, f"{VARIABLE} is set"
    import torch

    if torch.cuda.is_available():
        return "full", "a CUDA device is present"
    return "quick", "no CUDA device"
