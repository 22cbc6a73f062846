"""Where a picture attends to which token of its caption, recorded while it is drawn (page 2.3).

    with watch_attention(pipe.backbone) as seen:
        images = pipe(captions, output_type="pt").images
    maps = seen.maps(len(captions))  # (steps, B, M, h, w)

Weights of all heads and layers are averaged on one grid, as in DAAM (Tang et al. 2023). A map says
what was looked up where, and not what it was good for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vislm_tutorial.blocks import Attention


def attention_weights(
    attention: Attention, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """What `attention(x, context, mask)` weighs its values with: (B, heads, N, M), rows sum to 1.

    Args:
        attention: a cross-attention.
        x: (B, N, D) queries, as they are given to it.
        context: (B, M, D_c) what they read.
        mask: (B, M), True where they may look; None: everywhere.
    """

    def split(y: Tensor) -> Tensor:  # (B, N, D) -> (B, heads, N, D/heads)
        return y.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    query = attention.norm_q(split(attention.to_q(x)))
    key = attention.norm_k(split(attention.to_kv(context).chunk(2, dim=-1)[0]))
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    return scores.softmax(dim=-1)


class AttentionRecord:
    """What `watch_attention` has seen: by call of the backbone, a grid of weights a layer."""

    def __init__(self) -> None:
        self.calls: list[list[Tensor]] = []  # each layer's (B, M, h, w)

    def maps(self, rows: int) -> Tensor:
        """The mean over heads and layers, (calls, rows, M, h, w) on the finest layer's grid.

        At each cell the M weights sum to 1.

        Args:
            rows: of the batch, the first so many. Under guidance the captions come first and the
                empty caption, once for each of them, after them.

        Raises:
            ValueError: if the backbone was not called, or with fewer rows.
        """
        if not self.calls:
            raise ValueError("No call of the backbone was seen: draw inside the `with` block.")
        seen = min(len(layer) for layers in self.calls for layer in layers)
        if not 1 <= rows <= seen:
            raise ValueError(f"rows is {rows}; expected 1 to {seen}, as many as were drawn.")
        side = max(layer.shape[-1] for layers in self.calls for layer in layers)
        return torch.stack(
            [
                torch.stack([_resized(layer[:rows], side) for layer in layers]).mean(dim=0)
                for layers in self.calls
            ]
        )


def _resized(grid: Tensor, side: int) -> Tensor:
    return F.interpolate(grid, size=(side, side), mode="nearest")


@contextmanager
def watch_attention(backbone: nn.Module) -> Iterator[AttentionRecord]:
    """Record every cross-attention of a U-Net or DiT, for the duration of the `with` block.

    Raises:
        ValueError: if there is none, as in a backbone that reads its caption as a prefix.
    """
    layers = [
        m.attn2 for m in backbone.modules() if isinstance(getattr(m, "attn2", None), Attention)
    ]
    if not layers:
        raise ValueError(
            f"this {type(backbone).__name__} has no cross-attention to watch; "
            'choose a backbone built with conditioning="cross".'
        )
    record = AttentionRecord()

    def begin(module: nn.Module, arguments: tuple) -> None:
        record.calls.append([])

    @torch.no_grad()
    def note(module: Attention, arguments: tuple, output: Tensor) -> None:
        weights = attention_weights(module, *arguments).mean(dim=1)  # (B, N, M)
        side = isqrt(weights.shape[1])
        record.calls[-1].append(weights.transpose(1, 2).unflatten(2, (side, side)).cpu())

    hooks = [backbone.register_forward_pre_hook(begin)]
    hooks += [layer.register_forward_hook(note) for layer in layers]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()
