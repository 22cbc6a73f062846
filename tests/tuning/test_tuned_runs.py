"""A recipe that teaches the language model alone: what its run keeps and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.generators import AutoencoderConfig, FlowConfig
from vislm_tutorial.pipeline import VisLMPipeline, save_bundled
from vislm_tutorial.training import checkpoint
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.datasets import DataConfig, load_images
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, train_recipe
from vislm_tutorial.tuning import AdaLoRA, Adapters, LoRA, attach

STEPS = TrainingConfig(
    steps=6,
    batch_size=4,
    warmup_steps=0,
    ema_decay=0.0,
    learning_rate=0.05,
    checkpoint_every=2,
    log_every=1,
)
BASE = Recipe(
    "base",
    data=DataConfig(size=24, image_size=16, validation=4),
    encoder=EncoderConfig("scratch:minilm", "mean"),
    fusion=FusionConfig("projector", width=16, depth=1, heads=2),
    generator=FlowConfig(backbone="dit", width=16, depth=1, heads=2, patch_size=2),
    autoencoder=AutoencoderConfig(2, (8, 16), latent_channels=4, norm_groups=4),
    autoencoder_training=replace(STEPS, steps=1),
    training=replace(STEPS, steps=1),
)


def train(recipe: Recipe, folder: Path, **options):
    return train_recipe(recipe, folder, say=lambda line: None, **options)


def draw(pipe: VisLMPipeline) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    return pipe("a disc", num_inference_steps=2, generator=noise, output_type="pt").images


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("VISLM_CACHE", str(cache))


@pytest.fixture(scope="module")
def base(tmp_path_factory, cache) -> Path:
    """The folder of a pipeline to go on from; its drawings must not be all alike."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISLM_CACHE", str(cache))
        train(BASE, folder)
    pipe = VisLMPipeline.from_run(folder)
    with torch.no_grad():
        for parameter in pipe.backbone.parameters():  # new blocks begin as the identity
            parameter += 0.1 * torch.randn(parameter.shape)
    pipe.save_pretrained(folder / "pipeline")
    return folder


def taught(base: Path, tuning) -> Recipe:
    return replace(
        BASE,
        autoencoder_from=str(base / "pipeline"),
        weights_from=str(base / "pipeline"),
        freeze=("fusion", "generator"),
        tuning=tuning,
        training=STEPS,
    )


@pytest.mark.parametrize("tuning", [Adapters(4), LoRA(2), AdaLoRA(4, 2)], ids=lambda t: t.kind)
def test_the_language_model_alone_is_taught_and_kept(tuning, base, tmp_path):
    run = tmp_path / "run"
    assert train(taught(base, tuning), run).stopped == "done"
    saved = checkpoint.load(checkpoint.latest(run / "generator"))
    parameters = [name for name in saved.tensors if name.startswith("model/encoder.")]
    assert parameters and not [n for n in saved.tensors if "model/fusion" in n]
    assert not [n for n in saved.tensors if "word_embeddings" in n or "model/generator" in n]
    pipe, before = VisLMPipeline.from_run(run), VisLMPipeline.from_pretrained(base / "pipeline")
    for name, weight in before.backbone.state_dict().items():
        assert torch.equal(weight, pipe.backbone.state_dict()[name])
    assert (draw(pipe) - draw(before)).abs().max() > 1e-3
    pipe.save_pretrained(tmp_path / "saved")
    again = VisLMPipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(draw(again), draw(pipe)) and again.encoder.tuning == tuning
    assert (tmp_path / "saved" / "encoder" / "learned.safetensors").stat().st_size < 400_000
    before.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "encoder").exists()  # nothing of the older one is left


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(base, tmp_path):
    """Frozen parts are loaded anew, importances and ranks come back with the checkpoint."""
    recipe = taught(base, AdaLoRA(4, 2))
    through = train(recipe, tmp_path / "through")
    stopped = train(recipe, tmp_path / "pieces", max_minutes=1e-4)
    assert stopped.stopped == "time" and stopped.step < STEPS.steps
    pieces = train(recipe, tmp_path / "pieces")
    one, two = (checkpoint.read(result.weights)[0] for result in (through, pieces))
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_adaloras_penalty_is_no_part_of_what_is_validated(base, tmp_path):
    import json

    steps = replace(STEPS, steps=1, learning_rate=1e-12, validate_every=1)
    found = []
    for tuning in (AdaLoRA(4, 2, orthogonality=0.5), AdaLoRA(4, 2, orthogonality=50.0)):
        run = tmp_path / str(tuning.orthogonality)
        train(replace(taught(base, tuning), training=steps), run)
        lines = [json.loads(line) for line in (run / "generator" / "log.jsonl").open()]
        found.append(
            [next(e[key] for e in lines if key in e) for key in ("loss", "validation/loss")]
        )
    (loss, validated), (other, also) = found
    assert other > loss + 1 and also == pytest.approx(validated)


def test_a_second_round_goes_on_from_what_the_encoder_was_taught(base, tmp_path):
    run, first = tmp_path / "first", tmp_path / "pipeline"
    train(taught(base, LoRA(2)), run)
    pipe = VisLMPipeline.from_run(run)
    pipe.save_pretrained(first)
    still = replace(STEPS, steps=1, learning_rate=1e-12)
    again = replace(taught(base, LoRA(2)), weights_from=str(first), autoencoder_from=str(first))
    again = replace(again, training=still)
    train(again, tmp_path / "second")
    torch.testing.assert_close(draw(VisLMPipeline.from_run(tmp_path / "second")), draw(pipe))
    for tuning in (None, AdaLoRA(4, 2)):
        other = replace(again, tuning=tuning, freeze=("generator",))
        with pytest.raises(ValueError, match="was taught, and a recipe with tuning"):
            train(other, tmp_path / f"other {tuning}")
    with pytest.raises(ValueError, match="go on with the one that it was learned by"):
        train(replace(again, tuning=LoRA(3)), tmp_path / "LoRA 3")
    alone = replace(again, tuning=None, freeze=("generator",), weights_of=("generator",))
    assert train(alone, tmp_path / "alone").stopped == "done"  # a fresh fusion reads any encoder


def test_a_fusion_goes_on_with_the_encoder_that_it_knows(base, tmp_path):
    recipe = replace(taught(base, LoRA(2)), encoder=EncoderConfig("scratch:minilm", "last"))
    with pytest.raises(
        ValueError, match="trained with encoder.layers 'mean', the recipe has 'last'"
    ):
        train(recipe, tmp_path)


def test_a_taught_encoder_is_not_taken_for_the_one_of_training(base):
    encoder = load_encoder("scratch:minilm", "mean")
    attach(encoder, LoRA(2))
    for opened, folder in (("from_pretrained", base / "pipeline"), ("from_run", base)):
        with pytest.raises(ValueError, match="states of before"):
            getattr(VisLMPipeline, opened)(folder, encoder=encoder)


def test_adaloras_ranks_are_in_the_log(base, tmp_path):
    import json

    train(taught(base, AdaLoRA(4, 2)), tmp_path)
    lines = (tmp_path / "generator" / "log.jsonl").read_text().splitlines()
    ranks = [json.loads(line)["rank"] for line in lines]
    assert ranks[0] == 4 and ranks[-1] == 2


def test_a_fusion_can_learn_behind_a_generator_that_stays(base, tmp_path):
    """The fusion is fresh, of another shape than the one beside the generator."""
    recipe = replace(
        taught(base, LoRA(2)),
        tuning=None,
        fusion=replace(BASE.fusion, depth=2),
        weights_of=("generator",),
        freeze=("generator",),
    )
    train(recipe, tmp_path / "run")
    save_bundled(tmp_path / "run", tmp_path / "pipeline")
    pipe = VisLMPipeline.from_pretrained(tmp_path / "pipeline")
    assert draw(pipe).shape == (1, 3, 16, 16)
    assert len(pipe.fusion.state_dict()) > 0 and pipe.fusion.config.depth == 2


def test_synonyms_are_said_in_their_share_of_the_captions():
    from vislm_tutorial.data.captions import COLOUR_SYNONYMS, SHAPE_SYNONYMS

    new = {w for words in (COLOUR_SYNONYMS | SHAPE_SYNONYMS).values() for w in words}
    plain = load_images(DataConfig(size=400))
    mixed = load_images(DataConfig(size=400, synonyms=0.5))
    assert plain.things == mixed.things

    def share(captions) -> float:
        return sum(any(word in caption for word in new) for caption in captions) / len(captions)

    assert share(plain.captions) < 0.05 and 0.4 < share(mixed.captions) < 0.6
    with pytest.raises(ValueError, match="synonyms=0.5 of 'openmoji'"):
        DataConfig(source="openmoji", synonyms=0.5)
