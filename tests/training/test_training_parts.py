"""What the loop is made of: settings, precision, order of the data, learning rate, checkpoints."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

import vislm_tutorial
from vislm_tutorial.training import (
    Checkpoint,
    StepSampler,
    TrainingConfig,
    checkpoint,
    choose_precision,
    learning_rate_at,
    load_dataclass,
)
from vislm_tutorial.training.ema import AveragedWeights, averaged
from vislm_tutorial.training.optim import build_optimizer

# Settings


@dataclass(frozen=True)
class Inner:
    width: int
    kind: Literal["unet", "dit"] = "dit"
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    training: TrainingConfig = TrainingConfig()
    name: str | None = None


def test_a_nested_mapping_becomes_dataclasses():
    mapping = {
        "inner": {"width": 8, "kind": "unet", "rates": [1, "1e-3"]},
        "training": {"steps": 5, "learning_rate": "3e-4", "betas": [0.9, 0.95]},
        "name": None,
    }
    training = TrainingConfig(steps=5, learning_rate=3e-4, betas=(0.9, 0.95))
    assert load_dataclass(Outer, mapping, "r.yaml") == Outer(
        Inner(8, "unet", (1.0, 1e-3)), training
    )


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        ({"inner": {"widht": 8}}, ValueError, "r.yaml: inner: unknown key 'widht'.*'width'"),
        ({"trainign": {}}, ValueError, "unknown key 'trainign'. Did you mean 'training'"),
        ({"inner": {}}, ValueError, "inner: missing key 'width'"),
        ({"inner": {"width": "8"}}, TypeError, r"inner: width is '8' \(str\); expected int"),
        ({"inner": {"width": True}}, TypeError, "width is True"),
        ({"inner": {"width": 8, "kind": "untt"}}, ValueError, "Did you mean 'unet'"),
        ({"inner": {"width": 8, "rates": 3}}, TypeError, "expected a list"),
        ({"inner": {"width": 8, "rates": ["x"]}}, TypeError, r"rates\[0\] is 'x'"),
        ({"inner": 3}, TypeError, "inner is 3; expected a mapping"),
        ({"inner": {"width": 8}, "training": {"betas": [1]}}, ValueError, "1 entries; expected 2"),
    ],
)
def test_a_bad_mapping_is_named(mapping, error, message):
    with pytest.raises(error, match=message):
        load_dataclass(Outer, mapping, "r.yaml")


@pytest.mark.parametrize(
    "bad",
    [
        *({"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"ema_decay": 1.5}),
        *({"betas": (0.9, 1.0)}, {"max_minutes": -1.0}, {"patience": 2}, {"schedule": "cosin"}),
        {"decay_steps": 0, "schedule": "trapezoid"},
        {"channels_last": True, "sharding": "fsdp"},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainingConfig(**bad)


def test_every_setting_is_explained():
    source = Path(vislm_tutorial.__file__).parent / "training" / "config.py"
    body = source.read_text().split("class TrainingConfig")[1].split("def __post_init__")[0]
    fields = [line for line in body.splitlines() if line.startswith("    ") and " = " in line]
    assert len(fields) > 20
    for line in fields:
        assert "  # " in line or "optimizer:" in line, f"no comment on {line.strip()}"


def test_settings_are_read_without_torch():
    code = "import vislm_tutorial.training.config, sys; assert 'torch' not in sys.modules"
    root = Path(vislm_tutorial.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)


# Precision


@pytest.mark.parametrize(
    ("requested", "capability", "dtype", "scaler", "reason"),
    [
        ("auto", (8, 0), torch.bfloat16, False, "8.0 has it"),
        ("auto", (7, 5), torch.float16, True, "7.5 has no bf16"),
        ("fp16", (9, 0), torch.float16, True, "as asked"),
        ("fp32", (9, 0), torch.float32, False, "as asked"),
    ],
)
def test_precision_on_a_gpu(monkeypatch, requested, capability, dtype, scaler, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # as a T4 says
    choice = choose_precision(requested, "cuda")
    assert (choice.dtype, choice.scaler) == (dtype, scaler)
    assert choice.autocast == (dtype != torch.float32)
    assert reason in choice.reason


def test_precision_elsewhere(monkeypatch):
    assert choose_precision("auto", "cpu").dtype == torch.float32
    assert choose_precision("auto", "mps").dtype == torch.float32
    assert choose_precision("fp16", "cpu").scaler
    with pytest.raises(ValueError, match="200 times slower"):
        choose_precision("bf16", "cpu")
    with pytest.raises(ValueError, match="expected auto, fp32"):
        choose_precision("half", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match="7.5: it would be emulated"):
        choose_precision("bf16", "cuda")


# Order of the data


@pytest.mark.parametrize(("n", "batch", "world"), [(24, 4, 2), (7, 3, 2), (5, 4, 3)])
def test_each_item_comes_once_an_epoch(n, batch, world):
    steps = n * 2  # together: 2 * batch * world epochs
    ranks = [list(StepSampler(n, batch, 3, 0, steps, rank, world)) for rank in range(world)]
    drawn = [index for step in zip(*ranks, strict=True) for part in step for index in part]
    epochs = [drawn[start : start + n] for start in range(0, len(drawn), n)]
    assert len(epochs) == 2 * batch * world
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert epochs[0] != epochs[1], "every epoch should have its own order"


def test_a_batch_depends_on_seed_and_number_only():
    whole = list(StepSampler(24, 4, 3, 0, 20))
    assert list(StepSampler(24, 4, 3, 13, 20)) == whole[13:]
    assert list(StepSampler(24, 4, 4, 0, 20)) != whole
    doubled = list(StepSampler(24, 8, 3, 0, 10))
    assert [a + b for a, b in zip(whole[::2], whole[1::2], strict=True)] == doubled
    with pytest.raises(ValueError, match="empty"):
        StepSampler(0, 4, 3, 0, 20)


# Learning rate and optimiser


def test_the_trapezoid_stays_at_the_peak_and_then_falls_in_a_line():
    config = TrainingConfig(
        steps=101, warmup_steps=10, schedule="trapezoid", decay_steps=20, learning_rate=2.0
    )
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[9:81] == [2.0] * 72
    assert rates[90] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rate_climbs_and_falls(schedule):
    config = TrainingConfig(
        steps=101, warmup_steps=10, learning_rate=2.0, schedule=schedule, final_lr_fraction=0.1
    )
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == max(rates) == 2.0
    assert rates[-1] == pytest.approx(2.0 if schedule == "constant" else 0.2)
    middle = learning_rate_at(9 + 91 // 2, config)
    assert middle == pytest.approx(2.0 if schedule == "constant" else 1.1, abs=0.02)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=0.5))
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {name: decay[p] for name, p in model.named_parameters()} == {
        **{"0.weight": 0.5, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}
    }


def test_the_average_is_the_librarys():
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    ours, theirs = AveragedWeights(model, 0.5), EMAModel(model.parameters(), decay=0.5)
    for _ in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.step(model.parameters())
        theirs.step(model.parameters())
    for a, b in zip(ours.shadow_params, theirs.shadow_params, strict=True):
        torch.testing.assert_close(a, b)
    live = model.weight.clone()
    with averaged(model, ours):
        assert torch.equal(model.weight, ours.tensors()["weight"]) and not model.training
    assert torch.equal(model.weight, live) and model.training


# Checkpoints


def some_checkpoint(step: int) -> Checkpoint:
    tensors = {"model/a": torch.arange(6.0).reshape(2, 3), "model/b": torch.tensor(step)}
    return Checkpoint(step, tensors, {"note": "ü", "rate": 0.1 + 0.2})


def test_a_checkpoint_comes_back_whole(tmp_path):
    path = checkpoint.save(tmp_path, some_checkpoint(3), keep=2)
    loaded = checkpoint.load(path)
    assert loaded.step == 3 and loaded.meta["rate"] == 0.1 + 0.2 and loaded.meta["note"] == "ü"
    assert torch.equal(loaded.tensors["model/a"], torch.arange(6.0).reshape(2, 3))
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint-00000003.safetensors"]


def test_tied_weights_can_be_saved(tmp_path):
    weight = torch.randn(4, 4)
    tensors = {"a": weight, "b": weight, "c": weight.T}
    checkpoint.write(tmp_path / "tied.safetensors", tensors, {})
    read, _ = checkpoint.read(tmp_path / "tied.safetensors")
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def test_one_changed_byte_anywhere_is_found(tmp_path):
    checkpoint.save(tmp_path, some_checkpoint(1), keep=3)
    path = checkpoint.save(tmp_path, some_checkpoint(2), keep=3)
    whole = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]
    places = [*range(8), *range(8, header_end, 7), *range(header_end, len(whole))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        if _same_json(whole, damaged, header_end):
            continue  # padding: a blank that became another blank says the same
        with pytest.warns(UserWarning, match="checkpoint-00000002.safetensors is damaged"):
            found = checkpoint.latest(tmp_path)
        assert found == checkpoint.checkpoint_path(tmp_path, 1), f"byte {place} went unseen"


def _same_json(whole: bytes, damaged: bytes, end: int) -> bool:
    try:
        return whole[end:] == damaged[end:] and json.loads(whole[8:end]) == json.loads(
            bytes(damaged[8:end])
        )
    except ValueError:
        return False


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_a_truncated_checkpoint_is_never_loaded(tmp_path, kept):
    path = checkpoint.save(tmp_path, some_checkpoint(2), keep=3)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.latest(tmp_path) is None
    with pytest.raises(checkpoint.TornFileError):
        checkpoint.load(path)


def test_torn_files_do_not_count_as_kept(tmp_path):
    checkpoint.checkpoint_path(tmp_path, 90).write_bytes(b"torn")
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, some_checkpoint(step), keep=1)
    assert checkpoint.checkpoint_steps(tmp_path) == [90, 30]


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "checkpoint-00000001.safetensors"
    checkpoint.write(path, {"a": torch.zeros(1)}, {"meta": '{"format": 99, "step": 1}'})
    with pytest.raises(ValueError, match="format 99; expected 1"):
        checkpoint.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path, some_checkpoint(1), keep=1)
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write(path, {"a": torch.zeros(1)}, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
