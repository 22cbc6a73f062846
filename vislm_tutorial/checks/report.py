"""How a check speaks: one line when an answer is right, and a message that names the mistake.

A check says nothing about style. It runs the reader's answer on small inputs, compares with the
right answer first and then with the answers that readers give when they slip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """An answer is not right yet; the message says which mistake it shows."""

    def _render_traceback_(self) -> list[str]:
        # What a notebook shows in the place of a traceback through this package.
        return [f"Not yet. {self}"]


@dataclass(frozen=True)
class Mistake:
    """An answer that is wrong in a known way, and what to say to who gives it."""

    answer: Any
    message: str


def passed(verified: str) -> None:
    """Print the one line of a check that succeeded: what is now known to hold."""
    print(f"Right: {verified}")


def fail(message: str) -> NoReturn:
    """Raise CheckFailed."""
    raise CheckFailed(message)


def require(holds: bool, message: str) -> None:
    """Raise CheckFailed with `message` unless `holds`."""
    if not holds:
        fail(message)


def call(function: Callable, *arguments: Any, may_be_none: bool = False) -> Any:
    """`function(*arguments)`; what it raises becomes a CheckFailed that shows the call.

    A function that returns nothing has most likely lost its `return`, and is told so, unless None
    is an answer (`may_be_none`).
    """
    require(callable(function), f"Pass the function itself, not {_shown(function)}: no brackets.")
    name = getattr(function, "__name__", "the function")
    shown = f"{name}({', '.join(_shown(argument) for argument in arguments)})"
    try:
        answer = function(*arguments)
    except Exception as error:
        raise CheckFailed(f"{shown} raised {type(error).__name__}: {error}") from error
    require(may_be_none or answer is not None, f"{shown} returned None. Does it end in `return`?")
    return answer


def compare(
    answer: Any,
    right: Any,
    mistakes: Sequence[Mistake] = (),
    what: str = "The answer",
    tolerance: float = 1e-5,
) -> None:
    """Accept `right`; otherwise raise CheckFailed, with the message of the mistake that fits.

    Numbers and tensors are equal within `tolerance` (times the size of the right one, if over 1);
    a tensor must also have the right shape. Anything else must be of the same type and equal.
    """
    if _equal(answer, right, tolerance):
        return
    for mistake in mistakes:
        if _equal(answer, mistake.answer, tolerance):
            fail(mistake.message)
    if isinstance(right, Tensor) and _shape(answer) != tuple(right.shape):
        fail(f"{what} is {_shown(answer)}; expected a tensor of shape {tuple(right.shape)}.")
    fail(f"{what} is {_shown(answer)}; expected {_shown(right)}.")


def _equal(answer: Any, other: Any, tolerance: float) -> bool:
    if isinstance(other, Tensor):
        if _shape(answer) != tuple(other.shape):
            return False
        scale = max(1.0, other.abs().max().item())
        return bool((answer.double() - other.double()).abs().max() <= tolerance * scale)
    if isinstance(other, float):
        number = _number(answer)
        if number is None or not math.isfinite(other):
            return number == other
        return abs(number - other) <= tolerance * max(1.0, abs(other))
    if hasattr(answer, "item") and isinstance(other, bool | int):
        answer = _number_or_flag(answer)  # NumPy's and PyTorch's own True and 3
    return type(answer) is type(other) and answer == other


def _number_or_flag(answer: Any) -> Any:
    try:
        return answer.item()
    except (RuntimeError, ValueError):  # more than one element
        return answer


def _number(answer: Any) -> float | None:
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError):
        return None


def _shape(answer: Any) -> tuple[int, ...] | None:
    return tuple(answer.shape) if isinstance(answer, Tensor) else None


def _shown(value: Any) -> str:
    """A value in a message: short, and of a large tensor only the shape."""
    if isinstance(value, Tensor):
        if value.numel() > 6:
            return f"a tensor of shape {tuple(value.shape)}"
        value = torch.round(value.detach().double(), decimals=4).tolist()
    elif callable(value):
        return getattr(value, "__name__", "a function")
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
