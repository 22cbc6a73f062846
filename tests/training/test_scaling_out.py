"""Two processes against one: the same run, cut up, resumed in another number, killed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from scaling_script import make, run
from torch import nn

import vislm_tutorial
from vislm_tutorial.data import write_shards
from vislm_tutorial.training import checkpoint as checkpoints
from vislm_tutorial.training import processes
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.loop import train
from vislm_tutorial.training.sharding import _blocks, local_model

PACKAGE = Path(vislm_tutorial.__file__).parent
SCRIPT = Path(__file__).with_name("scaling_script.py")
CONFIGS = PACKAGE / "recipes" / "accelerate"
ONE = {  # a global batch of 8, in one process
    **{"steps": 6, "batch_size": 8, "warmup_steps": 2, "seed": 7, "log_every": 2},
    **{"checkpoint_every": 3, "validate_every": 2, "keep_checkpoints": 9},
}
TWO = {**ONE, "batch_size": 2, "gradient_accumulation": 2}  # the same, in two processes
HALF = 3  # where the first piece of a resumed run ended


def launch(module: str, *options, runs: list[dict], **environ: str) -> subprocess.CompletedProcess:
    """Two processes that make the runs one after the other, started by a launcher."""
    path = os.pathsep.join([str(PACKAGE.parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environ}
    command = [sys.executable, "-m", module, *options, SCRIPT, json.dumps(runs, default=str)]
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=240
    )


def read(folder: Path, step: int = ONE["steps"]) -> checkpoints.Checkpoint:
    return checkpoints.load(checkpoints.checkpoint_path(folder, step))


def begun(source: Path, folder: Path) -> Path:
    """A folder that holds the run in `source` as it was at half of its way."""
    folder.mkdir()
    shutil.copy(checkpoints.checkpoint_path(source, HALF), folder)
    return folder


def log_of(folder: Path, key: str) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["step"], line[key]) for line in lines if key in line]


def assert_close(folder: Path, other: Path, atol: float = 2e-6) -> None:
    one, two = read(folder).tensors, read(other).tensors
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name].shape == value.shape, f"{name} is {tuple(two[name].shape)}"
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=atol, msg=lambda m: name + m)  # noqa: B023


FSDP = {**TWO, "sharding": "fsdp"}
SILENT = {"validate_every": 0}  # the validation is the toy's
RUNS = {  # in two processes: kind of model and settings, by name of the folder
    "ddp": ("toy", TWO),
    "fsdp": ("toy", FSDP),
    "to ddp": ("toy", TWO),
    "to fsdp": ("toy", FSDP),
    "muon": ("toy", {**FSDP, "optimizer": "muon"}),
    "fp16": ("toy", {**FSDP, "precision": "fp16"}),
    "best": ("toy", {**FSDP, "patience": 9}),
    "unet": ("unet", {**FSDP, **SILENT}),
    "dit": ("dit", {**FSDP, **SILENT}),
    "stream": ("stream", {**TWO, **SILENT}),
    "recipe": ("recipe", {"steps": 2, "checkpoint_every": 0, "sharding": "fsdp"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folders of all runs that end well."""
    folder = tmp_path_factory.mktemp("runs")
    run(folder / "one", "toy", ONE)
    for kind in ("unet", "dit"):
        run(folder / f"{kind} one", kind, {**ONE, **SILENT})
    for name, changes in (("muon", {"optimizer": "muon"}), ("fp16", {"precision": "fp16"})):
        run(folder / f"{name} one", "toy", {**ONE, **changes})
    for name in ("to ddp", "to fsdp"):
        begun(folder / "one", folder / name)
    pictures = ({"image": torch.zeros(3, 4, 4), "caption": str(i)} for i in range(24))
    write_shards(pictures, folder / "stream", per_shard=4)
    runs = [
        {"folder": folder / name, "kind": kind, "settings": settings}
        for name, (kind, settings) in RUNS.items()
    ]
    torchrun = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = launch(*torchrun, runs=runs, VISLM_CACHE=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_make_the_run_of_one(folder, sharding):
    assert_close(folder / "one", folder / sharding)
    assert read(folder / sharding).meta["world_size"] == 2
    rates = log_of(folder / sharding, "lr")
    assert rates == log_of(folder / "one", "lr")
    assert rates[-1] == (6, 0.0)  # a schedule stepped by both would have ended at half-way
    for key in ("loss", "grad_norm", "validation/mse"):
        pairs = zip(log_of(folder / "one", key), log_of(folder / sharding, key), strict=True)
        assert all(math.isclose(a[1], b[1], rel_tol=1e-4) for a, b in pairs), key


@pytest.mark.parametrize("name", ["to ddp", "to fsdp"])
def test_a_run_begun_by_one_process_is_ended_by_two(folder, name):
    assert_close(folder / "one", folder / name)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_run_begun_by_two_processes_is_ended_by_one(folder, name, tmp_path):
    path = begun(folder / name, tmp_path / "run")
    run(path, "toy", {**ONE, "batch_size": 4, "gradient_accumulation": 2})
    assert_close(folder / "one", path)


def test_another_global_batch_is_refused(folder, tmp_path):
    path = begun(folder / "fsdp", tmp_path / "run")
    with pytest.raises(ValueError, match=r"global_batch=8, now it is 2 \(batch_size x"):
        run(path, "toy", {**TWO, "gradient_accumulation": 1})


@pytest.mark.parametrize("name", ["unet", "dit", "muon"])
def test_sliced_networks_and_matrices_learn_as_whole_ones(folder, name):
    # Small gradients of Adam's first steps are rounded differently and give steps of full size.
    assert_close(folder / f"{name} one", folder / name, atol=2e-4)
    before, after = make(RUNS[name][0])[0].state_dict(), read(folder / name)
    moved = [n for n, v in before.items() if not torch.equal(v, after.tensors[f"model/{n}"])]
    assert len(moved) > len(before) / 2


def test_two_processes_see_each_picture_of_a_stream_once_an_epoch(folder):
    # 6 shards of 4 pictures for two readers: with 4 a step and process, 3 steps are an epoch.
    seen = [json.loads((folder / "stream" / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    for epoch in (slice(0, 12), slice(12, 24)):
        assert sorted(map(int, seen[0][epoch] + seen[1][epoch])) == list(range(24))
    assert [len(part) for part in seen] == [24, 24]


def test_an_overflow_in_one_slice_is_an_overflow_in_all(folder):
    # Which step overflows depends on the micro-batch; had the processes not agreed about it, their
    # slices would be those of different steps.
    record = read(folder / "fp16").meta["stepper"]
    assert 1 <= record["skipped"] <= 3
    assert record["scaler"]["scale"] == 2.0 ** (16 - record["skipped"])
    last = [log_of(folder / name, "loss")[-1][1] for name in ("fp16 one", "fp16")]
    assert math.isclose(*last, rel_tol=0.02)


def test_the_best_weights_of_slices_are_whole(folder):
    weights, meta = checkpoints.read(folder / "best" / "model.safetensors")
    assert weights.keys() == make("toy")[0].state_dict().keys()
    make("toy")[0].load_state_dict(weights)
    values = log_of(folder / "best", "validation/mse")
    assert int(meta["step"]) == min(values, key=lambda pair: pair[1])[0]


def test_a_killed_process_ends_the_run_in_words_and_it_resumes(folder, tmp_path):
    path = tmp_path / "run"
    settings = {**TWO, "sharding": "fsdp"}
    killed = {"folder": path, "kind": "toy", "settings": settings, "dies": {"rank": 1, "pass": 9}}
    done = launch(
        "accelerate.commands.launch", "--config_file", CONFIGS / "fsdp.yaml", runs=[killed]
    )
    assert done.returncode != 0
    assert "LostProcessError: process 0 of 2 stops: process 1 of the run ended" in done.stderr
    assert "Start the same command again" in done.stderr
    assert checkpoints.checkpoint_steps(path) == [HALF]
    run(path, "toy", ONE)
    assert_close(folder / "one", path)


def test_a_recipe_is_prepared_by_one_process_and_trained_by_both(folder):
    path = folder / "recipe"
    assert {entry.name for entry in path.iterdir()} == {
        *("recipe.yaml", "pictures.safetensors", "generator")
    }
    record = json.loads((path / "generator" / "run.json").read_text())
    assert record["world_size"] == 2 and record["step"] == 2
    assert (folder / "said").read_text().count("stage: flow") == 1


def test_the_launchers_files_are_what_accelerate_reads():
    ddp, fsdp = (load_config_from_file(str(CONFIGS / f"{name}.yaml")) for name in ("ddp", "fsdp"))
    assert ddp.distributed_type == "MULTI_GPU" and fsdp.distributed_type == "FSDP"
    assert ddp.num_processes == fsdp.num_processes == 2
    assert fsdp.fsdp_config["fsdp_version"] == 2


def test_blocks_are_the_entries_of_outer_lists_that_share_nothing():
    model = nn.Module()
    model.list = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3))
    model.list[2][0].weight = model.list[1][0].weight
    model.deep = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)]), nn.ReLU()])
    assert _blocks(model) == [model.list[0]]
    dit = make("dit")[0]
    assert _blocks(dit) == list(dit.backbone.blocks)


def test_one_process_has_nothing_to_slice(tmp_path):
    model, data = make("toy")
    config = TrainingConfig(**{**ONE, "sharding": "fsdp", "steps": 2})
    assert train(model, data, config, tmp_path, progress=False).step == 2
    assert torch.equal(read(tmp_path, 2).tensors["ema/net.0.weight"], model.net[0].weight)


def test_a_launcher_that_says_otherwise_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as `accelerate launch` does
    with pytest.raises(ValueError, match="set sharding: fsdp"):
        local_model(make("toy")[0], Accelerator(cpu=True), "ddp")


def test_an_error_of_this_process_stays_what_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_SECONDS_TO_DIE", 0.0)
    me = ("here", os.getpid(), 0.0)
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "here")
    monkeypatch.setattr(processes, "_lives", lambda *_: True)
    monkeypatch.setattr(processes, "gather_object", lambda _: [me, me])
    two = type("Two", (), {"num_processes": 2, "process_index": 0})()
    for words in ("mine", "Connection closed by peer"):  # all others live
        with pytest.raises(RuntimeError, match=f"^{words}$"), processes.losses_named(two, tmp_path):
            raise RuntimeError(words)
    monkeypatch.setattr(processes, "gather_object", lambda _: [me, ("there", 1, 0.0)])
    lost = pytest.raises(processes.LostProcessError, match="one on there of the run ended")
    with lost, processes.losses_named(two, tmp_path):
        raise torch.distributed.DistBackendError("connection closed")
