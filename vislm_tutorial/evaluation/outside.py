"""Scoring what others wrote: any function that takes captions and a seed and gives pictures."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from .exact_eval import Draw

SLACK = 1.01  # how far values may leave [-1, 1], for rounding


def names_function(name: str) -> bool:
    """Whether a name is meant as "module:function" or "file.py:function", and not as a folder."""
    home, colon, function = name.rpartition(":")
    drive = len(home) == 1 and function[:1] in ("\\", "/")  # C:\runs
    return bool(colon) and not drive and not Path(name).exists()


def load_function(name: str) -> Draw:
    """The function behind "module:function" or "file.py:function", each of its calls checked.

    It takes a list of B captions and a seed and gives (B, 3, H, W) floats in [-1, 1]. An attribute
    `parameters` that is an int says how many numbers it has learned. The current folder, or the
    file's, is searched for modules that it imports.

    Raises:
        FileNotFoundError, ImportError: if there is no such file or module.
        ValueError: if it has no such function.
        TypeError: if that is no function of captions and a seed.
    """
    home, _, function = name.rpartition(":")
    if not home or not function.isidentifier():
        raise ValueError(
            f"{name!r} names no function; expected module:function or file.py:function."
        )
    module = _from_file(Path(home)) if home.endswith(".py") else _from_path(home)
    draw = getattr(module, function, None)
    if draw is None:
        functions = inspect.getmembers(module, inspect.isfunction)
        own = [name for name, f in functions if f.__module__ == module.__name__]
        raise ValueError(f"{home} has no {function!r}; its functions: {', '.join(own) or 'none'}.")
    try:
        inspect.signature(draw).bind([], 0)
    except TypeError:
        raise TypeError(
            f"{name} is not a function of captions and a seed; expected "
            f"def {function}(captions: list[str], seed: int) -> (B, 3, H, W) tensor in [-1, 1]."
        ) from None
    except ValueError:  # written in C: its arguments are not known
        pass
    return checked(draw, name)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a Python file.")
    _search(path.resolve().parent)
    name = f"_outside_{path.stem}"  # an installed module of that name stays what it is
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_path(name: str) -> ModuleType:
    _search(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise ImportError(
                f"there is no module {error.name!r}; expected one that Python finds from here, or "
                "the path of a .py file."
            ) from error
        raise


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def checked(draw: Draw, name: str = "draw") -> Draw:
    """The same function, whose pictures are refused where a score would mean nothing.

    Warns if a whole batch has no value below 0, as pictures in [0, 1] have none, unless an earlier
    batch had one: empty white pictures are not in [0, 1].

    Raises (when called):
        ValueError: if values are not finite, or outside [-1, 1]. Shapes are `evaluate`'s to check.
    """

    signed = False

    def drawn(captions: list[str], seed: int) -> Tensor:
        nonlocal signed
        images = draw(captions, seed)
        if isinstance(images, Tensor) and images.is_floating_point() and images.numel():
            low, high = _range_of(images, name)
            signed = signed or low < 0
            if not signed and high > 0:
                warnings.warn(
                    f"{name} returned no value below 0: pictures in [0, 1] would be scored "
                    "wrongly; make them images * 2 - 1.",
                    stacklevel=1,
                )
        return images

    drawn.parameters = parameters_of(draw)
    return drawn


def _range_of(images: Tensor, name: str) -> tuple[float, float]:
    """The least and the largest value, if a score would mean something."""
    bad = int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
    if bad:
        raise ValueError(
            f"{name} returned NaN or infinite values in {bad} of {len(images)} pictures; expected "
            "values in [-1, 1]."
        )
    low, high = float(images.min()), float(images.max())
    if low < -SLACK or high > SLACK:
        mend = "images / 127.5 - 1" if low >= 0 and high > 2 else "images.clamp(-1, 1)"
        raise ValueError(
            f"{name} returned values from {low:.3g} to {high:.3g}; expected [-1, 1], perhaps "
            f"{mend}."
        )
    return low, high


def parameters_of(drawer: Callable) -> int | None:
    """How many numbers it has learned: its `parameters`, or those of a pipeline's own parts.

    The language model that a pipeline reads with lies beside its parts and is not counted. None
    where the number is not known.
    """
    said = getattr(drawer, "parameters", None)
    if isinstance(said, int):
        return said
    parts = getattr(drawer, "components", None)
    if not isinstance(parts, dict):
        return None
    modules = [part for part in parts.values() if isinstance(part, nn.Module)]
    unique = {id(p): p.numel() for module in modules for p in module.parameters()}
    return sum(unique.values()) or None
