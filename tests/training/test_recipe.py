"""Recipes: reading them, running tiny ones end to end, going on with them, and what they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Subset

import vislm_tutorial
from vislm_tutorial.encoders import TokenReader, load_encoder
from vislm_tutorial.encoders.learning import LearningEncoder
from vislm_tutorial.fusion import FusionConfig
from vislm_tutorial.generators import (
    Autoencoder,
    AutoencoderConfig,
    CGANConfig,
    CodebookConfig,
    CodeGenerator,
    CVAEConfig,
    FlowConfig,
    FlowGenerator,
    ImageGPTConfig,
    PixelCNNConfig,
    VQAutoencoder,
)
from vislm_tutorial.pipeline import VisLMPipeline, save_bundled
from vislm_tutorial.training.autoencoding import load_autoencoder
from vislm_tutorial.training.checkpoint import checkpoint_steps
from vislm_tutorial.training.config import TrainingConfig
from vislm_tutorial.training.datasets import (
    DataConfig,
    as_batch,
    load_images,
    prepare_pictures,
    split_rows,
)
from vislm_tutorial.training.recipe import EncoderConfig, Recipe, load_recipe, train_recipe
from vislm_tutorial.training.runs import run_recipe, run_weights
from vislm_tutorial.tuning import Full

STEPS = TrainingConfig(
    steps=4,
    batch_size=4,
    warmup_steps=1,
    ema_decay=0.5,
    validate_every=2,
    sample_every=4,
    checkpoint_every=2,
    log_every=1,
)
TINY = Recipe(
    "tiny",
    data=DataConfig(size=24, image_size=16, validation=4),
    fusion=FusionConfig("projector", width=16, depth=1, heads=2),
    generator=FlowConfig(backbone="dit", width=16, depth=1, heads=2, patch_size=2),
    autoencoder=AutoencoderConfig(2, (8, 16), latent_channels=4, norm_groups=4),
    autoencoder_training=STEPS,
    training=STEPS,
)
A_MOMENT = 1e-4  # minutes: over before the first step is done


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    """Captions' states of these tests stay out of the reader's cache."""
    monkeypatch.setenv("VISLM_CACHE", str(cache))


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache) -> Path:
    """The folder of a run of TINY that went through without a stop; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISLM_CACHE", str(cache))
        assert train(TINY, folder).stopped == "done"
    return folder


def train(recipe: Recipe, folder: Path, **options):
    return train_recipe(recipe, folder, say=lambda line: None, **options)


def draw(pipe: VisLMPipeline, caption: str = "a red circle") -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(caption, num_inference_steps=3, generator=generator, output_type="pt").images


def test_a_standardised_fusion_begins_with_channels_of_variance_1(tmp_path):
    still = replace(STEPS, steps=1, learning_rate=1e-9, validate_every=0, sample_every=0)
    recipe = replace(
        TINY,
        training=still,
        fusion=replace(TINY.fusion, standardise=True),
        autoencoder_from="bundled",
    )
    train(recipe, tmp_path)
    fusion, encoder = (getattr(VisLMPipeline.from_run(tmp_path), k) for k in ("fusion", "encoder"))
    states = encoder.encode(load_images(recipe.data).captions)
    heard = fusion.norm(states.encoder_hidden_states[states.encoder_attention_mask])
    assert (heard.std(dim=0) - 1).abs().max() < 0.5  # by other captions, but not far from it
    assert (fusion.norm.weight > 1.05).any()  # a plain norm begins at 1 everywhere


# --- reading ------------------------------------------------------------------------------------

RECIPES = sorted((Path(__file__).parents[2] / "vislm_tutorial" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_reads_and_bears_its_files_name(path):
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem and recipe.description
    assert load_recipe(path) == recipe


STORED = Path(vislm_tutorial.__file__).parents[1].glob("book/weights/*/recipe.yaml")


@pytest.mark.parametrize(
    "path",
    [*sorted(STORED), Path(vislm_tutorial.__file__).parent / "weights" / "recipe.yaml"],
    ids=lambda path: path.parent.name,
)
def test_the_recipes_of_all_weights_read(path):
    assert load_recipe(path).encoder.name == "minilm"


def test_smollm2s_recipe_differs_from_scenes_in_the_language_model_alone():
    scenes, other = load_recipe("scenes"), load_recipe("scenes-smollm2")
    assert other.encoder == replace(scenes.encoder, name="smollm2")
    for name in ("data", "fusion", "generator", "training", "caption_dropout"):
        assert getattr(other, name) == getattr(scenes, name), name


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(FileNotFoundError, match="no recipe 'scnes'.*quick, scenes, scenes-smollm2"):
        load_recipe("scnes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ngenerator:\n  dept: 3", "unknown key 'dept'. Did you mean 'depth'"),
        ("name: [x", "bad.yaml is not valid YAML"),
        ("name: x\nautoencoder: null\nautoencoder_from: bundled", "means pixels, but"),
        ("name: x\nautoencoder: null\ncodebook: {codes: 8}", "which is of latents"),
        ("name: x\ngenerator: {kind: gtp}", "kind is 'gtp'.*flow, image_gpt"),
        ("name: x\ngenerator: {kind: image_gpt}\nweights_from: bundled", "only a flow goes on"),
        (
            "name: x\ngenerator: {kind: image_gpt}\nfusion: {kind: timestep_resampler}",
            "image_gpt has no timesteps; take a flow",
        ),
        ("name: x\ngenerator: {kind: cgan}\ntraining: {validate_every: 5}", "two players"),
        ("name: x\nweights_from: bundled", "set autoencoder_from, now '', to it too"),
        ("name: x\ndata: {validation: 0}\ntraining: {validate_every: 5}", "nothing to validate on"),
        ("name: x\nadversarial: {steps: 1}\ntraining: {sharding: fsdp}", "adversarial.*set ddp"),
        (
            "name: x\ntuning: {kind: adalora}\ntraining: {sharding: fsdp, ema_decay: 0}",
            "AdaLoRA.*set ddp",
        ),
    ],
)
def test_a_bad_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


# --- the data -----------------------------------------------------------------------------------


def test_rows_are_split_once_and_for_all():
    scenes = DataConfig(validation=3)
    assert split_rows(100, scenes) == (list(range(3, 100)), [0, 1, 2])
    folder = DataConfig(source="somewhere", validation=30)
    rows, held = split_rows(100, folder)
    assert sorted(rows + held) == list(range(100)) and len(held) == 10
    assert held != list(range(10)) and split_rows(100, folder) == (rows, held)
    assert split_rows(100, replace(folder, seed=1)) != (rows, held)
    assert (
        len(split_rows(2, folder)[1]) == 1 and split_rows(2, replace(folder, validation=0))[1] == []
    )
    with pytest.raises(ValueError, match="has 1 picture.*Add pictures"):
        split_rows(1, folder)


def test_pictures_are_prepared_in_order_and_kept_small():
    pictures = load_images(DataConfig(size=5, image_size=16))
    single = torch.stack([pictures[i]["image"] for i in range(5)])
    pixels = prepare_pictures(pictures, FlowGenerator(torch.nn.Identity()))
    assert pixels.dtype == torch.uint8
    torch.testing.assert_close(as_batch(pixels), single, atol=0.5 / 127.5 + 1e-6, rtol=0)
    subset = Subset(pictures, [3, 1])
    shape = {"patch_size": 2, "channels": (8,), "latent_channels": 4, "norm_groups": 4}
    autoencoder = Autoencoder(**shape).eval()
    latents = prepare_pictures(subset, FlowGenerator(torch.nn.Identity(), autoencoder))
    assert latents.dtype == torch.float16
    torch.testing.assert_close(
        as_batch(latents), autoencoder.encode(single[[3, 1]]), atol=5e-3, rtol=0
    )
    with_codebook = VQAutoencoder(codes=300, **shape).eval()
    codes = prepare_pictures(subset, CodeGenerator(torch.nn.Identity(), with_codebook))
    assert codes.dtype == torch.int16
    assert torch.equal(as_batch(codes), with_codebook.encode_codes(single[[3, 1]]))


# --- running ------------------------------------------------------------------------------------


def test_a_run_leaves_what_is_needed_to_understand_and_to_use_it(run):
    assert run_recipe(run) == TINY
    for file in ("log.jsonl", "run.json", "model.safetensors", "samples/step-00000004.png"):
        assert (run / "generator" / file).is_file(), file
    lines = [
        json.loads(line) for line in (run / "generator" / "log.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if "validation/loss" in line] == [2, 4]
    assert load_file(run / "pictures.safetensors")["pictures"].shape == (24, 4, 4, 4)
    stages = [json.loads((run / s / "run.json").read_text()) for s in ("autoencoder", "generator")]
    assert [stage["meta"]["stage"] for stage in stages] == ["autoencoder", "generator"]


def test_stopped_in_either_stage_it_goes_on_to_the_same_weights(run, tmp_path):
    folder = tmp_path / "pieces"
    first = train(TINY, folder, max_minutes=A_MOMENT)
    assert (first.stopped, first.step) == ("time", 1)
    assert not (folder / "autoencoder" / "model").exists() and not (folder / "generator").exists()
    train(replace(TINY, training=replace(STEPS, max_minutes=A_MOMENT)), folder)
    assert checkpoint_steps(folder / "generator") == [1]
    again = train(TINY, folder)
    assert (again.stopped, again.step) == ("done", 4)
    for file in ("generator/model.safetensors", "pictures.safetensors"):
        expected, found = load_file(run / file), load_file(folder / file)
        assert all(torch.equal(expected[name], found[name]) for name in expected), file


def test_another_recipe_or_other_pictures_in_the_same_folder_are_refused(run, tmp_path):
    deeper = replace(TINY, generator=replace(TINY.generator, depth=2))
    with pytest.raises(ValueError, match="begun with generator .*depth=1.*another run folder"):
        train(deeper, run)
    longer = replace(TINY, training=replace(STEPS, batch_size=8))
    with pytest.raises(ValueError, match="global_batch=4, now it is 8"):
        train(longer, run)
    assert run_recipe(run) == TINY  # what is refused leaves no trace


def test_an_autoencoder_is_taken_over_unchanged(run, tmp_path):
    recipe = replace(TINY, autoencoder_from=str(run))
    train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "autoencoder" / "log.jsonl").exists()
    ours, theirs = load_autoencoder(tmp_path / "run"), load_autoencoder(run)
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    )
    with pytest.raises(FileNotFoundError, match="no trained autoencoder in .*nowhere.*'bundled'"):
        train(replace(TINY, autoencoder_from=str(tmp_path / "nowhere")), tmp_path / "other")


def test_a_run_goes_on_from_trained_weights(run, tmp_path):
    trained = save_bundled(run, tmp_path / "trained")
    file = trained / "backbone" / "config.json"  # of before the backbone had this choice
    older = {k: v for k, v in json.loads(file.read_text()).items() if k != "conditioning"}
    file.write_text(json.dumps(older))
    base = replace(TINY, autoencoder_from=str(trained), weights_from=str(trained))
    flat = replace(STEPS, steps=1, learning_rate=1e-12, schedule="constant")
    still = replace(base, training=flat)
    train(still, tmp_path / "still")
    pipes = VisLMPipeline.from_run(tmp_path / "still"), VisLMPipeline.from_pretrained(trained)
    torch.testing.assert_close(*map(draw, pipes))
    longer = replace(base, training=replace(flat, steps=2))
    moved = trained.rename(tmp_path / "moved")  # a run that has begun needs it no more
    assert train(longer, tmp_path / "still").step == 2
    moved.rename(trained)

    for part, change in (
        ("fusion", {"fusion": FusionConfig("pooled", width=16)}),
        ("backbone", {"generator": replace(TINY.generator, heads=1)}),  # the same tensors
    ):
        with pytest.raises(ValueError, match=f"The {part} in .*trained has .*make them equal"):
            train(replace(base, **change), tmp_path / part)
    nowhere = str(tmp_path / "nowhere")
    other = replace(TINY, autoencoder=None, weights_from=nowhere)
    with pytest.raises(FileNotFoundError, match="no trained fusion in .*nowhere.*'bundled'"):
        train(other, tmp_path / "other")


def test_the_autoencoders_latents_are_normalised(run):
    latents = load_file(run / "pictures.safetensors")["pictures"].float()
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.2
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 0.2


def test_pictures_that_do_not_divide_into_cells_are_refused(tmp_path):
    recipe = replace(TINY, data=replace(TINY.data, image_size=18))
    with pytest.raises(ValueError, match="image_size is 18; expected a multiple of 4"):
        train(recipe, tmp_path)


def test_in_pixel_space_there_is_one_stage(tmp_path):
    recipe = replace(
        TINY,
        data=DataConfig(size=12, image_size=16, validation=2),
        generator=FlowConfig(backbone="unet", width=8, heads=2),
        autoencoder=None,
    )
    assert train(recipe, tmp_path).stopped == "done"
    assert not (tmp_path / "autoencoder").exists()
    pipe = VisLMPipeline.from_run(tmp_path)
    assert pipe.autoencoder is None and draw(pipe).shape == (1, 3, 16, 16)
    save_bundled(tmp_path, tmp_path / "pipeline")
    assert draw(VisLMPipeline.from_pretrained(tmp_path / "pipeline")).shape == (1, 3, 16, 16)


def write_folder(folder: Path, colours: list[str]) -> None:
    """A picture of one colour with its name as caption, for each colour."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number, colour in enumerate(colours):
        Image.new("RGB", (24, 20), colour).save(folder / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "text": f"all {colour}"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def test_own_pictures_train_and_stop_early(tmp_path):
    pictures = tmp_path / "pictures"
    write_folder(pictures, ["red", "blue", "green", "white"] * 3)
    # At this rate the weights drift, so validation cannot go on getting better.
    patient = replace(STEPS, steps=60, validate_every=1, patience=2, sample_every=0)
    recipe = replace(
        TINY,
        data=DataConfig(str(pictures), image_size=16, validation=4),
        training=replace(patient, learning_rate=0.3, schedule="constant"),
    )
    result = train(recipe, tmp_path / "run")
    assert result.stopped == "early" and result.step == result.best_step + 2 < 60
    weights, record = run_weights(tmp_path / "run")
    best = load_file(tmp_path / "run" / "generator" / "best.safetensors")
    assert record["best_step"] == result.best_step
    assert all(torch.equal(weights[name], best[name]) for name in best)
    write_folder(pictures, ["red", "blue", "green", "white"] * 4)
    with pytest.raises(ValueError, match="begun with 12 pictures, now there are 16"):
        train(recipe, tmp_path / "run")


# --- what comes of it ---------------------------------------------------------------------------


def test_from_run_draws_with_the_trained_weights(run):
    pipe = VisLMPipeline.from_run(run)
    trained = load_file(run / "generator" / "model.safetensors")
    for name, value in pipe.backbone.state_dict().items():
        assert torch.equal(value, trained[f"generator.backbone.{name}"])
    assert pipe.encoder.layers == "mean" and draw(pipe).shape == (1, 3, 16, 16)


def test_from_run_takes_the_averaged_weights_of_a_run_that_is_still_going_on(run, tmp_path):
    for file in ("recipe.yaml", "autoencoder/model", "generator/checkpoint-00000004.safetensors"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).symlink_to(run / file)
    weights, record = run_weights(tmp_path)
    finished = load_file(run / "generator" / "model.safetensors")
    assert weights.keys() == finished.keys() and record["step"] == 4 and record["stopped"] is None
    assert all(torch.equal(weights[name], finished[name]) for name in finished)
    assert torch.equal(draw(VisLMPipeline.from_run(tmp_path)), draw(VisLMPipeline.from_run(run)))


def test_a_checkpoint_newer_than_the_finished_piece_is_taken(run, tmp_path):
    folder = tmp_path / "generator"
    folder.mkdir()
    for file in ("model.safetensors", "checkpoint-00000004.safetensors"):
        (folder / file).symlink_to(run / "generator" / file)
    record = json.loads((run / "generator" / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"step": 2, "stopped": "time"}))
    assert run_weights(tmp_path)[1]["stopped"] is None
    (folder / "run.json").write_text(json.dumps(record))
    assert run_weights(tmp_path)[1]["stopped"] == "done"


def test_what_is_no_run_or_has_saved_nothing_says_so(tmp_path, run):
    with pytest.raises(FileNotFoundError, match="has no recipe.yaml.*not the folder of a run"):
        VisLMPipeline.from_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither finished weights nor a whole checkpoint"):
        run_weights(tmp_path)


def test_export_is_half_precision_and_says_where_it_comes_from(run, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "exact_eval.json").write_text("of other weights")
    assert save_bundled(run, folder) == folder
    assert not (folder / "exact_eval.json").exists()
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} == {
        *(".json", ".jsonl", ".safetensors", ".yaml")
    }
    for part in ("fusion", "backbone", "autoencoder"):
        tensors = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert (folder / "log.jsonl").read_text() == (run / "generator" / "log.jsonl").read_text()
    assert (folder / "autoencoder" / "run.json").is_file()
    assert json.loads((folder / "run.json").read_text())["stopped"] == "done"
    assert load_recipe(folder / "recipe.yaml") == TINY
    exported, original = VisLMPipeline.from_pretrained(folder), VisLMPipeline.from_run(run)
    assert (draw(exported) - draw(original)).abs().max() < 0.02
    assert torch.equal(load_autoencoder(folder).latent_std, exported.autoencoder.latent_std)
    texts = [f.read_text() for f in folder.rglob("*.json")]
    assert not any(str(run.parent) in text for text in texts)


def test_large_weights_are_exported_in_files_of_less_than_six_megabytes(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vislm_tutorial.pipeline.SHARD_SIZE", "4KB")
    folder = save_bundled(run, tmp_path)
    parts = sorted((folder / "backbone").glob("*.safetensors"))
    assert len(parts) > 2
    exported = VisLMPipeline.from_pretrained(folder)
    whole = VisLMPipeline.from_run(run).backbone.state_dict()
    assert all(
        torch.equal(v.half().float(), exported.backbone.state_dict()[k]) for k, v in whole.items()
    )
    monkeypatch.setattr("vislm_tutorial.pipeline.SHARD_SIZE", "6MB")
    save_bundled(run, tmp_path)  # older parts do not stay
    assert len(list((folder / "backbone").glob("*.safetensors"))) == 1
    assert torch.equal(draw(VisLMPipeline.from_pretrained(folder)), draw(exported))


def test_a_trained_pipeline_takes_another_scheduler_of_diffusers(run):
    pipe = VisLMPipeline.from_run(run)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    euler = draw(pipe)
    pipe.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True
    )
    other = draw(pipe)
    assert 0 < (other - euler).abs().max() < 0.5


# --- other families -----------------------------------------------------------------------------

GPT = replace(
    TINY,
    generator=ImageGPTConfig(width=16, depth=1, heads=2, max_prefix=32),
    codebook=CodebookConfig(codes=12),
    codebook_training=STEPS,
)


def test_image_gpt_trains_over_a_codebook_and_draws(tmp_path):
    folder = tmp_path / "run"
    stopped = train(GPT, folder, max_minutes=A_MOMENT)
    assert stopped.stopped == "time" and not (folder / "codebook").exists()
    assert train(GPT, folder).stopped == "done"
    for stage in ("autoencoder", "codebook", "generator"):
        assert json.loads((folder / stage / "run.json").read_text())["meta"]["stage"] == stage
    codes = load_file(folder / "pictures.safetensors")["pictures"]
    assert codes.shape == (24, 4, 4) and codes.dtype == torch.int16 and len(codes.unique()) > 2
    assert (folder / "generator" / "samples" / "step-00000004.png").is_file()
    pipe = VisLMPipeline.from_run(folder)
    assert pipe.scheduler is None
    pipe.set_progress_bar_config(disable=True)

    def gpt(caption: str, seed: int = 0, **options) -> torch.Tensor:
        noise = torch.Generator().manual_seed(seed)
        return pipe(caption, generator=noise, output_type="pt", **options).images

    drawn = gpt("a red circle")
    assert drawn.shape == (1, 3, 16, 16) and torch.equal(gpt("a red circle"), drawn)
    assert not torch.equal(gpt("a red circle", seed=1), drawn)
    for mistake, message in (
        ({"num_inference_steps": 3}, "CodeGenerator has no such setting; it has guidance_scale"),
        ({"scheduler": "euler"}, "are for flows"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            gpt("a red circle", **mistake)
    save_bundled(folder, tmp_path / "weights")
    again = VisLMPipeline.from_pretrained(tmp_path / "weights", encoder=pipe.encoder)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.autoencoder, VQAutoencoder)
    assert again("a red circle", temperature=0.0, output_type="pt").images.shape == drawn.shape


def test_image_gpt_wants_a_codebook(tmp_path):
    with pytest.raises(ValueError, match="add a `codebook:` section"):
        train(replace(GPT, codebook=None), tmp_path)


@pytest.mark.parametrize(
    "generator",
    [
        CVAEConfig(
            patch_size=2, widths=(8, 8), layers=(1, 1, 1), latent_channels=(4, 2, 2), heads=2
        ),
        CGANConfig(patch_size=2, widths=(8, 8), depth=1, latent_width=4),
        PixelCNNConfig(width=8, dilations=(1, 2), attention_layers=(1,), heads=2, components=2),
    ],
    ids=lambda config: config.kind,
)
def test_families_of_pixels_train_and_draw(generator, tmp_path):
    judged = replace(STEPS, validate_every=0) if generator.kind == "cgan" else STEPS
    recipe = replace(TINY, generator=generator, autoencoder=None, training=judged)
    assert train(recipe, tmp_path / "run").stopped == "done"
    pictures = load_file(tmp_path / "run" / "pictures.safetensors")["pictures"]
    assert pictures.shape == (24, 3, 16, 16) and pictures.dtype == torch.uint8
    save_bundled(tmp_path / "run", tmp_path / "weights")
    pipe = VisLMPipeline.from_pretrained(tmp_path / "weights")
    pipe.set_progress_bar_config(disable=True)
    drawn = [
        pipe("a red circle", generator=torch.Generator().manual_seed(seed), output_type="pt").images
        for seed in (0, 0, 1)
    ]
    assert drawn[0].shape == (1, 3, 16, 16) and torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    if generator.kind == "pixelcnn":  # the others draw either
        with pytest.raises(ValueError, match="draws pixels; set `autoencoder: null`"):
            train(replace(recipe, autoencoder=TINY.autoencoder), tmp_path / "other")


@pytest.mark.parametrize(
    "generator",
    [
        CVAEConfig(widths=(8, 8), layers=(1, 1, 1), latent_channels=(4, 2, 2), heads=2),
        CGANConfig(widths=(8,), latent_width=4),
    ],
    ids=lambda config: config.kind,
)
def test_families_of_latents_train_and_draw(generator, tmp_path, run):
    judged = replace(STEPS, validate_every=0) if generator.kind == "cgan" else STEPS
    recipe = replace(TINY, generator=generator, autoencoder_from=str(run), training=judged)
    assert train(recipe, tmp_path / "run").stopped == "done"
    latents = load_file(tmp_path / "run" / "pictures.safetensors")["pictures"]
    assert latents.shape == (24, 4, 4, 4) and latents.dtype == torch.float16
    save_bundled(tmp_path / "run", tmp_path / "weights")
    pipe = VisLMPipeline.from_pretrained(tmp_path / "weights")
    images = pipe("a red circle", output_type="pt").images
    assert images.shape == (1, 3, 16, 16) and images.abs().max() <= 1


def test_an_encoder_that_learns_is_trained_and_drawn_with(tmp_path, run):
    """And not one that stays frozen: its weights are those that the seed gives."""
    random = EncoderConfig("scratch:minilm", "mean")
    recipe = replace(TINY, encoder=random, tuning=Full(), autoencoder_from=str(run))
    result = train_recipe(recipe, tmp_path, say=lambda line: None)
    assert result.step == STEPS.steps
    fresh = load_encoder("scratch:minilm", "mean").model.state_dict()
    weights, _ = run_weights(tmp_path)
    learned = {k.removeprefix("encoder.model."): v for k, v in weights.items() if "encoder." in k}
    assert fresh.keys() - learned.keys() == {"pooler.dense.weight", "pooler.dense.bias"}
    moved = [name for name in learned if not torch.equal(fresh[name], learned[name])]
    assert "embeddings.word_embeddings.weight" in moved
    assert "encoder.layer.0.attention.self.query.weight" in moved
    pipe = VisLMPipeline.from_run(tmp_path)
    word = pipe.encoder.model.embeddings.word_embeddings.weight
    assert torch.equal(word, learned["embeddings.word_embeddings.weight"])
    assert draw(pipe).shape == (1, 3, 16, 16)
    pipe.save_pretrained(tmp_path / "saved")
    assert torch.equal(draw(VisLMPipeline.from_pretrained(tmp_path / "saved")), draw(pipe))


def test_a_token_readers_numbers_become_the_encoders_states():
    encoder = load_encoder("minilm", "mean")
    captions = ["a red circle", "two small blue squares", ""]
    states = LearningEncoder(encoder)(TokenReader(encoder).encode(captions))
    expected = encoder.encode(captions)
    assert torch.equal(states.encoder_attention_mask, expected.encoder_attention_mask)
    torch.testing.assert_close(
        states.encoder_hidden_states, expected.encoder_hidden_states, atol=1e-5, rtol=1e-5
    )
    assert states.encoder_hidden_states.requires_grad
