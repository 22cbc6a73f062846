"""The one interface of every encoder: captions in, the states of a transformer's layers out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..types import TextStates

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..tuning import Tuning

Layers = str | int  # "last", "mean", "plain mean" or the number of a layer


class TextEncoder:
    """A transformer language model that turns captions into per-token states.

    Args:
        name: how the encoder was asked for, e.g. "minilm".
        model: a transformers model without a task head; put in eval mode.
        tokenizer: its tokenizer.
        weights_id: what tells these weights from all others (part of the fingerprint).
        layers: which states to hand out.
            "last": those after the last layer, as the model's own head would see them.
            k (int): those after layer k of N, 0 being the embeddings before the first layer.
            "mean": each layer's states normalised over the width (no learned scale), then averaged
            over layers 1..N; the best of the choices compared in arXiv 2506.08210.
            "plain mean": averaged as they are.
        max_length: the most tokens a caption keeps, special tokens included.

    Attributes:
        width: D_lm, the width of the states.
        num_layers: N.
        fingerprint: equal for two encoders only if they give the same states; fit for a file name.
        tuning: what of its weights was taught with a generator (`tuning.attach`); None: nothing, so
            every machine finds them by name.
        learned: names of the model's weights that are taught.

    Raises:
        ValueError: if `layers` or `max_length` is not one the model has.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        weights_id: str,
        layers: Layers = "last",
        max_length: int = 64,
    ) -> None:
        self.name = name
        self.tuning: Tuning | None = None
        self.learned: tuple[str, ...] = ()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.width: int = model.config.hidden_size
        self.num_layers: int = model.config.num_hidden_layers
        self.layers = _checked_layers(layers, self.num_layers)
        self.max_length = _checked_max_length(max_length, model.config.max_position_embeddings)
        # A decoder's tokenizer adds nothing, so the empty caption would have no state at all.
        # Its start token gives it one, and keeps the first word off position 0, on which
        # decoders park attention that has nowhere to go.
        adds_special_tokens = len(tokenizer("")["input_ids"]) > 0
        self._prefix = [] if adds_special_tokens else [_start_token(tokenizer)]
        readable = f"{name}-{weights_id}-{layers}-{max_length}"
        self.fingerprint = re.sub(r"[^A-Za-z0-9.-]+", "-", readable)

    @property
    def device(self) -> torch.device:
        """Where the model is, and where the states will be."""
        return next(self.model.parameters()).device

    def encode(self, captions: Sequence[str]) -> TextStates:
        """The states of B captions, without gradients.

        Captions are run in groups of similar length, so long lists cost no more than they must.

        Args:
            captions: B strings; "" is legal and stands for "no caption". What exceeds
                `max_length` tokens is cut off with one warning.

        Returns:
            TextStates with (B, L, D_lm) float32 states, L the longest caption's tokens.

        Raises:
            TypeError: if `captions` is a single string or holds something other than strings.
            ValueError: if it is empty, or a caption is not valid Unicode text.
        """
        return self.encode_ids(self.tokenize(captions))

    def tokenize(self, captions: Sequence[str]) -> list[list[int]]:
        """The token ids of each caption, cut to `max_length`. Raises as `encode` does."""
        captions = check_captions(captions)
        room = self.max_length - len(self._prefix)
        ids = self.tokenizer(captions, truncation=True, max_length=room)["input_ids"]
        full = [caption for caption, kept in zip(captions, ids, strict=True) if len(kept) == room]
        if full:
            self._warn_if_cut(full, room)
        return [self._prefix + kept for kept in ids]

    @torch.no_grad()
    def encode_ids(self, ids: Sequence[Sequence[int]], batch_size: int = 64) -> TextStates:
        """The states of B tokenised captions (see `tokenize`), `batch_size` at a time."""
        longest = max(len(kept) for kept in ids)
        states = torch.zeros(len(ids), longest, self.width, device=self.device)
        mask = torch.zeros(len(ids), longest, dtype=torch.bool, device=self.device)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch_ids, batch_mask = self._padded([ids[row] for row in rows])
            length = batch_mask.shape[1]
            states[rows, :length] = self.forward(batch_ids, batch_mask).float()
            mask[rows, :length] = batch_mask
        return TextStates(states, mask)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The chosen states, with gradients if they are enabled.

        Args:
            input_ids: (B, L) int64, padded on the right.
            attention_mask: (B, L) bool, True at real tokens.

        Returns:
            (B, L, D_lm), zero at padding.
        """
        every_layer = self.every_layer(input_ids, attention_mask)
        if self.layers == "last":
            states = every_layer[-1]
        elif self.layers == "mean":
            states = normalised_mean(every_layer[1:])
        elif self.layers == "plain mean":
            states = torch.stack(every_layer[1:]).mean(dim=0)
        else:
            states = every_layer[self.layers]
        return states * attention_mask[..., None]

    def every_layer(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """As `forward`, the states of all layers: N + 1 tensors (B, L, D_lm), embeddings first."""
        return _hidden_states(self.model, input_ids, attention_mask)

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        # Padding is done here, on the right, since decoders' tokenizers pad on the left or have
        # no padding token. Which id fills the gap is of no consequence: the mask hides it.
        lengths = torch.tensor([len(kept) for kept in ids])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]  # (B, L)
        padded = torch.zeros(mask.shape, dtype=torch.long)
        padded[mask] = torch.tensor([token for kept in ids for token in kept])
        return padded.to(self.device), mask.to(self.device)

    def _warn_if_cut(self, captions: list[str], room: int) -> None:
        lengths = [len(kept) for kept in self.tokenizer(captions, verbose=False)["input_ids"]]
        cut = sum(length > room for length in lengths)
        if cut:
            warnings.warn(
                f"{cut} caption(s) are longer than max_length={self.max_length} tokens (the "
                f"longest has {max(lengths) + len(self._prefix)}) and were cut. Shorten them or "
                "load the encoder with a larger max_length.",
                stacklevel=4,
            )


def check_captions(captions: Sequence[str]) -> list[str]:
    """`captions` as a list.

    Raises:
        TypeError: if it is a single string or holds something other than strings.
        ValueError: if it is empty, or a caption is not valid Unicode text.
    """
    if isinstance(captions, str):
        raise TypeError(
            f"captions is the single string {captions[:60]!r}; expected a list of strings. "
            "Put it in a list: [caption]."
        )
    captions = list(captions)
    if not captions:
        raise ValueError(
            'captions is empty; expected at least one string. For "no caption" pass [""].'
        )
    for position, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(
                f"captions[{position}] is {caption!r}, a {type(caption).__name__}; expected a "
                'string. A missing caption is "", a number becomes one with str(...).'
            )
        if not caption.isascii():
            _check_unicode(caption, position)
    return captions


def normalised_mean(layers: Sequence[Tensor]) -> Tensor:
    """Each layer's states (B, L, D_lm) layer-normalised without learned scale, then averaged.

    Later layers of a decoder have norms a hundred times those of early ones; a plain mean would
    be the last layers' alone. Source: arXiv 2506.08210.
    """
    width = layers[0].shape[-1:]
    return sum(functional.layer_norm(states, width) for states in layers) / len(layers)


def _hidden_states(model: nn.Module, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """The embeddings and the states after each layer, N + 1 tensors (B, L, D_lm).

    The one place that knows transformers' output: the keyword form of the call, an output object
    read by attribute, and an integer mask hold for versions 4 and 5.
    """
    output = model(
        input_ids=input_ids,
        attention_mask=mask.long(),
        output_hidden_states=True,
        return_dict=True,
    )
    return tuple(output.hidden_states)


def _start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ValueError(
        f"the tokenizer of {tokenizer.name_or_path!r} has neither a start nor an end token, so an "
        "empty caption cannot be encoded; choose a model whose tokenizer has one."
    )


def _checked_layers(layers: Layers, num_layers: int) -> Layers:
    is_number = isinstance(layers, int) and not isinstance(layers, bool)
    if layers in ("last", "mean", "plain mean") or (is_number and 0 <= layers <= num_layers):
        return layers
    raise ValueError(
        f'layers is {layers!r}; expected "last", "mean", "plain mean" or a whole number from 0 '
        f"(embeddings) to {num_layers} (this model's last layer)."
    )


def _checked_max_length(max_length: int, positions: int) -> int:
    if isinstance(max_length, int) and 4 <= max_length <= positions:
        return max_length
    raise ValueError(
        f"max_length is {max_length!r}; expected a whole number from 4 to {positions}, the most "
        "positions this model has."
    )


def _check_unicode(caption: str, position: int) -> None:
    try:
        caption.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"captions[{position}] is {caption!r}, which is no valid Unicode text ({error.reason} "
            f"at character {error.start}); read the file it comes from as UTF-8."
        ) from error
