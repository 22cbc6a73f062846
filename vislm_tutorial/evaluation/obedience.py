"""Does a picture show what its caption says? Part by part, for each world that can be read back."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor

from .control import share
from .exact_eval import Draw
from .scores import Score

ALL = "all"  # the share of pictures in which every part is right


def part_scores(judgements: Sequence[Mapping[str, bool]]) -> dict[str, Score]:
    """The share of pictures that are right, `ALL` first, then part by part.

    Args:
        judgements: of each picture, whether each of its parts is as asked. A part that a picture
            has not been asked for may be left out, and does not count.

    Raises:
        ValueError: if there is no picture.
    """
    if not judgements:
        raise ValueError("there is no judgement to average; judge at least one picture.")
    parts = dict.fromkeys(part for judged in judgements for part in judged)
    scores = {ALL: share([all(judged.values()) for judged in judgements])}
    for part in parts:
        holds = [judged[part] for judged in judgements if part in judged]
        scores[part] = share(holds)
    return scores


def obedience(
    draw: Draw, world: ModuleType, things: Sequence, seed: int = 0, batch_size: int = 32
) -> tuple[dict[str, Score], Tensor, list]:
    """Draw things of a world by their captions alone, read the pictures back, and compare.

    Args:
        draw: (captions, seed) -> (B, 3, H, W) in [-1, 1].
        world: a module with `caption(thing, rng)`, `read(images)` and `judge(thing, reading)`, as
            `data.panoramas` has them.
        things: N of them.
        seed: of the captions' wording and of the pictures' noise.
        batch_size: captions that are drawn at a time.

    Returns:
        The scores, the pictures (N, 3, H, W), and what was read in each.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if not things:
        raise ValueError("there is nothing to draw; expected one thing of the world or more.")
    rng = random.Random(seed)
    captions = [world.caption(thing, rng) for thing in things]
    images = torch.cat(
        [
            draw(captions[start : start + batch_size], seed + start)
            for start in range(0, len(captions), batch_size)
        ]
    )
    readings = world.read(images)
    return part_scores(list(map(world.judge, things, readings))), images, readings
