"""Random numbers for drawing."""

from __future__ import annotations

import torch

from vislm_tutorial.generators.noise import pick


def test_pick_takes_the_class_where_the_running_sum_passes():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().view(1, 4, 1, 1).expand(1, 4, 1, 5)
    numbers = torch.tensor([0.05, 0.15, 0.55, 0.65, 1.0]).view(1, 1, 5)
    assert pick(logits, numbers, 1.0).flatten().tolist() == [0, 1, 2, 3, 3]
    assert pick(logits, numbers, 0.5).flatten().tolist() == [1, 1, 3, 3, 3]  # 1 4 9 16 of 30
    assert pick(logits, numbers, 0).flatten().tolist() == [3] * 5


def test_pick_takes_a_class_a_row():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(4, -1)
    assert pick(logits, torch.tensor([0.1, 0.21, 0.69, 0.99])).tolist() == [0, 1, 1, 2]
    assert pick(logits, torch.tensor([0.001, 0.3, 0.6, 0.999]), 0.01).tolist() == [1] * 4
