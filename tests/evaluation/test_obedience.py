"""What a picture shows against what was asked, part by part."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vislm_tutorial.evaluation.obedience import ALL, obedience, part_scores


def test_parts_that_were_not_asked_for_do_not_count():
    judged = [{"side": True, "size": True}, {"side": True, "size": False}, {"side": False}, {}]
    scores = part_scores(judged)
    assert list(scores) == [ALL, "side", "size"]
    assert scores[ALL].value == 0.5  # the first, and the last, of which nothing was asked
    assert scores["side"].value == pytest.approx(2 / 3) and scores["side"].n == 3
    assert scores["size"].value == 0.5 and scores["size"].n == 2
    with pytest.raises(ValueError, match="at least one picture"):
        part_scores([])


def test_a_world_of_grey_levels_is_drawn_read_and_judged():
    """A drawer that hears every caption but the third, "2"."""
    world = SimpleNamespace(
        caption=lambda thing, rng: str(thing),
        read=lambda images: images.mean(dim=(1, 2, 3)).mul(10).round().int().tolist(),
        judge=lambda asked, reading: {"level": asked == reading},
    )
    seen = []

    def draw(captions, seed):
        seen.append((list(captions), seed))
        levels = torch.tensor([0.0 if c == "2" else float(c) / 10 for c in captions])
        return levels[:, None, None, None].expand(-1, 3, 4, 4)

    scores, images, readings = obedience(draw, world, list(range(5)), seed=7, batch_size=2)
    assert seen == [(["0", "1"], 7), (["2", "3"], 9), (["4"], 11)]
    assert images.shape == (5, 3, 4, 4) and readings == [0, 1, 0, 3, 4]
    assert scores[ALL].value == scores["level"].value == 0.8
    with pytest.raises(ValueError, match="nothing to draw"):
        obedience(draw, world, [])
