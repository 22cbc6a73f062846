"""Seven switches: what each device gets, that a thrown switch changes no result, and one step
traced for a GPU that is not there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from training_toy import Points, Toy

from vislm_tutorial.blocks import Attention, FeedForward
from vislm_tutorial.fusion import FusionConfig, build_fusion
from vislm_tutorial.generators.dit import DiT
from vislm_tutorial.generators.flow import FlowGenerator
from vislm_tutorial.generators.unet import UNet
from vislm_tutorial.losses import flow_matching
from vislm_tutorial.training import TrainingConfig, choose_precision, train
from vislm_tutorial.training.optim import build_optimizer
from vislm_tutorial.training.precision import check_trainable_float32
from vislm_tutorial.training.switches import (
    apply_switches,
    choose_switches,
    fused_switch,
    pin_memory_switch,
)
from vislm_tutorial.training.text_to_image import TextToImage
from vislm_tutorial.types import TextStates

WIDTH, CELLS, CHANNELS = 16, 4, 3


def small(backbone: str = "unet") -> TextToImage:
    """The whole model in small, nothing of it zero: a fresh network's output layer is."""
    torch.manual_seed(0)
    shape = {"sample_size": CELLS, "in_channels": CHANNELS, "width": WIDTH, "heads": 2}
    if backbone == "unet":
        network = UNet(**shape, multipliers=(1, 2), condition_width=WIDTH)
    else:
        network = DiT(**shape, depth=2, condition_width=WIDTH)
    fusion = build_fusion(FusionConfig(kind="projector", width=WIDTH, heads=2, depth=0), 8)
    model = TextToImage(fusion, FlowGenerator(network))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return model


def batch(n: int = 2) -> dict:
    random = torch.Generator().manual_seed(1)
    mask = torch.arange(5)[None] < torch.tensor([5, 3] * (n // 2))[:, None]
    states = torch.randn(n, 5, 8, generator=random) * mask[..., None]
    pictures = torch.randn(n, CHANNELS, CELLS, CELLS, generator=random)
    return {"pictures": pictures, "states": TextStates(states, mask)}


class Drawn(torch.utils.data.Dataset):
    """Whole batches, each another one."""

    def __len__(self) -> int:
        return 64

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [batch(len(indices))]


@contextmanager
def gpu(capability: tuple[int, int]) -> Iterator[None]:
    with patch("torch.cuda.get_device_capability", lambda device=None: capability):
        yield


def chosen(capability: tuple[int, int] | None, model=None, **settings) -> dict[str, bool]:
    config = TrainingConfig(**{"steps": 20_000, **settings})
    device = "cpu" if capability is None else "cuda"
    with gpu(capability or (0, 0)), patch("importlib.util.find_spec", lambda name: name):
        precision = choose_precision(config.precision, device)
        switches = choose_switches(config, model or small(), device, precision)
    return {name: entry["on"] for name, entry in switches.record().items()}


# What each device gets


def test_a_cpu_gets_the_fused_optimiser_and_nothing_else():
    assert [name for name, on in chosen(None).items() if on] == ["fused"]


def test_a_long_run_on_a_t4_and_on_an_a100():
    t4, a100 = chosen((7, 5)), chosen((8, 0))
    everywhere = {"compile", "fused", "pin_memory"}
    assert {name for name, on in t4.items() if on} == everywhere
    assert {name for name, on in a100.items() if on} == everywhere | {"tf32"}
    assert not chosen((8, 0), precision="fp32")["tf32"], "fp32 as asked is fp32"


def test_compiling_waits_for_a_long_run_and_for_triton():
    assert not chosen((8, 0), steps=500)["compile"]
    config = TrainingConfig(steps=20_000)
    with gpu((8, 0)), patch("importlib.util.find_spec", lambda name: None):
        precision = choose_precision("auto", "cuda")
        switch = choose_switches(config, small(), "cuda", precision).compile
    assert not switch.on and "triton" in switch.reason


@pytest.mark.parametrize("name", ["compile", "checkpointing", "channels_last", "fused"])
@pytest.mark.parametrize("on", [True, False])
def test_what_is_asked_for_is_done(name, on):
    assert chosen(None, **{name: on})[name] is on
    assert chosen((8, 0), **{name: on})[name] is on


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({"tf32": True}, "cpu", "cpu has no TF32"),
        ({"tf32": True}, "cuda", "7.5 has no TF32"),
        ({"pin_memory": True}, "cpu", "no GPU to copy to"),
        ({"fused": True}, "xpu", "no fused optimiser for xpu"),
        ({"checkpointing": True}, "cpu", "a UNet or a DiT can"),
        ({"channels_last": True}, "cpu", "no Conv2d"),
    ],
)
def test_what_can_do_nothing_is_refused(settings, device, message):
    config, precision = TrainingConfig(**settings), choose_precision("fp32", "cpu")
    with gpu((7, 5)), pytest.raises(ValueError, match=message):
        choose_switches(config, Toy(), device, precision)


def test_the_log_says_why(tmp_path, capsys):
    config = TrainingConfig(steps=2, warmup_steps=1, checkpointing=True)
    train(small(), Drawn(), config, tmp_path, collate=lambda items: items[0])
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "run.json").read_text())["switches"]
    assert record["checkpointing"] == {"on": True, "reason": "as asked"}
    for name, entry in record.items():
        line = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert line.split()[1] == ("on" if entry["on"] else "off") and entry["reason"] in line


# A thrown switch changes no result


def gradients(model: TextToImage) -> tuple[float, dict[str, torch.Tensor]]:
    loss = model(batch(), torch.Generator().manual_seed(2))
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("backbone", ["unet", "dit"])
def test_checkpointing_computes_blocks_twice_and_the_same(backbone):
    plain, thrown = small(backbone), small(backbone)
    config = TrainingConfig(checkpointing=True)
    precision = choose_precision("fp32", "cpu")
    apply_switches(thrown, choose_switches(config, thrown, "cpu", precision), "cpu")
    calls = []
    blocks = [m for m in thrown.modules() if type(m).__name__ in ("Stage", "DiTBlock")]
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    (loss, right), (again, answer) = gradients(plain), gradients(thrown)
    assert again == loss
    assert len(calls) == 2 * len(blocks), "each block runs forward twice"
    torch.testing.assert_close(answer, right, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        thrown(batch(), torch.Generator().manual_seed(2))
    assert len(calls) == 3 * len(blocks), "without gradients there is nothing to forget"


def test_checkpointing_remembers_less():
    kept = {}
    for on in (False, True):
        model, total = small("dit"), 0
        if on:
            model.generator.backbone.enable_gradient_checkpointing()

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(batch(), torch.Generator().manual_seed(2))
        kept[on] = total
    assert kept[True] < 0.7 * kept[False]


def trained(folder, **settings) -> dict[str, torch.Tensor]:
    config = TrainingConfig(steps=6, warmup_steps=1, batch_size=2, ema_decay=0.0, **settings)
    model = small()
    train(model, Drawn(), config, folder, collate=lambda items: items[0], progress=False)
    return model.state_dict()


@pytest.mark.parametrize(
    "switch", [{"channels_last": True}, {"checkpointing": True}, {"fused": False}]
)
def test_six_steps_end_at_the_same_weights(tmp_path, switch):
    torch.testing.assert_close(
        trained(tmp_path / "thrown", **switch),
        trained(tmp_path / "plain"),
        rtol=1e-3,
        atol=2e-5,
    )


def test_channels_last_resumes_to_the_same_weights(tmp_path):
    """A file holds tensors in plain order: the optimiser's must go back to the parameters'."""
    whole = trained(tmp_path / "whole", channels_last=True)
    config = TrainingConfig(
        steps=6, warmup_steps=1, batch_size=2, ema_decay=0.0, channels_last=True, max_minutes=1e-9
    )
    for _ in range(6):  # a step a piece
        model = small()
        train(
            model, Drawn(), config, tmp_path / "pieces", collate=lambda items: items[0],
            progress=False,
        )  # fmt: skip
    kernel = model.generator.backbone.conv_in.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.state_dict(), whole, rtol=1e-4, atol=1e-6)


def test_compiled_networks_keep_their_names_and_gradients():
    plain, thrown = small("dit"), small("dit")
    config = TrainingConfig(compile=True)
    switches = choose_switches(config, thrown, "cpu", choose_precision("fp32", "cpu"))
    seen = []
    with patch.object(nn.Module, "compile", lambda self: seen.append(type(self).__name__)):
        apply_switches(thrown, switches, "cpu")
    assert "DiT" in seen and "TextToImage" not in seen
    thrown.generator.backbone.compile(backend="eager")  # traced, but no kernels are written
    assert list(thrown.state_dict()) == list(plain.state_dict())
    (loss, right), (again, answer) = gradients(plain), gradients(thrown)
    assert again == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(answer, right, rtol=1e-4, atol=1e-6)


# Half precision


def dtypes_of(operation, device: str = "cpu", dtype: torch.dtype = torch.float16) -> torch.dtype:
    with torch.autocast(device, dtype):
        return operation().dtype


def test_autocast_rounds_products_and_leaves_sums_alone():
    x, module = torch.randn(2, 8), nn.Linear(8, 8)
    picture, kernel = torch.randn(1, 3, 8, 8), nn.Conv2d(3, 4, 3)
    assert dtypes_of(lambda: module(x)) == torch.float16
    assert dtypes_of(lambda: kernel(picture)) == torch.float16
    assert dtypes_of(lambda: nn.functional.mse_loss(module(x), x)) == torch.float32
    assert dtypes_of(lambda: nn.LayerNorm(8)(x)) == torch.float32
    assert module.weight.dtype == torch.float32, "autocast casts copies"


def test_the_models_loss_is_float32_under_autocast():
    model = small()
    with torch.autocast("cpu", torch.float16):
        loss = model(batch(), torch.Generator().manual_seed(2))
    loss.backward()
    assert loss.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_an_overflow_is_skipped_counted_and_leaves_the_weights(tmp_path):
    before, after = {}, {}

    class Watched(Toy):
        def forward(self, batch, generator):
            store = {3: before, 4: after}.get(self.passes + 1)
            if store is not None:
                store.update({k: v.clone() for k, v in self.state_dict().items()})
            return super().forward(batch, generator)

    model = Watched()
    model.before_step = {3: lambda: math.inf}
    config = TrainingConfig(steps=5, batch_size=4, warmup_steps=1, precision="fp16", log_every=1)
    train(model, Points(), config, tmp_path, progress=False)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    skipped = [row["skipped"] for row in rows]
    assert skipped[2] == skipped[1] + 1
    assert rows[2]["loss_scale"] == rows[1]["loss_scale"] / 2


def test_half_precision_weights_are_refused():
    with pytest.raises(TypeError, match="net.0.weight.*float16.*expected torch.float32"):
        check_trainable_float32(Toy().half())


# A GPU that is not there


def to_fake_gpu(model: nn.Module) -> nn.Module:
    """`model.to("cuda")` for fake tensors, which a CPU build of torch cannot copy there."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                fake = torch.empty(p.shape, device="cuda")
                module._parameters[name] = nn.Parameter(fake, requires_grad=False)
        for name, b in module._buffers.items():
            module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device="cuda")
    return model


class Seen(TorchDispatchMode):
    """Notes the device and dtype of what each operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[str, set[torch.dtype]] = {}
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.dtypes.setdefault(func.overloadpacket.__name__, set()).add(result.dtype)
            if result.ndim:
                self.devices.add(result.device.type)
        return result


@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_a_block_and_its_loss_traced_for_a_gpu(capability):
    """What a CPU build of torch can trace for CUDA: it has no indexing there and no autograd."""
    with gpu(capability):
        precision = choose_precision("auto", "cuda")
    assert precision.scaler == (capability == (7, 5))
    with (
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.is_bf16_supported", lambda: True),
    ):
        autocast = torch.autocast("cuda", precision.dtype)
    seen = Seen()
    with FakeTensorMode(), torch.no_grad():
        block = to_fake_gpu(
            nn.Sequential(Attention(WIDTH, 2), nn.LayerNorm(WIDTH), FeedForward(WIDTH))
        )
        x = torch.empty(2, 5, WIDTH, device="cuda")
        with seen, autocast:
            loss = flow_matching(block(x), x, x)
    assert loss.dtype == torch.float32 and loss.device.type == "cuda"
    assert seen.devices == {"cuda"}, "an operation left the GPU"
    assert seen.dtypes["addmm"] == {precision.dtype}, "products are in half precision"
    assert seen.dtypes["mean"] == {torch.float32}, "and sums are not"


@pytest.mark.parametrize("on", [True, False])
def test_tf32_is_for_products_and_convolutions_alike(on):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    config, precision = TrainingConfig(tf32=on), choose_precision("fp32", "cpu")
    try:
        with gpu((8, 0)):
            apply_switches(Toy(), choose_switches(config, Toy(), "cuda", precision), "cuda")
        assert torch.get_float32_matmul_precision() == ("high" if on else "highest")
        assert torch.backends.cudnn.allow_tf32 is on
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_states_follow_a_batch_into_pinned_memory(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    states = batch()["states"]
    pinned = states.pin_memory()
    assert pinned.encoder_hidden_states is not states.encoder_hidden_states
    torch.testing.assert_close(pinned.encoder_hidden_states, states.encoder_hidden_states)
    assert states.to("cpu", non_blocking=True).device.type == "cpu"


def test_the_seams_of_optimiser_and_loader():
    assert fused_switch(TrainingConfig(), "cuda").on
    assert not fused_switch(TrainingConfig(), "xpu").on
    assert pin_memory_switch(TrainingConfig(), "cuda").on
    for on in (True, False):
        groups = build_optimizer(Toy(), TrainingConfig(fused=on)).param_groups
        assert {group["fused"] for group in groups} == {on}
