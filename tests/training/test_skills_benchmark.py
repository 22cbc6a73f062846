"""benchmarks/skills.py: one run for all marks, and questions that training cannot have answered."""

from __future__ import annotations

from dataclasses import replace

import skills

from vislm_tutorial.data.scenes import held_out_pairs
from vislm_tutorial.training.optim import learning_rate_at


def test_marks_are_evenly_spaced_in_log_steps():
    ratios = [b / a for a, b in zip(skills.MARKS, skills.MARKS[1:], strict=False)]
    assert max(ratios) / min(ratios) < 1.1


def test_a_longer_run_begins_with_the_shorter_one():
    settings = skills.Settings()
    short, long = (skills.recipe_of(settings, steps) for steps in (150, 6800))
    assert replace(short, training=long.training) == long
    assert replace(short.training, steps=6800) == long.training
    rates = [[learning_rate_at(k, r.training) for k in range(150)] for r in (short, long)]
    assert rates[0] == rates[1] and rates[0][-1] == rates[0][100]


def test_the_two_tests_differ_in_their_pairs_alone():
    asked = skills.asked(replace(skills.Settings(), prompts=30))
    pairs = {name: {(w.colour, w.shape) for w in wanted} for name, wanted in asked.items()}
    assert pairs["held_out"] <= held_out_pairs()
    assert not pairs["seen"] & held_out_pairs()
    assert {len(wanted) for wanted in asked.values()} == {30}


def test_perfect_drawings_are_read_as_right():
    counts = skills.ceiling(replace(skills.Settings(), prompts=20))
    assert all(made.get("11111", 0) >= 18 for made in counts.values())
