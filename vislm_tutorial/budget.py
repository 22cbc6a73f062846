"""How much a page or a test may spend: `quick` on a slow CPU, `full` on a GPU or when asked.

A rehearsal (the variable VISLM_STEPS=n) walks the code of the profile in force with at most n
steps and a few examples, so that a machine without a GPU can tell whether the full run starts.
"""

from __future__ import annotations

import os
from typing import TypeVar

Value = TypeVar("Value")

PROFILES = ("quick", "full")
VARIABLE = "VISLM_PROFILE"
STEPS_VARIABLE = "VISLM_STEPS"
REHEARSED_EXAMPLES = 64  # two batches of 32: enough for every code path, too few to learn from


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


def steps(quick: int, full: int) -> int:
    """How many steps the profile in force trains; in a rehearsal at most VISLM_STEPS.

    Raises:
        ValueError: as `budget`, or if VISLM_STEPS is no whole number above 0.
    """
    chosen, most = budget(quick, full), _rehearsed_steps()
    return chosen if most is None else min(chosen, most)


def examples(quick: int, full: int) -> int:
    """How many pictures, captions or trials the profile in force takes; in a rehearsal at most 64.

    Raises:
        ValueError: as `steps`.
    """
    chosen = budget(quick, full)
    return min(chosen, REHEARSED_EXAMPLES) if rehearsal() else chosen


def rehearsal() -> bool:
    """Whether the run is too short to learn anything, so that nothing may be claimed of quality.

    Raises:
        ValueError: if VISLM_STEPS is no whole number above 0.
    """
    return _rehearsed_steps() is not None


def describe() -> str:
    """One line for the reader: the profile, why it was chosen, and how to choose the other."""
    chosen, reason = _profile_and_reason()
    other = PROFILES[1 - PROFILES.index(chosen)]
    return f"profile {chosen!r} ({reason}); set {VARIABLE}={other} for the other one"


def _rehearsed_steps() -> int | None:
    asked = os.environ.get(STEPS_VARIABLE, "").strip()
    if not asked:
        return None
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(
            f"{STEPS_VARIABLE} is {asked!r}; expected a whole number above 0, the most steps of a "
            "rehearsal. Unset it for a real run."
        )
    return int(asked)


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
