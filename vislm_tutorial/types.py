"""The records that cross a border: states out of an encoder, a condition out of a fusion.

    caption --> encoders --> TextStates --> fusion --> Condition --> generators --> image

Letters: B batch, L caption tokens, M condition tokens, D_lm width of the language model,
D width of the generator. Masks are True where a token is real and False where it is padding.
A condition is a `Condition`, or a `TimedCondition`, which is another one at each step of a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

_Record = TypeVar("_Record", bound="_BatchRecord")


class _BatchRecord:
    """What both records share: a length, rows by index, moving to a device, joining batches."""

    def _check_states_and_mask(self, states: Tensor, mask: Tensor) -> None:
        kind = type(self).__name__
        if states.ndim != 3 or not states.is_floating_point():
            raise ValueError(
                f"{kind}.encoder_hidden_states is {states.dtype} of shape {tuple(states.shape)}; "
                "expected floating point of shape (B, tokens, width). "
                "For a single caption add the batch axis with states[None]."
            )
        if mask.shape != states.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"{kind}.encoder_attention_mask is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"expected torch.bool of shape {tuple(states.shape[:2])}, True at real tokens. "
                "An integer mask becomes one with mask.bool()."
            )

    def __len__(self) -> int:
        """The number of captions B."""
        return self.encoder_hidden_states.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.encoder_hidden_states.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        return self.encoder_hidden_states.dtype

    def __getitem__(self: _Record, rows: slice | Tensor) -> _Record:
        """The rows a slice, a LongTensor (n,) of positions or a BoolTensor (B,) selects.

        Raises:
            TypeError: for anything else; a single row is `states[i : i + 1]`.
        """
        is_index = isinstance(rows, Tensor) and rows.ndim == 1
        if not isinstance(rows, slice) and not (
            is_index and rows.dtype in (torch.int64, torch.bool)
        ):
            raise TypeError(
                f"{type(self).__name__} was indexed with {rows!r}; expected a slice or a 1-D "
                "LongTensor or BoolTensor, so that the batch axis stays. One row is [i : i + 1]."
            )
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(
        self: _Record,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> _Record:
        """A copy on `device`, its floating tensors as `dtype`; masks stay bool. None: unchanged.

        `non_blocking`: the program goes on while a GPU fetches the tensors from pinned memory.
        """
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            new_dtype = dtype if value.is_floating_point() else None
            moved[field.name] = value.to(device=device, dtype=new_dtype, non_blocking=non_blocking)
        return type(self)(**moved)

    def pin_memory(self: _Record) -> _Record:
        """A copy in page-locked memory; torch's DataLoader looks for a method of this name."""
        return type(self)(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    @classmethod
    def _cat(cls: type[_Record], parts: Sequence[_Record]) -> _Record:
        parts = list(parts)
        if not parts:
            raise ValueError(f"{cls.__name__}.cat got an empty list; expected at least one record.")
        for part in parts:
            if not isinstance(part, cls):
                raise TypeError(
                    f"{cls.__name__}.cat got a {type(part).__name__}; "
                    f"every part must be a {cls.__name__}."
                )
        widths = sorted({part.encoder_hidden_states.shape[2] for part in parts})
        if len(widths) > 1:
            raise ValueError(
                f"{cls.__name__}.cat got widths {widths}; expected one. "
                "Join only what the same encoder or fusion made."
            )
        longest = max(part.encoder_hidden_states.shape[1] for part in parts)
        joined = {}
        for field in fields(cls):
            tensors = [getattr(part, field.name) for part in parts]
            if field.name != "pooled_projections":  # (b, tokens, ...) -> (b, longest, ...)
                tensors = [_pad_tokens(tensor, longest) for tensor in tensors]
            joined[field.name] = torch.cat(tensors)
        return cls(**joined)


def _pad_tokens(tensor: Tensor, length: int) -> Tensor:
    """Zeros (False in a mask) appended along axis 1: (b, tokens, ...) -> (b, length, ...)."""
    missing = length - tensor.shape[1]
    if missing == 0:
        return tensor
    padding = tensor.new_zeros((tensor.shape[0], missing, *tensor.shape[2:]))
    return torch.cat([tensor, padding], dim=1)


# eq=False: comparing tensors gives a tensor, so a generated == could only fail.
@dataclass(frozen=True, eq=False)
class TextStates(_BatchRecord):
    """What a language model knows about B captions, token by token.

    Attributes:
        encoder_hidden_states: (B, L, D_lm) floating point, unbounded; zeros at padding.
        encoder_attention_mask: (B, L) bool, True at real tokens.

    Raises:
        ValueError: if shapes or dtypes differ from these.
    """

    encoder_hidden_states: Tensor
    encoder_attention_mask: Tensor

    def __post_init__(self) -> None:
        self._check_states_and_mask(self.encoder_hidden_states, self.encoder_attention_mask)

    @staticmethod
    def cat(parts: Sequence[TextStates]) -> TextStates:
        """The captions of all parts in order; shorter parts are padded with masked zeros.

        Raises:
            ValueError: if `parts` is empty or the widths differ.
            TypeError: if a part is not a TextStates.
        """
        return TextStates._cat(parts)


@dataclass(frozen=True, eq=False)
class Condition(_BatchRecord):
    """What a generator receives for B captions: a sequence to attend to and one vector.

    Attributes:
        encoder_hidden_states: (B, M, D) floating point; zeros at padding.
        encoder_attention_mask: (B, M) bool, True at real tokens.
        pooled_projections: (B, D) floating point, the caption in one vector.

    Raises:
        ValueError: if shapes or dtypes differ from these.
    """

    encoder_hidden_states: Tensor
    encoder_attention_mask: Tensor
    pooled_projections: Tensor

    def __post_init__(self) -> None:
        states, pooled = self.encoder_hidden_states, self.pooled_projections
        self._check_states_and_mask(states, self.encoder_attention_mask)
        expected = (states.shape[0], states.shape[2])
        if tuple(pooled.shape) != expected or not pooled.is_floating_point():
            raise ValueError(
                f"Condition.pooled_projections is {pooled.dtype} of shape {tuple(pooled.shape)}; "
                f"expected floating point of shape {expected}: one vector a caption, "
                "as wide as the token states."
            )

    def at(self, timestep: Tensor) -> Condition:
        """Itself, at every timestep (B,) in [0, 1000]; see `TimedCondition.at`."""
        return self

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """The captions of all parts in order; shorter parts are padded with masked zeros.

        Raises:
            ValueError: if `parts` is empty or the widths differ.
            TypeError: if a part is not a Condition.
        """
        return Condition._cat(parts)


@dataclass(frozen=True, eq=False)
class TimedCondition:
    """A condition that depends on the flow's time: B captions, to be read anew at each step.

    Its rows, `to` and `cat` are those of `states`; the fusion's weights stay where they are.

    Attributes:
        states: of B captions.
        fuse: the states and a timestep (B,) in [0, 1000] -> Condition; a method of the fusion.
    """

    states: TextStates
    fuse: Callable[[TextStates, Tensor], Condition]

    def at(self, timestep: Tensor) -> Condition:
        """What the generator receives at `timestep`, (B,) in [0, 1000]."""
        return self.fuse(self.states, timestep)

    def __len__(self) -> int:
        """The number of captions B."""
        return len(self.states)

    @property
    def device(self) -> torch.device:
        """Where the states are."""
        return self.states.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        return self.states.dtype

    def __getitem__(self, rows: slice | Tensor) -> TimedCondition:
        """The rows that `rows` selects, as in `Condition`."""
        return replace(self, states=self.states[rows])

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> TimedCondition:
        """A copy with its states on `device` and as `dtype`. None: unchanged."""
        return replace(self, states=self.states.to(device, dtype))

    @staticmethod
    def cat(parts: Sequence[TimedCondition]) -> TimedCondition:
        """The captions of all parts in order; shorter parts are padded with masked zeros.

        Raises:
            ValueError: if `parts` is empty, the widths differ, or they are not of one fusion.
            TypeError: if a part is not a TimedCondition.
        """
        parts = list(parts)
        for part in parts:
            if not isinstance(part, TimedCondition):
                raise TypeError(
                    f"TimedCondition.cat got a {type(part).__name__}; every part must be a "
                    "TimedCondition, so take captions and the empty caption from one fusion."
                )
            if part.fuse != parts[0].fuse:
                raise ValueError(
                    f"TimedCondition.cat got parts with different fuse, {parts[0].fuse} and "
                    f"{part.fuse}. Join only what the same fusion made."
                )
        states = TextStates.cat([part.states for part in parts])  # which refuses an empty list
        return replace(parts[0], states=states)

    def __getattr__(self, name: str) -> None:
        # Only for what is not there. All generators but a flow ask for these at once.
        if name in (field.name for field in fields(Condition)):
            raise TypeError(
                f"a TimedCondition has {name} at a timestep only (`condition.at(timestep)`), and "
                "among generators only a flow has timesteps. For another one choose the fusion "
                "pooled, projector, resampler or queries."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
