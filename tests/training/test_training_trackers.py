"""TensorBoard and Weights & Biases files appear, with the numbers and the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from torch import nn
from training_toy import Points, Toy

from vislm_tutorial.training import TrainingConfig, trackers, train


def test_both_trackers_write_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "")  # so that what the run sets is undone afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")

    def sample(model: nn.Module, path: Path) -> None:
        Image.new("RGB", (6, 4), (255, 0, 0)).save(path)

    settings = TrainingConfig(
        **{"steps": 4, "batch_size": 4, "log_every": 2, "sample_every": 4},
        trackers=("tensorboard", "wandb"),
    )
    train(Toy(), Points(), settings, tmp_path, sample=sample, progress=False)

    events = [path for path in (tmp_path / "vislm_tutorial").glob("events.out.tfevents.*")]
    assert len(events) == 1
    reader = accumulator.EventAccumulator(str(events[0])).Reload()
    assert [event.step for event in reader.Scalars("loss")] == [2, 4]
    assert reader.Scalars("lr")[-1].value == pytest.approx(4e-5)  # the warm-up is 100 steps long
    pictures = reader.Images("samples")
    assert [(picture.step, picture.width, picture.height) for picture in pictures] == [(4, 6, 4)]

    stored = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(stored) == 1 and stored[0].stat().st_size > 0
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/samples*.png"))


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    settings = TrainingConfig(steps=1, trackers=("wandb",))
    with pytest.raises(ImportError, match="'wandb', which is not installed"):
        train(Toy(), Points(), settings, tmp_path, progress=False)
