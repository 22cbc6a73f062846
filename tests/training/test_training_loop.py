"""The loop: exact resumption, early stopping, limits, precision, files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_toy import Points, Toy, error, random_toy

import vislm_tutorial
from vislm_tutorial.training import checkpoint as checkpoints
from vislm_tutorial.training import learning_rate_at, stepper, train
from vislm_tutorial.training.config import TrainingConfig

SCRIPT = Path(__file__).with_name("training_toy.py")
EXACT = {
    **{"steps": 20, "batch_size": 4, "gradient_accumulation": 2, "warmup_steps": 3},
    **{"checkpoint_every": 10, "log_every": 3, "validate_every": 5, "seed": 7},
}


def config(**changes) -> TrainingConfig:
    defaults = {"steps": 6, "batch_size": 4, "warmup_steps": 0, "log_every": 2}
    return TrainingConfig(**{**defaults, "checkpoint_every": 3, **changes})


def run_script(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(vislm_tutorial.__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=check,
        timeout=180,
    )


def newest(run_dir: Path) -> checkpoints.Checkpoint:
    path = checkpoints.latest(run_dir)
    assert path is not None, f"no whole checkpoint in {sorted(run_dir.iterdir())}"
    return checkpoints.load(path)


def assert_same(one: checkpoints.Checkpoint, other: checkpoints.Checkpoint) -> None:
    assert one.step == other.step
    assert one.tensors.keys() == other.tensors.keys()
    for name, value in one.tensors.items():
        assert torch.equal(value, other.tensors[name]), f"{name} differs"


def log_of(run_dir: Path, key: str = "loss") -> list[tuple[int, float]]:
    lines = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    return [(line["step"], line[key]) for line in lines if key in line]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums are split over threads: only with a fixed number of them are two runs bitwise equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """20 steps in one go."""
    run_dir = tmp_path_factory.mktemp("straight")
    settings = TrainingConfig(**EXACT)
    train(random_toy(), Points(jitter=0.1), settings, run_dir, validate=error, progress=False)
    return run_dir


def test_a_killed_run_goes_on_bitwise_in_a_fresh_process(straight, tmp_path):
    settings = json.dumps(EXACT)
    # Two passes a step: pass 28 is the second half of step 14, after four logged steps.
    killed = run_script(SCRIPT, tmp_path, settings, "--die-in-pass", "28", check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert newest(tmp_path).step == 10
    assert log_of(tmp_path)[-1][0] == 12, "the kill should come after the checkpoint"
    resumed = run_script(SCRIPT, tmp_path, settings)
    assert json.loads(resumed.stdout.splitlines()[-1]) == [20, "done"]
    assert_same(newest(tmp_path), newest(straight))
    assert "optimizer/net.0.weight/exp_avg_sq" in newest(straight).tensors
    assert log_of(tmp_path) == log_of(straight)
    assert log_of(tmp_path, "validation/mse") == log_of(straight, "validation/mse")


def test_workers_change_nothing(straight, tmp_path):
    settings = TrainingConfig(**{**EXACT, "num_workers": 2, "validate_every": 0})
    train(random_toy(), Points(jitter=0.1), settings, tmp_path, progress=False)
    assert_same(newest(tmp_path), newest(straight))


def test_another_seed_gives_another_run(straight, tmp_path):
    settings = TrainingConfig(**{**EXACT, "seed": 8})
    train(random_toy(), Points(jitter=0.1), settings, tmp_path, validate=error, progress=False)
    assert log_of(tmp_path) != log_of(straight)


def test_a_damaged_checkpoint_is_passed_over(straight, tmp_path):
    settings = TrainingConfig(**{**EXACT, "validate_every": 0})
    train(random_toy(), Points(jitter=0.1), settings, tmp_path, progress=False)
    path = checkpoints.checkpoint_path(tmp_path, 20)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="checkpoint-00000020.safetensors is damaged"):
        train(random_toy(), Points(jitter=0.1), settings, tmp_path, progress=False)
    assert_same(newest(tmp_path), newest(straight))


def test_pieces_limited_by_time_make_the_whole(tmp_path):
    train(Toy(), Points(), config(), tmp_path / "whole", progress=False)
    pieces = config(max_minutes=1e-9)
    ends = [train(Toy(), Points(), pieces, tmp_path / "pieces", progress=False) for _ in range(6)]
    assert [(end.step, end.stopped) for end in ends] == [
        *((step, "time") for step in range(1, 6)),
        (6, "done"),
    ]
    assert_same(newest(tmp_path / "pieces"), newest(tmp_path / "whole"))
    assert log_of(tmp_path / "pieces") == log_of(tmp_path / "whole")
    minutes = [end.minutes for end in ends]
    assert minutes == sorted(minutes), "the minutes of earlier pieces count"


def test_sigterm_leaves_a_checkpoint_of_the_step_under_way(tmp_path):
    def interrupt() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    model, handler = Toy(), signal.getsignal(signal.SIGTERM)
    model.before_step[2] = interrupt
    result = train(model, Points(), config(), tmp_path, progress=False)
    assert (result.step, result.stopped) == (2, "signal")
    assert newest(tmp_path).step == 2
    assert signal.getsignal(signal.SIGTERM) is handler


def test_early_stopping_keeps_the_best_weights(tmp_path):
    values = iter([3.0, 2.0, 2.5, 2.0])
    seen = []

    def validate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"error": next(values), "other": 0.0}

    settings = config(steps=20, validate_every=2, patience=2)
    model = Toy()
    result = train(model, Points(), settings, tmp_path, validate=validate, progress=False)
    assert (result.stopped, result.step) == ("early", 8)
    assert (result.best_step, result.best_value) == (4, 2.0)
    weights, metadata = checkpoints.read(result.weights)
    assert metadata["step"] == "4" and "EMA" in metadata["weights"]
    for name, value in weights.items():
        assert torch.equal(value, seen[1][name])
        assert torch.equal(value, model.state_dict()[name])
    # A second call sees that patience ran out, and does no step.
    again = train(Toy(), Points(), settings, tmp_path, validate=validate, progress=False)
    assert (again.stopped, again.step, again.best_step) == ("early", 8, 4)


def test_accumulation_is_a_bigger_batch(tmp_path):
    train(Toy(), Points(), config(batch_size=8), tmp_path / "big", progress=False)
    small = config(batch_size=2, gradient_accumulation=4)
    train(Toy(), Points(), small, tmp_path / "small", progress=False)
    big, small = newest(tmp_path / "big").tensors, newest(tmp_path / "small").tensors
    for name, value in big.items():
        if name.startswith("model/"):
            torch.testing.assert_close(small[name], value, rtol=0, atol=1e-6)
    losses = zip(log_of(tmp_path / "big"), log_of(tmp_path / "small"), strict=True)
    assert all(math.isclose(a[1], b[1], rel_tol=1e-4) for a, b in losses)


def test_processes_that_cannot_work_together_are_refused(tmp_path, monkeypatch):
    # The state accelerate shares in a process is made here, of one process ...
    train(Toy(), Points(), config(steps=1), tmp_path / "alone", progress=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # ... so a second one, as torchrun says, is not seen
    with pytest.raises(RuntimeError, match="2 processes were started, .* accelerate sees 1"):
        train(Toy(), Points(), config(), tmp_path, progress=False)


def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    settings = {**EXACT, "steps": 6, "checkpoint_every": 3, "log_every": 2, "validate_every": 2}
    double = TrainingConfig(**{**settings, "batch_size": 8})
    train(Toy(), Points(), double, tmp_path / "one", validate=error, progress=False)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run_script(*torchrun, SCRIPT, tmp_path / "two", json.dumps(settings), "--plain")
    one, two = newest(tmp_path / "one"), newest(tmp_path / "two")
    for name, value in one.tensors.items():
        if name.startswith(("model/", "ema/")):
            torch.testing.assert_close(two.tensors[name], value, rtol=0, atol=1e-5)
    assert log_of(tmp_path / "two", "lr") == log_of(tmp_path / "one", "lr")
    assert log_of(tmp_path / "two", "lr")[-1] == (6, 0.0)
    losses = zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True)
    assert all(math.isclose(a[1], b[1], rel_tol=1e-4) for a, b in losses)
    assert two.meta["world_size"] == 2
    with pytest.raises(ValueError, match="global_batch=16, now it is 8"):
        train(Toy(), Points(), TrainingConfig(**settings), tmp_path / "two", progress=False)


def test_fp16_leaves_out_an_overflowing_step_and_resumes_exactly(tmp_path):
    settings = config(precision="fp16", steps=8, checkpoint_every=4, log_every=1)

    def run(name: str, **passes):
        model = Toy(noise=0.1)
        model.before_step = {int(key[1:]): action for key, action in passes.items()}
        return model, train(model, Points(), settings, tmp_path / name, progress=False)

    def overflow() -> float:
        return math.inf

    def crash() -> float:
        raise KeyboardInterrupt

    model, result = run("straight", p3=overflow)
    assert result.step == 8 and math.isfinite(result.final_loss)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    saved = newest(tmp_path / "straight")
    scales = [2.0**16, *(scale for _, scale in log_of(tmp_path / "straight", "loss_scale"))]
    halved = [step for step in range(1, 9) if scales[step] == scales[step - 1] / 2]
    assert 3 in halved and len(halved) < 8
    assert saved.meta["stepper"]["skipped"] == len(halved)
    adam_steps = saved.tensors["optimizer/net.0.weight/step"].item()
    assert adam_steps == 8 - len(halved), "a step that overflowed must not count"
    with pytest.raises(KeyboardInterrupt):
        run("broken", p3=overflow, p6=crash)
    run("broken")
    assert_same(newest(tmp_path / "broken"), saved)
    assert newest(tmp_path / "broken").meta["stepper"] == saved.meta["stepper"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, precision):
    model = Toy()
    model.before_step = dict.fromkeys(range(5, 100), lambda: math.nan)
    settings = config(steps=90, precision=precision, log_every=1 if precision == "fp16" else 4)
    step = 5 if precision == "fp32" else r"[34]\d"  # the scale is halved 37 times first
    with pytest.raises(FloatingPointError, match=rf"step {step}: loss nan.*learning_rate"):
        train(model, Points(), settings, tmp_path, progress=False)
    for name, value in newest(tmp_path).tensors.items():
        assert value.isfinite().all() or name.startswith("window/"), f"{name} was saved damaged"


def test_the_average_follows_its_formula(tmp_path):
    trajectory = []

    class Watched(Toy):
        def forward(self, batch, generator):
            trajectory.append(self.net[0].weight.detach().clone())
            return super().forward(batch, generator)

    settings = config(ema_decay=0.3)
    train(Watched(), Points(), settings, tmp_path, progress=False)
    saved = newest(tmp_path).tensors
    weights = [*trajectory[1:], saved["model/net.0.weight"]]  # after each update
    average = weights[0]
    for n, weight in enumerate(weights[1:], start=2):
        decay = min(0.3, n / (9 + n))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(saved["ema/net.0.weight"], average)
    assert not torch.allclose(average, weights[-1], atol=1e-5)
    final, _ = checkpoints.read(tmp_path / "model.safetensors")
    assert torch.equal(final["net.0.weight"], saved["ema/net.0.weight"])


def test_training_learns_and_says_what_it_did(tmp_path, capsys):
    def sample(model: nn.Module, path: Path) -> None:
        assert not model.training and not torch.is_grad_enabled()
        path.write_bytes(b"picture")

    settings = config(steps=120, learning_rate=0.03, warmup_steps=5, ema_decay=0.9, sample_every=50)
    result = train(
        *(Toy(), Points(), settings, tmp_path),
        validate=error,
        sample=sample,
        meta={"recipe": "toy"},
    )
    assert error_of(result.weights) < 0.05 * error(Toy())["mse"]
    rates = dict(log_of(tmp_path, "lr"))
    assert rates[120] == 0.0 and rates[2] == pytest.approx(learning_rate_at(1, settings), rel=1e-5)
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [
        f"step-{step:08d}.png" for step in (50, 100, 120)
    ]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["learning_rate"] == 0.03 and record["meta"] == {"recipe": "toy"}
    assert record["images_per_second"] > 0 and record["cpu_count"] == os.cpu_count()
    assert record["device"] == "cpu"
    assert torch.__version__.startswith(record["versions"]["torch"].split("+")[0])
    assert str(tmp_path) not in json.dumps(record), "a record must not name this machine's paths"
    printed = capsys.readouterr().out
    assert "cpu, fp32" in printed and "minutes left" in printed
    assert len(checkpoints.checkpoint_steps(tmp_path)) == settings.keep_checkpoints


def test_a_bar_is_drawn_when_asked(tmp_path, capsys):
    train(Toy(), Points(), config(), tmp_path, progress=True)
    bar = capsys.readouterr().err
    assert "6/6" in bar and "images/s" in bar
    train(Toy(), Points(), config(), tmp_path / "silent", progress=False)
    assert capsys.readouterr() == ("", "")


def error_of(weights: Path) -> float:
    model = Toy()
    model.load_state_dict(checkpoints.read(weights)[0])
    return error(model.eval())["mse"]


def test_compiling_changes_no_names(tmp_path, monkeypatch):
    compiled = []

    def compile_eagerly(module: nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile_eagerly)
    train(Toy(noise=0.1), Points(), config(), tmp_path / "plain", progress=False)
    model = Toy(noise=0.1)
    train(model, Points(), config(compile=True), tmp_path / "compiled", progress=False)
    assert compiled == [model]
    plain, other = newest(tmp_path / "plain").tensors, newest(tmp_path / "compiled").tensors
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)


def test_frozen_parameters_stay_and_are_saved(tmp_path):
    model = Toy()
    model.net[0].requires_grad_(False)
    before = model.net[0].weight.clone()
    train(model, Points(), config(), tmp_path, progress=False)
    assert torch.equal(model.net[0].weight, before)
    saved = newest(tmp_path).tensors
    assert "model/net.0.weight" in saved and "ema/net.0.weight" not in saved


def test_resuming_with_other_settings_is_refused(tmp_path):
    train(Toy(), Points(), config(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"learning_rate=0.001, now it is 0.5"):
        train(Toy(), Points(), config(learning_rate=0.5), tmp_path, progress=False)
    with pytest.raises(ValueError, match="resume=False, but .* holds checkpoint-00000006"):
        train(Toy(), Points(), config(), tmp_path, resume=False, progress=False)
    free = config(validate_every=1, log_every=1)
    assert train(Toy(), Points(), free, tmp_path, validate=error, progress=False).step == 6


def test_a_constant_schedule_can_be_extended(tmp_path):
    for steps in (3, 6):
        settings = config(steps=steps, schedule="constant")
        result = train(Toy(), Points(), settings, tmp_path / "pieces", progress=False)
        assert result.step == steps
    train(Toy(), Points(), settings, tmp_path / "whole", progress=False)
    assert_same(newest(tmp_path / "pieces"), newest(tmp_path / "whole"))


def test_a_run_is_given_more_steps_before_its_rate_falls_or_after_its_end(tmp_path):
    def go_on(steps, **changes):
        settings = config(steps=steps, schedule="trapezoid", decay_steps=2, log_every=1, **changes)
        return train(Toy(), Points(), settings, tmp_path, progress=False).step

    a_step = {"max_minutes": 1e-9}
    assert [go_on(6, **a_step), go_on(4, **a_step), go_on(4, **a_step)] == [1, 2, 3]
    with pytest.raises(ValueError, match="trained with steps=4, now it is 6"):
        go_on(6)  # on the way down
    assert (go_on(4), go_on(7)) == (4, 7)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["progress"]["extended_at"] == [4]
    rates = [rate for _, rate in log_of(tmp_path, "lr")]
    assert rates[3] < rates[2] < rates[1] == rates[4] > rates[5]


def test_a_schedule_stepped_twice_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(stepper, "learning_rate_at", lambda k, c: learning_rate_at(k // 2, c))
    with pytest.raises(RuntimeError, match="the schedule ends at 0"):
        train(Toy(), Points(), config(), tmp_path, progress=False)


def test_a_loss_that_is_no_scalar_is_refused(tmp_path):
    class Rows(Toy):
        def forward(self, batch, generator):
            return self.net(batch[0])

    with pytest.raises(ValueError, match=r"shape \(4, 1\); expected a scalar"):
        train(Rows(), Points(), config(), tmp_path, progress=False)


def test_half_precision_weights_are_refused(tmp_path):
    with pytest.raises(TypeError, match="'net.0.weight' is torch.float16"):
        train(Toy().half(), Points(), config(), tmp_path, progress=False)
