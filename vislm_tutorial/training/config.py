"""What a training run is told: one frozen dataclass, and the reader that fills such dataclasses.

No torch here, so that a recipe can be checked before anything heavy is loaded.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

_T = TypeVar("_T")
Schedule = Literal["cosine", "constant", "linear", "trapezoid"]


@dataclass(frozen=True)
class TrainingConfig:
    """Every knob of the loop. A step is one update of the weights.

    Raises:
        ValueError: when a field is outside its range; the message names field, value and range.
    """

    steps: int = 1000  # updates in the whole run, over all its pieces
    batch_size: int = 32  # items a process draws for one forward pass
    gradient_accumulation: int = 1  # forward passes summed into one update
    learning_rate: float = 1e-3  # the peak, reached at the end of the warm-up
    warmup_steps: int = 100  # updates over which the rate climbs linearly to the peak
    schedule: Schedule = "cosine"  # the way down from the peak
    decay_steps: int = 0  # "trapezoid" only: the last updates, in which the rate falls in a line
    final_lr_fraction: float = 0.0  # last rate / peak; not used by "constant"
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adamw"  # see optim.build_optimizer
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's memory of gradients and of their squares
    momentum: float = 0.9  # SGD's and Muon's memory of gradients
    weight_decay: float = 0.01  # on matrices and kernels; never on biases, norms and other vectors
    max_grad_norm: float = 1.0  # gradients longer than this are shortened to it; 0 = left alone
    ema_decay: float = 0.999  # of the averaged weights; ramps up as (1 + n) / (10 + n)
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"  # see precision.choose_precision
    seed: int = 0  # fixes order of the data, noise and dropout of every step
    validate_every: int = 0  # steps between validations; 0 = never
    patience: int = 0  # validations without a new best before stopping; 0 = never stop early
    sample_every: int = 0  # steps between sample grids; 0 = never
    checkpoint_every: int = 500  # steps between checkpoints; 0 = only when train() returns
    keep_checkpoints: int = 2  # newest files kept; 2 leave one to fall back on
    log_every: int = 50  # steps between lines of the log
    trackers: tuple[
        Literal["tensorboard", "wandb"], ...
    ] = ()  # where the log goes besides the file
    # Switches: None chooses by device and says why, see switches.choose_switches.
    tf32: bool | None = None  # float32 products in TF32, on GPUs that have it
    compile: bool | None = None  # torch.compile the networks
    checkpointing: bool | None = None  # compute blocks again in the backward pass, to save memory
    channels_last: bool | None = None  # memory order of convolutions
    fused: bool | None = None  # the optimiser in one kernel
    pin_memory: bool | None = None  # batches in page-locked memory
    num_workers: int = 0  # processes that load data; 0 = the training process itself
    sharding: Literal["ddp", "fsdp"] = "ddp"  # processes hold the whole model each, or a slice
    max_minutes: float = 0.0  # this call stops, resumable, after so many minutes; 0 = no limit

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "gradient_accumulation",
            "keep_checkpoints",
            "log_every",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        for name in ("final_lr_fraction", "ema_decay"):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "each in [0, 1)")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        for name in (
            *(
                "warmup_steps",
                "decay_steps",
                "weight_decay",
                "max_grad_norm",
                "validate_every",
                "patience",
            ),
            *("sample_every", "checkpoint_every", "num_workers", "max_minutes", "seed"),
        ):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        if self.schedule == "trapezoid":
            expected = "at least 1 with schedule 'trapezoid', whose rate falls in these steps"
            self._require("decay_steps", self.decay_steps >= 1, expected)
        for field, hint in _fields(type(self)).items():
            _check(hint, getattr(self, field), f"TrainingConfig.{field}")
        if self.patience and not self.validate_every:
            raise ValueError(
                f"patience={self.patience} counts validations, but validate_every=0 runs none; "
                "set validate_every, or patience=0."
            )
        if self.channels_last and self.sharding == "fsdp":
            raise ValueError(
                "channels_last=True, but sharding is 'fsdp', which keeps slices in plain "
                "order; set ddp, or channels_last=None."
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"TrainingConfig.{name}={getattr(self, name)!r}; expected {expected}.")


def load_dataclass(cls: type[_T], mapping: Mapping[str, Any], where: str) -> _T:
    """A (nested) YAML mapping as the (nested) frozen dataclass it describes.

    Args:
        cls: the dataclass; a field whose type is itself a dataclass takes a mapping.
        mapping: key -> value, as `yaml.safe_load` returns it.
        where: the file or section, for messages ("scenes.yaml").

    Raises:
        ValueError: an unknown key (the nearest known one is named), a missing key, a bad value.
        TypeError: a value of the wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"{where} is {mapping!r}; expected a mapping with the keys of {cls.__name__}: "
            f"{', '.join(_fields(cls))}."
        )
    hints = _fields(cls)
    for key in mapping:
        if key not in hints:
            raise ValueError(f"{where}: unknown key {key!r}. {_suggest(key, hints)}")
    required = [
        field.name
        for field in dataclasses.fields(cls)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in mapping]
    if missing:
        raise ValueError(
            f"{where}: missing key {missing[0]!r}; {cls.__name__} has no default for it."
        )
    return cls(
        **{key: _check(hints[key], value, f"{where}: {key}") for key, value in mapping.items()}
    )


def _fields(cls: type) -> dict[str, Any]:
    """Name -> type of the fields `__init__` takes, with string annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _suggest(key: object, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}Known keys: {', '.join(known)}."


def _check(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint` asks for, or a TypeError/ValueError that starts with `where`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _check_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            choices = {str(choice): None for choice in arguments}
            raise ValueError(
                f"{where} is {value!r}. {_suggest(value, choices)}".replace("keys", "values")
            )
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else load_dataclass(hint, value, where)
    if origin is tuple:
        return _check_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        return dict(_plain(dict, value, where))
    return _plain(origin or hint, value, where)


def _check_union(choices: tuple, value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = {name: choice for choice in choices for name in _kinds(choice)}
    if kinds and isinstance(value, Mapping):
        kind = value.get("kind", next(iter(kinds)))
        if kind not in kinds:
            raise ValueError(f"{where}: kind is {kind!r}. {_suggest(kind, kinds)}")
        return _check(kinds[kind], value, where)
    problems = []
    for choice in choices:
        if choice is not type(None):
            try:
                return _check(choice, value, where)
            except (TypeError, ValueError) as problem:
                problems.append(str(problem))
    raise TypeError(" Or: ".join(problems))


def _kinds(choice: Any) -> tuple[str, ...]:
    """The names that the `kind` field of a dataclass may hold; none without such a field."""
    hint = _fields(choice).get("kind") if dataclasses.is_dataclass(choice) else None
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _check_tuple(arguments: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{where} is {value!r}; expected a list, as in [a, b].")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = arguments[:1] * len(value)
    if len(arguments) != len(value):
        raise ValueError(f"{where} has {len(value)} entries; expected {len(arguments)}.")
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(_check(hint, item, f"{where}[{index}]") for index, (hint, item) in pairs)


def _plain(kind: type, value: Any, where: str) -> Any:
    # YAML 1.1 reads 1e-3 (without a dot) as text: what is plainly a number may be one.
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} is {value!r} ({type(value).__name__}); expected {kind.__name__}.")
    return value
