"""What is planned on paper is what a run takes: memory exactly, time roughly."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from typer.testing import CliRunner

from vislm_tutorial.cli import app
from vislm_tutorial.planning import MACHINES, Machine, find_machine, plan
from vislm_tutorial.planning.counting import PARTS, Count, Kernel
from vislm_tutorial.planning.machines import VIEW_SHARE
from vislm_tutorial.planning.probes import measure_cpu
from vislm_tutorial.planning.timing import seconds
from vislm_tutorial.planning.updates import count_forward, count_step
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.precision import choose_precision
from vislm_tutorial.training.recipe import load_recipe
from vislm_tutorial.tuning import LoRA

ROOT = Path(__file__).parents[2]
FP32 = choose_precision("fp32", "cpu")


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/planning.py, whose measuring part is used here too."""
    spec = importlib.util.spec_from_file_location("planning", ROOT / "benchmarks" / "planning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scenes():
    return load_recipe("scenes")


@pytest.fixture(scope="module")
def quick():
    """One stage: its autoencoder is taken over."""
    return load_recipe("quick")


class Layer(nn.Module):
    """One linear layer without a bias, under the mean of its squared output."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)

    def forward(self, batch: dict, generator=None) -> torch.Tensor:
        return self.linear(batch["x"]).square().mean()


def counted(batch: int = 32, precision=FP32, gpu: bool = False, **options) -> Count:
    with FakeTensorMode(allow_non_fake_inputs=True):
        config = TrainingConfig(**options)
        return count_step(Layer(), {"x": torch.empty(batch, 64)}, config, precision, gpu)


# --- counting, against what can be counted by hand ------------------------------------------------


def test_a_linear_layer_is_counted_as_by_hand():
    count = counted()
    matrix = 64 * 64
    assert (count.parameters, count.trainable) == (matrix, matrix)
    assert count.flops == 2 * (2 * 32 * matrix)  # forward, and the gradient of the weights
    assert count.memory["weights"] == count.memory["average"] == 4 * matrix
    assert count.memory["optimiser"] - 8 * matrix in range(64)  # two moments, and a step counter
    assert set(count.memory) == set(PARTS) and count.peak == sum(count.memory.values())


@pytest.mark.parametrize(
    ("options", "each"), [({"optimizer": "sgd"}, 4), ({"optimizer": "adamw"}, 8)]
)
def test_the_optimisers_state_is_its_own(options, each):
    assert counted(**options).memory["optimiser"] // (64 * 64) == each


def test_accumulation_costs_calls_and_arithmetic_but_no_memory():
    one, four, eight = (counted(gradient_accumulation=n) for n in (1, 4, 8))
    assert (four.flops, eight.flops) == (4 * one.flops, 8 * one.flops)
    assert eight.calls - four.calls == 4 * (four.calls - one.calls) // 3
    assert eight.peak == four.peak


def test_the_first_accumulated_gradient_is_kept_beside_the_second():
    one, two = (counted(batch=1, gradient_accumulation=n) for n in (1, 2))
    assert two.peak >= one.peak


def test_half_precision_halves_what_a_product_keeps():
    fp16 = choose_precision("auto", "cuda", (7, 5))
    count = counted(batch=4096, precision=fp16, gpu=True)
    products = [kernel for kernel in count.kernels if kernel.flops]
    assert products and {kernel.dtype for kernel in products} == {torch.float16}
    assert count.flops == counted(batch=4096).flops


def test_cuda_keeps_norms_in_float32_under_autocast():
    class Normed(Layer):
        def forward(self, batch, generator=None):
            inner = self.linear(functional.layer_norm(self.linear(batch["x"]), (64,)))
            dtypes.append(inner.dtype)
            return inner.float().mean()

    dtypes, sizes = [], {}
    for gpu in (False, True):
        with FakeTensorMode(allow_non_fake_inputs=True):
            precision = choose_precision("auto", "cuda", (8, 0))
            batch = {"x": torch.empty(512, 64)}
            count = count_step(Normed(), batch, TrainingConfig(), precision, gpu)
            sizes[gpu] = count.memory["activations"]
    assert set(dtypes) == {torch.bfloat16}
    assert sizes[True] > sizes[False]


def test_checkpointing_trades_memory_for_arithmetic(quick):
    plain, again = (
        plan(replace(quick, training=replace(quick.training, checkpointing=on)), "h100").stages[0]
        for on in (None, True)
    )
    assert again.count.memory["activations"] < 0.8 * plain.count.memory["activations"]
    assert 1.05 * plain.count.flops < again.count.flops < 4 / 3 * plain.count.flops


def test_a_pass_without_gradients_keeps_nothing():
    with FakeTensorMode():
        network = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(20)))
        x = torch.empty(1000, 64)
        count = count_forward(network, lambda: network(x))
    assert count.memory["activations"] == 2 * x.numel() * 4  # what is read and what is written
    assert count.flops == 20 * 2 * 1000 * 64 * 64


# --- memory and time, against a run ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "stage", "batch"),
    [("unet", "flow", 2), ("unet", "flow", 16), ("dit", "flow", 8), ("unet", "autoencoder", 4)],
)
def test_the_predicted_peak_is_the_measured_one(benchmark, network, stage, batch):
    recipe = benchmark.recipe_for(network, batch, "fp32")
    said = benchmark.predicted(recipe, stage, Machine("cpu", 1e9, {torch.float32: 1e9}, 1e9)).peak
    was = benchmark.Measured(recipe, stage).peak()
    assert said == pytest.approx(was, rel=0.05)  # was exact but for a buffer or two


def test_what_teaches_the_encoder_is_planned_too(benchmark, quick):
    recipe = replace(quick, tuning=LoRA(), training=replace(quick.training, batch_size=8))
    said = plan(recipe, Machine("cpu", 1e9, {torch.float32: 1e9}, 1e9))
    count, run = said.stages[0].count, benchmark.Measured(recipe, "flow")
    assert said.encoding is None and count.trainable < count.parameters / 2
    learned = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    assert count.trainable == learned
    assert count.peak == pytest.approx(run.peak(), rel=0.2)


def test_the_predicted_time_is_about_the_measured_one(benchmark):
    machine, ratios = measure_cpu(), []
    for batch in (2, 16):
        recipe = benchmark.recipe_for("unet", batch, "fp32")
        run = benchmark.Measured(recipe, "flow")
        run.start()
        said = seconds(benchmark.predicted(recipe, "flow", machine), machine).total
        ratios.append(said / run.seconds(3))
    assert 1 / 3 < statistics.geometric_mean(ratios) < 3, ratios  # other work may run beside


def test_stored_rows_are_predicted_again_and_their_measurements_kept(benchmark, monkeypatch):
    stored = json.loads((ROOT / "book" / "results" / "planning.json").read_text(encoding="utf-8"))
    rows = [row for row in stored["rows"] if row["batch"] == 32 and row["network"] == "unet"]
    assert {row["device"] for row in rows} == {"cpu", "h100"}
    wrong = copy.deepcopy(stored | {"rows": rows})
    for row in wrong["rows"]:
        for what in ("memory", "seconds"):
            row[what]["predicted"] = 1
    monkeypatch.setattr(benchmark, "plans", dict)
    for row, again in zip(rows, benchmark.predict_again(wrong)["rows"], strict=True):
        for what in ("memory", "seconds"):
            # A CPU is not in the table of machines: what was said of it stays.
            said = row[what]["predicted"] if row["device"] == "h100" else 1
            assert again[what]["predicted"] == pytest.approx(said, rel=0.02)
            assert again[what]["measured"] == row[what]["measured"]


def test_a_call_costs_what_was_probed_beside_the_h100():
    stored = json.loads((ROOT / "book" / "results" / "planning.json").read_text(encoding="utf-8"))
    probed = stored["machines"]["h100"]["call_microseconds_here"]
    for gpu in MACHINES.values():  # the others' hosts were not measured: the same price
        assert gpu.call == pytest.approx(probed * 1e-6) and gpu.view == VIEW_SHARE * gpu.call


# --- the time model -------------------------------------------------------------------------------


def machine(**prices) -> Machine:
    base = {"name": "x", "memory": 1e9, "rates": {torch.float32: 1e12}, "bandwidth": 1e9}
    free = {"efficiency": 1.0, "call": 0.0, "view": 0.0, "kernel": 0.0}
    return Machine(**(base | free | prices))


@pytest.mark.parametrize(
    ("flops", "size", "bound", "total"),
    [(2 * 10**9, 10**6, "arithmetic", 2e-3), (10**6, 3 * 10**6, "memory", 3e-3)],
)
def test_a_gpus_kernel_waits_for_what_takes_longer(flops, size, bound, total):
    count = Count(kernels={Kernel("product", torch.float32, flops, size): 1})
    took = seconds(count, machine(capability=(8, 0)))
    assert (took.bound, took.total) == (bound, pytest.approx(total))
    both = flops / 1e12 + size / 1e9  # a CPU's core does one after the other
    assert seconds(count, machine()).total == pytest.approx(both)


def test_a_gpu_works_while_the_host_calls_and_a_cpu_does_not():
    count = Count(kernels={Kernel("other", torch.float32, 0, 10**6): 1000}, views=100)
    prices = {"call": 1e-3, "view": 1e-4}
    cpu, gpu = machine(**prices), machine(**prices, capability=(8, 0))
    assert seconds(count, cpu).total == pytest.approx(1 + 0.01 + 1)
    assert seconds(count, gpu).total == pytest.approx(1 + 0.01)
    assert seconds(count, gpu).bound == "calls"


def test_this_cpu_has_prices_of_a_cpu():
    cpu = find_machine("cpu")
    assert not cpu.is_gpu and 1e9 < cpu.memory
    assert 1e-6 < cpu.call < 1e-3 and cpu.view < cpu.call
    assert 1e8 < cpu.rates[torch.float32] < 1e13
    assert 1e8 < cpu.bandwidth < 1e12 and 1e8 < cpu.stream < 1e12


# --- plans ----------------------------------------------------------------------------------------


def test_a_plan_has_the_stages_of_the_recipe(scenes):
    planned = plan(scenes, "t4")
    assert [stage.name for stage in planned.stages] == ["autoencoder", "flow"]
    assert planned.fits and planned.minutes > sum(s.minutes for s in planned.stages) > 0
    assert "fp16 with loss scaling" in planned.stages[1].precision.reason
    assert "bf16" in plan(scenes, "a100").stages[1].precision.reason
    text = str(planned)
    assert "scenes on t4, 16 GB" in text and "activations" in text and "in all" in text


@pytest.mark.parametrize("name", ["image_gpt", "cgan", "cvae", "pixelcnn", "scenes-smollm2"])
def test_every_family_can_be_planned(name):
    planned = plan(load_recipe(name), "a100")
    assert planned.stages[-1].count.flops > 0 and planned.fits
    codebook = [stage.name for stage in planned.stages] == ["codebook", "image_gpt"]
    assert codebook == (name == "image_gpt")


def test_a_batch_that_does_not_fit_is_cut_into_what_does(quick):
    small = replace(MACHINES["t4"], memory=2e9)
    stage = plan(quick, small, batch_size=2048).stages[-1]
    assert not stage.fits and 1 <= stage.largest < 2048
    assert f"at most {stage.largest} items fit" in stage.advice
    batch, pieces, _ = map(int, re.findall(r"\d+", stage.advice))
    assert batch <= stage.largest and batch * pieces >= 2048
    again = plan(quick, small, batch_size=batch).stages[-1]
    assert again.fits, "what is advised has to fit"


def test_how_many_fit_does_not_hang_on_the_batch_that_was_asked_for(quick):
    one, many = (plan(quick, "t4", batch_size=batch).stages[-1] for batch in (1, 64))
    assert one.largest == many.largest > 1000
    assert one.count_of(one.largest).peak <= one.room < one.count_of(one.largest + 1).peak


def test_what_cannot_fit_is_said():
    tiny = replace(MACHINES["t4"], memory=0.62e9)
    assert "not even one item fits" in plan(load_recipe("quick"), tiny).stages[-1].advice


def test_an_unknown_machine_is_told_the_nearest():
    with pytest.raises(ValueError, match="no machine is called 'a10'.*Did you mean 'a100'"):
        find_machine("a10")


@pytest.mark.parametrize(
    ("full", "gigabytes", "name"),
    [
        ("Tesla T4", 15.6, "t4"),
        ("NVIDIA L4", 23.6, "l4"),
        ("NVIDIA A100-SXM4-40GB", 42.4, "a100"),
        ("NVIDIA A100 80GB PCIe", 85.1, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 85.0, "h100"),
        ("NVIDIA L40S", 47.7, None),
        ("NVIDIA T400 4GB", 4.1, None),
    ],
)
def test_the_gpu_here_is_known_by_whole_words_of_its_name(monkeypatch, full, gigabytes, name):
    card = SimpleNamespace(total_memory=gigabytes * 1e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: full)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    if name:
        assert find_machine("here") is MACHINES[name]
    else:
        with pytest.raises(ValueError, match=f"{full} is not among the machines"):
            find_machine("here")


def test_rows_of_another_device_or_version_are_not_gone_on_with(benchmark):
    before = {"torch": "2.11.0", "device": "NVIDIA H100 80GB HBM3", "call_microseconds_here": 24.0}
    now = before | {"call_microseconds_here": 25.0}  # measured on the spot: never twice the same
    path = Path("planning.json")
    benchmark.refuse_other_settings(before, now, "h100", path)
    now["torch"] = "2.13.0"
    with pytest.raises(ValueError, match="planning.json.*2.11.0 there, not 2.13.0.*Delete it"):
        benchmark.refuse_other_settings(before, now, "h100", path)


def test_bf16_on_a_card_without_it_is_refused(quick):
    asked = replace(quick, training=replace(quick.training, precision="bf16"))
    with pytest.raises(ValueError, match="7.5"):
        plan(asked, "t4")


def test_the_command_prints_the_table():
    done = CliRunner().invoke(app, ["plan", "quick", "--gpu", "h100", "--batch-size", "64"])
    assert done.exit_code == 0, done.output
    assert "quick on h100, 80 GB" in done.output and "64 items a step" in done.output
    wrong = CliRunner().invoke(app, ["plan", "quick", "--gpu", "h10"])
    assert wrong.exit_code == 1 and "Did you mean 'h100'" in wrong.output
