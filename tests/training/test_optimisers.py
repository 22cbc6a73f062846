"""The optimisers: their formulas, what each decays, Muon beside torch's, runs that are resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from training_toy import Points, Toy, error, random_toy

from vislm_tutorial.training import checkpoint, train
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.muon import Muon, muon_matrices, newton_schulz, orthogonalised
from vislm_tutorial.training.optim import build_optimizer
from vislm_tutorial.training.state import check_same_run

NAMES = ("adam", "adamw", "sgd", "muon")
RATE, DECAY = 0.1, 0.5


def one_step(name: str, weight: torch.Tensor, gradient: torch.Tensor, **changes) -> torch.Tensor:
    """A linear layer's weight after the first step with that gradient."""
    layer = nn.Linear(*weight.T.shape, bias=False)
    layer.weight.data.copy_(weight)
    layer.weight.grad = gradient.clone()
    settings = {"learning_rate": RATE, "weight_decay": DECAY, **changes}
    build_optimizer(layer, TrainingConfig(optimizer=name, **settings)).step()
    return layer.weight.detach()


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def gradient() -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


def test_decay_is_a_penalty_in_adam_and_sgd_and_a_shrinking_in_the_others(weight, gradient):
    """The first step of Adam is the gradient's sign, so a penalty changes signs and no more."""
    shrunk = (1 - RATE * DECAY) * weight
    penalised = gradient + DECAY * weight
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(
        one_step("adamw", weight, gradient), shrunk - RATE * gradient.sign(), **close
    )
    torch.testing.assert_close(
        one_step("adam", weight, gradient), weight - RATE * penalised.sign(), **close
    )
    torch.testing.assert_close(
        one_step("sgd", weight, gradient), weight - RATE * penalised, **close
    )
    free = one_step("muon", weight, gradient, weight_decay=0.0)
    torch.testing.assert_close(
        one_step("muon", weight, gradient), free - RATE * DECAY * weight, **close
    )


@pytest.mark.parametrize("name", NAMES)
def test_vectors_never_decay(name):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8))
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name, weight_decay=DECAY))
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {name: decay[p] for name, p in model.named_parameters()} == {
        **{"0.weight": DECAY, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}
    }


def test_momentum_is_that_of_the_settings(weight, gradient):
    for name in ("sgd", "muon"):
        model = nn.Linear(5, 3)
        groups = build_optimizer(model, TrainingConfig(optimizer=name, momentum=0.7)).param_groups
        assert {group["momentum"] for group in groups} == {0.7}


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 4, 9)])
def test_newton_schulz_evens_the_singular_values_out(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    found = newton_schulz(1000 * x)
    values = torch.linalg.svdvals(found)
    assert found.shape == x.shape and s.max() / s.min() > 2
    assert values.min() > 0.6 and values.max() < 1.25, values
    assert nn.functional.cosine_similarity((u @ vh).flatten(), found.flatten(), 0) > 0.96


@pytest.mark.parametrize("shape", [(64, 576), (3, 48, 192), (192, 12), (1, 7), (40, 48), (16, 16)])
@pytest.mark.parametrize("smallest", [0.0, 1e-6])
def test_the_fast_way_is_newton_schulz_but_for_rounding(shape, smallest):
    """For matrices of low rank too, whose small singular values are noise."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    rank = (s.shape[-1] + 1) // 2
    s = torch.cat([s[..., :rank], smallest * s[..., rank:]], dim=-1)
    x = u @ s.diag_embed() @ vh
    found, expected = orthogonalised(x.float()).double(), newton_schulz(x)
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_newton_schulz_is_torchs_but_for_rounding():
    from torch.optim._muon import _zeropower_via_newtonschulz

    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))
    theirs = _zeropower_via_newtonschulz(x, (3.4445, -4.775, 2.0315), 5, 1e-7)
    torch.testing.assert_close(newton_schulz(x), theirs.float(), rtol=0.05, atol=0.02)


def test_muon_is_torchs_on_matrices_and_adamw_elsewhere():
    """Five steps beside torch.optim.Muon (in bfloat16: hence the tolerance) and AdamW."""
    torch.manual_seed(4)
    ours = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    theirs = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    theirs.load_state_dict(ours.state_dict())
    start = {name: p.detach().clone() for name, p in ours.named_parameters()}
    settings = TrainingConfig(optimizer="muon", learning_rate=RATE, weight_decay=DECAY)
    mine = build_optimizer(ours, settings)
    library = [
        torch.optim.Muon(
            [p for p in theirs.parameters() if p.ndim == 2],
            lr=RATE,
            weight_decay=DECAY,
            momentum=settings.momentum,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [p for p in theirs.parameters() if p.ndim < 2],
            lr=RATE,
            betas=settings.betas,
            weight_decay=0.0,
        ),
    ]
    for _ in range(5):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in (mine, *library):
            optimizer.step()
    pairs = zip(ours.named_parameters(), theirs.parameters(), strict=True)
    for (name, a), b in pairs:
        moved = (a - start[name]).norm()
        assert (a - b).norm() < (0.03 if a.ndim == 2 else 1e-5) * moved, name
        assert moved > 0.1, f"{name} hardly moved"


def test_muon_takes_kernels_and_leaves_tables():
    model = nn.ModuleDict(
        {
            "kernel": nn.Conv2d(3, 4, 3),
            "table": nn.Embedding(5, 4),
            "head": nn.Linear(4, 5, bias=False),
            "linear": nn.Linear(4, 4),
            "frozen": nn.Linear(4, 4).requires_grad_(False),
        }
    )
    model["head"].weight = model["table"].weight  # tied, as in many language models
    names = {p: name for name, p in model.named_parameters()}
    assert {names[p] for p in muon_matrices(model)} == {"kernel.weight", "linear.weight"}
    optimizer = build_optimizer(model, TrainingConfig(optimizer="muon"))
    held = [names[p] for group in optimizer.param_groups for p in group["params"]]
    expected = ["kernel.weight", "kernel.bias", "table.weight", "linear.weight", "linear.bias"]
    assert sorted(held) == sorted(expected), "each learns once, and what is frozen not at all"


def test_a_kernels_step_is_even_in_all_directions():
    kernel = nn.Parameter(torch.zeros(4, 3, 3, 3))
    kernel.grad = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(5))
    Muon([{"params": [kernel], "orthogonal": True}], lr=1.0, weight_decay=0.0).step()
    values = torch.linalg.svdvals(kernel.detach().flatten(1)) / (0.2 * 27**0.5)
    assert values.min() > 0.6 and values.max() < 1.25
    assert 0.1 < kernel.square().mean().sqrt() < 0.3, "about as long as AdamW's"


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_has_the_same_weights(name, tmp_path):
    torch.set_num_threads(1)
    settings = {
        **{"optimizer": name, "learning_rate": 0.01, "steps": 12, "batch_size": 4},
        **{"warmup_steps": 2, "checkpoint_every": 6, "log_every": 3, "seed": 7},
    }
    data = Points(jitter=0.1)
    train(random_toy(), data, TrainingConfig(**settings), tmp_path / "straight", progress=False)
    pieces = tmp_path / "pieces"
    train(random_toy(), data, TrainingConfig(**settings), pieces, progress=False)
    (pieces / "checkpoint-00000012.safetensors").unlink()  # as if it had been killed after 6
    train(random_toy(), data, TrainingConfig(**settings), pieces, progress=False)
    straight, resumed = _newest(tmp_path / "straight"), _newest(pieces)
    assert resumed.step == straight.step == 12
    assert any(key.startswith("optimizer/") for key in straight.tensors)
    for key, value in straight.tensors.items():
        assert torch.equal(value, resumed.tensors[key]), f"{key} differs"


def test_a_run_from_before_there_was_a_choice_goes_on_with_the_default():
    record = {"config": vars(TrainingConfig(steps=10)), "world_size": 1}
    record["progress"] = {"step": 5}
    younger = ("optimizer", "momentum")
    older = {k: v for k, v in record["config"].items() if k not in younger}
    before = {**record, "config": older}
    check_same_run(before, record, Path("run"))
    other = {**record, "config": vars(TrainingConfig(steps=10, optimizer="sgd"))}
    with pytest.raises(ValueError, match="optimizer='adamw', now it is 'sgd'"):
        check_same_run(before, other, Path("run"))


def _newest(run_dir: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(checkpoint.latest(run_dir))


@pytest.mark.parametrize(
    ("name", "rate"), [("adam", 0.03), ("adamw", 0.03), ("sgd", 0.03), ("muon", 0.15)]
)
def test_each_learns(name, rate, tmp_path):
    settings = TrainingConfig(
        **{"optimizer": name, "learning_rate": rate, "steps": 60, "batch_size": 8},
        **{"warmup_steps": 5, "checkpoint_every": 0, "weight_decay": 0.0, "ema_decay": 0.5},
    )
    model = Toy()
    before = error(model)["mse"]
    train(model, Points(), settings, tmp_path, progress=False)
    assert error(model)["mse"] < 0.2 * before


def test_an_overflowed_step_leaves_muons_weights_alone():
    model = nn.Linear(4, 4)
    optimizer = build_optimizer(model, TrainingConfig(optimizer="muon"))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = model.weight.detach().clone()
    scaler.scale(model(torch.ones(2, 4)).sum() * float("inf")).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight, before) and scaler.get_scale() == 1.0
