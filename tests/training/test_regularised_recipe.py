"""A tiny recipe with all that keeps a run honest: dropout, flips, few pictures, an adversary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from vislm_tutorial.data.mirror import mirror_caption
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.generators import AutoencoderConfig, FlowConfig
from vislm_tutorial.generators.config import build_backbone
from vislm_tutorial.training.adversarial import Adversarial
from vislm_tutorial.training.config import TrainingConfig, load_dataclass
from vislm_tutorial.training.datasets import DataConfig, load_images
from vislm_tutorial.training.recipe import Recipe, load_recipe, train_recipe
from vislm_tutorial.types import Condition

STEPS = TrainingConfig(
    **{"steps": 4, "batch_size": 4, "warmup_steps": 1, "ema_decay": 0.5, "log_every": 1},
    **{"validate_every": 2, "checkpoint_every": 2},
)
TINY = Recipe(
    "tiny",
    data=DataConfig(size=24, image_size=16, validation=2, limit=6, flips="words"),
    fusion=FusionConfig("projector", width=16, depth=1, heads=2),
    generator=FlowConfig(backbone="unet", width=8, heads=2, multipliers=(1,), dropout=0.2),
    autoencoder=AutoencoderConfig(2, (8, 16), latent_channels=4, norm_groups=4),
    autoencoder_training=STEPS,
    training=replace(STEPS, optimizer="muon"),
    adversarial=Adversarial(0.1, steps=2),
)


@pytest.mark.parametrize("backbone", ["unet", "dit"])
def test_dropout_is_random_in_training_and_away_in_drawing(backbone):
    config = FlowConfig(
        backbone=backbone, width=16, depth=2, heads=2, multipliers=(1, 2), dropout=0.5
    )
    torch.manual_seed(0)
    network = build_backbone(config, 8, 4, 16)
    for parameter in network.parameters():  # outputs and gates start at 0, and hide the rest
        torch.nn.init.normal_(parameter, std=0.2)
    states = torch.randn(1, 3, 16)
    condition = Condition(states, torch.ones(1, 3, dtype=torch.bool), states[:, 0])
    asked = (torch.randn(1, 4, 8, 8), torch.tensor([500.0]), condition)
    network.train()
    assert not torch.allclose(network(*asked), network(*asked))
    network.eval()
    assert torch.equal(network(*asked), network(*asked))
    plain = build_backbone(replace(config, dropout=0.0), 8, 4, 16)
    plain.load_state_dict(network.state_dict())  # dropout has no weights
    plain.train()
    torch.testing.assert_close(plain(*asked), network(*asked))


def test_a_dropout_out_of_range_is_refused():
    with pytest.raises(ValueError, match="dropout=1.0"):
        FlowConfig(dropout=1.0)


def test_a_recipe_with_all_of_them_trains_and_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    assert train_recipe(TINY, run, say=lambda line: None).stopped == "done"
    assert load_recipe(run / "recipe.yaml") == TINY
    pictures = load_file(run / "pictures.safetensors")["pictures"]
    assert len(pictures) == 48 and not torch.equal(pictures[:24], pictures[24:])
    first, newest = sorted((run / "generator").glob("checkpoint-*.safetensors"))
    before = load_file(newest)
    newest.unlink()  # as if it had been killed after step 2
    assert train_recipe(TINY, run, say=lambda line: None).step == 4
    after = load_file(newest)
    for name, value in before.items():
        assert torch.equal(value, after[name]), f"{name} differs"


def test_yaml_names_them():
    section = {"epsilon": "0.1", "steps": 3}
    recipe = load_dataclass(
        Recipe,
        {"name": "x", "adversarial": section, "data": {"flips": "blind", "limit": 7}},
        "x.yaml",
    )
    assert recipe.adversarial == Adversarial(0.1, 3)
    images = load_images(replace(recipe.data, size=8, image_size=16))
    assert images.captions[8:] == images.captions[:8]
    words = load_images(replace(recipe.data, size=8, image_size=16, flips="words"))
    assert words.captions[8:] == [mirror_caption(said) for said in words.captions[:8]]
    with pytest.raises(ValueError, match="flips is 'word'.*'words'"):
        load_dataclass(Recipe, {"name": "x", "data": {"flips": "word"}}, "x.yaml")
