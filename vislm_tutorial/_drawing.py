"""What may be asked of the pipeline: each argument checked, each answer in the form asked for."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    SchedulerMixin,
)
from torch import Tensor

from .data.images import to_pils
from .encoders.base import check_captions
from .generators import Generator

FLOW_SHIFT = 3.0  # above 1: more of the steps at high noise, where it is decided what stands where
OUTPUT_TYPES = ("pil", "pt", "np")
MAX_IMAGES = 256  # a call; more at once would fill the memory, not save time


def stochastic_scheduler(flow_shift: float = FLOW_SHIFT) -> SchedulerMixin:
    """Ancestral sampling: part of the noise is drawn afresh in each step.

    x' = (1 - s') x_0 + s' (k eps + sqrt(1 - k^2) fresh) with x_0 and eps as guessed at level s, and
    k = s' (1 - s) / (s (1 - s')) (Ho et al. 2020, eq. 7, at a flow's noise levels). `flow_shift` m
    moves each of n equally spaced levels s to m s / (1 + (m - 1) s) (Esser et al. 2024, eq. 23).
    """
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
        algorithm_type="sde-dpmsolver++",
        solver_order=1,
    )


SCHEDULERS = {  # by name; each takes the shift of the noise levels
    "euler": lambda shift: FlowMatchEulerDiscreteScheduler(shift=shift),
    "heun": lambda shift: FlowMatchHeunDiscreteScheduler(shift=shift),
    "stochastic": stochastic_scheduler,
}


def checked_prompts(prompt: str | Sequence[str]) -> list[str]:
    """One caption or several as a list."""
    if isinstance(prompt, str):
        return check_captions([prompt])
    if not isinstance(prompt, (list, tuple)):
        raise TypeError(
            f"prompt is {prompt!r}, a {type(prompt).__name__}; expected a string or a list of them."
        )
    return check_captions(prompt)


def checked_settings(family: Generator, asked: dict[str, float | None]) -> dict[str, float]:
    """The family's settings with those in their place that were asked for (not None).

    Raises:
        TypeError, ValueError: for one that the family does not have, or out of its range.
    """
    chosen = {name: value for name, value in asked.items() if value is not None}
    for name, value in chosen.items():
        if name not in family.settings:
            known = ", ".join(family.settings) or "none"
            raise ValueError(
                f"{name} is {value!r}, but a {type(family).__name__} has no such setting; "
                f"it has {known}."
            )
        if name == "num_inference_steps":
            chosen[name] = at_least_one(value, name)
        else:
            chosen[name] = _not_negative(value, name, family.settings[name])
    return family.settings | chosen


def _not_negative(value: float, name: str, default: float) -> float:
    """A finite number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; expected a number, say {default}.")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"{name} is {value}; expected a finite number of 0 or more, say {default}."
        )
    return float(value)


def at_least_one(value: int, name: str) -> int:
    """A whole number of 1 or more."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected a whole number of 1 or more.")
    return number


def check_number(images: int) -> None:
    """At most `MAX_IMAGES`."""
    if images > MAX_IMAGES:
        raise ValueError(
            f"{images} images were asked for at once; expected at most {MAX_IMAGES}. "
            "Call the pipeline several times with parts of the captions."
        )


def check_output_type(output_type: str) -> None:
    """One of `OUTPUT_TYPES`."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(
            f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}."
        )


def chosen_scheduler(asked: str | SchedulerMixin | None, own: SchedulerMixin) -> SchedulerMixin:
    """The scheduler that was asked for by name or given; None: the pipeline's `own`."""
    if isinstance(asked, str):
        if asked not in SCHEDULERS:
            raise ValueError(
                f"scheduler is {asked!r}; expected one of {', '.join(SCHEDULERS)}, "
                "or a flow-matching scheduler of diffusers."
            )
        shift = own.config.get("shift", own.config.get("flow_shift", 1.0))
        return SCHEDULERS[asked](shift)
    scheduler = own if asked is None else asked
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if not name.startswith("FlowMatch") and config.get("prediction_type") != "flow_prediction":
        raise ValueError(
            f"scheduler is a {name}, which does not follow a flow's velocity; expected "
            f"{', '.join(SCHEDULERS)}, a FlowMatch... scheduler of diffusers, or one with "
            "prediction_type='flow_prediction', use_flow_sigmas=True."
        )
    return scheduler


def converted(images: Tensor, output_type: str):
    """(B, 3, H, W) in [-1, 1] in the form asked for."""
    if output_type == "pt":
        return images
    if output_type == "np":  # (B, 3, H, W) in [-1, 1] -> (B, H, W, 3) in [0, 1]
        return images.float().add(1).div(2).permute(0, 2, 3, 1).cpu().numpy()
    return to_pils(images)
