"""The pipeline as its users meet it: arguments, pictures, folders, schedulers, shipped weights."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from tiny_pipeline import SIDE, seeds, tiny_pipeline

from vislm_tutorial import registry
from vislm_tutorial._drawing import stochastic_scheduler
from vislm_tutorial.data.parsing import parse
from vislm_tutorial.data.scenes import training_pairs
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.pipeline import VisLMPipeline

CIRCLE, SQUARE = "a red circle", "two blue squares on a grey background"
MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.fixture(scope="module")
def minilm():
    return load_encoder("minilm", layers="mean")


@pytest.fixture
def pipe(minilm) -> VisLMPipeline:
    return tiny_pipeline(minilm)


def draw(pipe, prompt=CIRCLE, **options) -> torch.Tensor:
    """Images (B, 3, H, W) in [-1, 1], with few steps and seed 0 unless told otherwise."""
    number = 1 if isinstance(prompt, str) else len(prompt)
    number *= options.get("num_images_per_prompt", 1)
    defaults = {"num_inference_steps": 3, "generator": seeds(*[0] * number), "output_type": "pt"}
    return pipe(prompt, **(defaults | options)).images


# --- what comes out -----------------------------------------------------------------------------


def test_output_types_are_the_same_picture(pipe):
    tensor = draw(pipe)
    assert tensor.shape == (1, 3, SIDE, SIDE) and tensor.abs().max() <= 1
    array = draw(pipe, output_type="np")
    assert array.shape == (1, SIDE, SIDE, 3) and array.dtype == np.float32
    np.testing.assert_allclose(array[0], (tensor[0].permute(1, 2, 0).numpy() + 1) / 2, atol=1e-6)
    (picture,) = draw(pipe, output_type="pil")
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.array(picture), np.round(array[0] * 255).astype(np.uint8))
    (images,) = pipe(CIRCLE, num_inference_steps=1, return_dict=False)
    assert len(images) == 1


def test_caption_seed_and_guidance_each_change_the_picture(pipe):
    plain = draw(pipe)
    assert torch.equal(draw(pipe), plain)
    for changed in (
        draw(pipe, SQUARE),
        draw(pipe, ""),
        draw(pipe, generator=seeds(1)),
        draw(pipe, guidance_scale=7.0),
        draw(pipe, guidance_scale=1.0),
    ):
        assert (changed - plain).abs().max() > 0.01


def test_guidance_of_zero_forgets_the_caption(pipe):
    torch.testing.assert_close(
        draw(pipe, guidance_scale=0), draw(pipe, "", guidance_scale=1), rtol=0, atol=1e-5
    )


def test_a_seed_draws_the_same_alone_and_in_a_batch(pipe):
    batch = draw(pipe, [CIRCLE, SQUARE, ""], generator=seeds(5, 6, 7))
    alone = draw(pipe, SQUARE, generator=seeds(6))
    torch.testing.assert_close(batch[1:2], alone, rtol=0, atol=1e-4)
    assert torch.equal(draw(pipe, SQUARE, generator=seeds(6)[0]), alone)


def test_images_of_one_prompt_follow_each_other(pipe):
    images = draw(pipe, [CIRCLE, SQUARE], num_images_per_prompt=2, generator=seeds(0, 1, 2, 3))
    for row, (caption, seed) in enumerate([(CIRCLE, 0), (CIRCLE, 1), (SQUARE, 2), (SQUARE, 3)]):
        alone = draw(pipe, caption, generator=seeds(seed))
        torch.testing.assert_close(images[row : row + 1], alone, rtol=0, atol=1e-4)


def test_without_a_generator_torchs_own_is_used(pipe):
    torch.manual_seed(3)
    first = draw(pipe, generator=None)
    assert not torch.equal(draw(pipe, generator=None), first)
    torch.manual_seed(3)
    assert torch.equal(draw(pipe, generator=None), first)


def test_nothing_is_trained_by_drawing(pipe):
    assert not any(p.requires_grad for p in pipe.backbone.parameters())
    assert not draw(pipe).requires_grad and not pipe.backbone.training


# --- steps and schedulers -----------------------------------------------------------------------


def test_default_is_eulers_method_in_equal_steps(pipe):
    """x <- x - v / n from sigma = 1 to 0, written out."""
    condition, empty = pipe.encode_prompt([CIRCLE])
    x = torch.randn(1, 4, 4, 4, generator=seeds(0)[0])
    for sigma in (1.0, 0.75, 0.5, 0.25):
        time = torch.tensor([1000 * sigma])
        with torch.no_grad():
            v, v_empty = pipe.backbone(x, time, condition), pipe.backbone(x, time, empty)
        x = x - (v_empty + 2.5 * (v - v_empty)) / 4
    by_hand = pipe.autoencoder.decode(x)
    drawn = draw(pipe, guidance_scale=2.5, num_inference_steps=4)
    torch.testing.assert_close(drawn, by_hand, rtol=0, atol=1e-4)


def calls_of(module: torch.nn.Module) -> list:
    """A list that grows by one with every call of `module`."""
    calls: list = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_heun_asks_the_backbone_almost_twice_a_step_and_is_nearer_the_end(pipe):
    exact = draw(pipe, num_inference_steps=200)
    calls = calls_of(pipe.backbone)
    euler = draw(pipe, num_inference_steps=10)
    assert len(calls) == 10
    heun = draw(pipe, num_inference_steps=10, scheduler="heun")
    assert len(calls) == 10 + 19
    errors = [(images - exact).abs().mean().item() for images in (euler, heun)]
    assert errors[1] < errors[0] / 2
    assert torch.equal(draw(pipe, num_inference_steps=10, scheduler="euler"), euler)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchHeunDiscreteScheduler(),
        UniPCMultistepScheduler(**MULTISTEP),
        DPMSolverMultistepScheduler(**MULTISTEP),
        FlowMatchEulerDiscreteScheduler(shift=2.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_any_flow_scheduler_of_diffusers_takes_its_place(pipe, scheduler, tmp_path):
    exact = draw(pipe, num_inference_steps=200)
    pipe.scheduler = scheduler
    drawn = draw(pipe, num_inference_steps=40)
    assert (drawn - exact).abs().mean() < 0.05 < (draw(pipe, SQUARE) - exact).abs().mean()
    pipe.save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=pipe.encoder)
    assert type(loaded.scheduler) is type(scheduler)
    assert torch.equal(draw(loaded, num_inference_steps=40), drawn)


def test_fresh_noise_of_a_stochastic_scheduler_comes_from_each_images_generator(pipe):
    both = draw(pipe, [CIRCLE, SQUARE], generator=seeds(3, 4), scheduler="stochastic")
    alone = draw(pipe, SQUARE, generator=seeds(4), scheduler="stochastic")
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4)
    assert not torch.allclose(both[1:], draw(pipe, SQUARE, generator=seeds(4)), atol=0.01)


@pytest.mark.parametrize(
    "own", [FlowMatchEulerDiscreteScheduler(shift=3.0), stochastic_scheduler(flow_shift=3.0)]
)
def test_a_named_scheduler_keeps_the_pipelines_shift(pipe, own):
    shifted = draw(pipe, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))
    pipe.scheduler = own
    assert torch.equal(draw(pipe, scheduler="euler"), shifted)
    assert not torch.equal(draw(pipe, scheduler=FlowMatchEulerDiscreteScheduler()), shifted)


def test_callback_sees_every_step_and_may_replace_the_latents(pipe):
    seen = []

    def callback(of, step, timestep, kwargs):
        assert of is pipe
        seen.append((step, float(timestep), tuple(kwargs["latents"].shape)))
        return {"latents": torch.zeros_like(kwargs["latents"])} if step == 3 else {}

    drawn = draw(pipe, num_inference_steps=4, callback_on_step_end=callback)
    assert seen == [(i, t, (1, 4, 4, 4)) for i, t in enumerate([1000, 750, 500, 250])]
    assert torch.equal(drawn, pipe.autoencoder.decode(torch.zeros(1, 4, 4, 4)))
    watched = draw(pipe, num_inference_steps=4, callback_on_step_end=lambda *_: None)
    assert torch.equal(watched, draw(pipe, num_inference_steps=4))


def test_progress_bar_shows_only_where_asked(pipe, capfd):
    draw(pipe)
    assert capfd.readouterr().err == ""
    pipe.set_progress_bar_config(disable=False)
    draw(pipe, scheduler="heun")
    assert "5/5" in capfd.readouterr().err


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": []}, ValueError, "empty; expected at least one string"),
        ({"prompt": None}, TypeError, "prompt is None.*expected a string"),
        ({"prompt": ["a", 7]}, TypeError, r"captions\[1\] is 7.*expected a string"),
        ({"prompt": "\ud800"}, ValueError, "no valid Unicode"),
        ({"prompt": ["a"] * 257}, ValueError, "257 images.*at most 256"),
        ({"num_images_per_prompt": 300}, ValueError, "300 images.*at most 256"),
        ({"num_images_per_prompt": 0}, ValueError, "num_images_per_prompt is 0"),
        ({"guidance_scale": -1}, ValueError, "guidance_scale is -1"),
        ({"guidance_scale": float("nan")}, ValueError, "guidance_scale is nan"),
        ({"guidance_scale": "3"}, TypeError, "guidance_scale is '3'"),
        ({"num_inference_steps": 0}, ValueError, "num_inference_steps is 0"),
        ({"num_inference_steps": 2.5}, ValueError, "num_inference_steps is 2.5"),
        ({"scheduler": "eular"}, ValueError, "'eular'; expected one of euler, heun"),
        ({"scheduler": DDPMScheduler()}, ValueError, "DDPMScheduler, which does not follow"),
        ({"output_type": "jpeg"}, ValueError, "'jpeg'; expected one of pil, pt, np"),
        ({"generator": seeds(0, 1)}, ValueError, "list of 2; expected 1"),
        ({"generator": 7}, TypeError, r"7; expected a torch.Generator.*manual_seed"),
        ({"generator": [7]}, TypeError, r"7; expected a torch.Generator"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named(pipe, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe(**({"prompt": CIRCLE, "num_inference_steps": 1} | arguments))


def test_a_caption_of_ten_thousand_characters_is_cut_with_one_warning(pipe):
    text = "red circle " * 910
    with pytest.warns(UserWarning, match="longer than max_length=64 tokens") as caught:
        long = draw(pipe, text)
    assert len(caught) == 1
    torch.testing.assert_close(long, draw(pipe, "red circle " * 31), rtol=0, atol=1e-4)


# --- folders ------------------------------------------------------------------------------------


def test_saved_and_loaded_it_draws_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    loaded = VisLMPipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(draw(loaded), draw(pipe))
    assert loaded.encoder.fingerprint == pipe.encoder.fingerprint
    loaded.save_pretrained(tmp_path / "again")
    for folder in ("saved", "again"):
        files = [file for file in (tmp_path / folder).rglob("*") if file.is_file()]
        assert {file.suffix for file in files} == {".json", ".safetensors"}
        texts = [file.read_text() for file in files if file.suffix == ".json"]
        assert not any(str(tmp_path) in text for text in texts)
        assert sum(file.stat().st_size for file in files) < 300_000  # the encoder is not in it


def draw_two(pipe) -> torch.Tensor:
    """Two pictures of each of two captions, from the same two seeds."""
    options = {"num_images_per_prompt": 2, "guidance_scale": 2.5}
    return draw(pipe, [CIRCLE, SQUARE], generator=seeds(0, 1, 0, 1), **options)


@pytest.mark.parametrize(
    ("fusion", "conditioning"),
    [
        ("pooled", "cross"),
        ("resampler", "cross"),
        ("timestep_resampler", "cross"),
        ("queries", "cross"),
        ("projector", "prefix"),
    ],
)
def test_every_way_to_hand_a_caption_over_is_saved_loaded_and_draws(
    fusion, conditioning, minilm, tmp_path
):
    pipe = tiny_pipeline(minilm, fusion, conditioning)
    images = draw_two(pipe)
    assert (images[:2] - images[2:]).abs().max() > 0.01  # the caption matters
    alone = draw(pipe, SQUARE, guidance_scale=2.5, generator=seeds(1))
    torch.testing.assert_close(images[3:], alone, rtol=0, atol=1e-4)
    pipe.save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=minilm)
    assert type(loaded.fusion) is type(pipe.fusion)
    assert torch.equal(draw_two(loaded), images)


def test_a_timed_fusion_reads_the_caption_at_every_step(minilm):
    pipe = tiny_pipeline(minilm, "timestep_resampler")
    calls = calls_of(pipe.fusion.time_embed)
    drawn = draw(pipe, num_inference_steps=4)
    assert len(calls) == 4
    pipe.fusion.blocks[0].modulation.weight.zero_()  # now it does not know the time
    assert (draw(pipe, num_inference_steps=4) - drawn).abs().max() > 1e-3


def test_without_an_autoencoder_it_draws_pixels(minilm, tmp_path):
    whole = tiny_pipeline(minilm)
    backbone = type(whole.backbone)(
        **(dict(whole.backbone.config) | {"sample_size": 8, "in_channels": 3})
    )
    pipe = VisLMPipeline(whole.fusion, backbone, whole.scheduler, encoder=minilm)
    pipe.save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=minilm)
    assert loaded.autoencoder is None and not (tmp_path / "autoencoder").exists()
    images = draw(loaded)
    assert images.shape == (1, 3, 8, 8) and images.abs().max() <= 1
    assert torch.equal(images, draw(pipe))


@pytest.mark.parametrize("name", ["torch_dtype", "dtype"])
def test_loads_in_the_dtype_asked_for(pipe, tmp_path, name):
    pipe.save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=pipe.encoder, **{name: torch.bfloat16})
    modules = (loaded.fusion, loaded.backbone, loaded.autoencoder)
    assert {module.dtype for module in modules} == {torch.bfloat16}
    drawn = draw(loaded)
    assert drawn.dtype == torch.bfloat16
    assert (drawn.float() - draw(pipe)).abs().mean() < 0.02
    assert draw(loaded, output_type="np").dtype == np.float32


def test_float16_files_load_as_float32(pipe, tmp_path):
    exact = draw(pipe)
    pipe.to(torch.float16, silence_dtype_warnings=True).save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=pipe.encoder)
    assert {p.dtype for p in loaded.backbone.parameters()} == {torch.float32}
    assert 0 < (draw(loaded) - exact).abs().max() < 0.05


def test_moving_it_moves_the_encoder_which_stays_float32(minilm):
    encoder = load_encoder("minilm", layers="mean")
    pipe = tiny_pipeline(encoder)
    pipe.to(torch.float64)
    assert pipe.backbone.dtype == torch.float64 and encoder.model.dtype == torch.float32
    assert draw(pipe).dtype == torch.float64
    assert pipe.to("meta") is pipe
    assert pipe.autoencoder.device.type == encoder.device.type == "meta"


def test_another_encoder_than_in_training_is_noticed(pipe, minilm, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    config = json.loads(index.read_text())
    assert config["encoder_fingerprint"] == minilm.fingerprint
    index.write_text(json.dumps(config | {"encoder_fingerprint": "minilm-other"}))
    with pytest.warns(UserWarning, match="trained with the encoder minilm-other, but here"):
        loaded = VisLMPipeline.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path / "again")  # which does not hush it up
    again = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert again["encoder_fingerprint"] == "minilm-other"


def test_an_encoder_that_does_not_fit_is_refused(pipe, minilm):
    fusion = type(pipe.fusion)(states_width=20, width=16, heads=2)
    with pytest.raises(ValueError, match="width 384.*built for 20"):
        VisLMPipeline(fusion, pipe.backbone, pipe.scheduler, pipe.autoencoder, minilm)


def test_a_missing_encoder_says_how_to_get_it(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "_installed_folder", lambda asset: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(registry.AssetError, match="vislm models get minilm"):
        VisLMPipeline.from_pretrained(tmp_path)


def test_what_is_no_pipeline_is_refused(pipe, tmp_path):
    for source in (tmp_path, tmp_path / "nothing", "nobody/nothing"):
        with pytest.raises(FileNotFoundError, match="neither a pipeline's folder.*from_run"):
            VisLMPipeline.from_pretrained(source)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="holds a StableDiffusionPipeline; expected a VisLM"):
        VisLMPipeline.from_pretrained(tmp_path)


def test_loads_from_the_local_hub_cache_by_id_without_network(pipe, tmp_path):
    commit = "0" * 40
    repository = tmp_path / "models--someone--shapes"
    pipe.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    loaded = VisLMPipeline.from_pretrained(
        "someone/shapes", cache_dir=tmp_path, encoder=pipe.encoder
    )
    assert torch.equal(draw(loaded), draw(pipe))


def test_components_are_those_of_a_diffusers_pipeline(pipe):
    assert set(pipe.components) == {"autoencoder", "backbone", "fusion", "scheduler"}
    twin = VisLMPipeline(**pipe.components, encoder=pipe.encoder)
    assert torch.equal(draw(twin), draw(pipe))


# --- the shipped weights ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> VisLMPipeline:
    return VisLMPipeline.from_bundled()


@pytest.mark.parametrize("alone", [False, True])
def test_shipped_weights_draw_what_is_asked(bundled, alone):
    """The object is there, as ExactEval asks; `alone`: and no other beside it."""
    pairs = training_pairs()
    captions = [f"a {colour} {shape}" for colour, shape in pairs]
    images = bundled(captions, generator=seeds(*range(len(pairs))), output_type="pt").images
    assert images.shape == (len(pairs), 3, 64, 64)
    read = [[(o.colour, o.shape) for o in scene.objects] for scene in parse(images)]
    right = sum(
        found == [pair] if alone else pair in found for found, pair in zip(read, pairs, strict=True)
    )
    assert right >= 0.75 * len(pairs), f"{right} of {len(pairs)} are right: {read}"


def test_shipped_weights_are_float32_and_saved_again_draw_the_same(bundled, tmp_path):
    assert {p.dtype for p in bundled.backbone.parameters()} == {torch.float32}
    bundled.save_pretrained(tmp_path)
    loaded = VisLMPipeline.from_pretrained(tmp_path, encoder=bundled.encoder)
    assert torch.equal(draw(loaded), draw(bundled))


def test_shipped_weights_know_their_encoder(bundled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VisLMPipeline.from_bundled()


def test_a_caption_is_drawn_within_three_seconds(bundled, capsys):
    start = time.perf_counter()
    bundled("a red circle above a blue square", generator=seeds(0))
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f" [a caption drawn in {seconds:.2f} s on {torch.get_num_threads()} thread(s)]")
    assert seconds <= 3


def test_shipped_files_are_small_safe_and_explained():
    folder = registry.find("scenes-weights")
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jsonl", ".yaml", ".md"}
    weights = [file.stat().st_size for file in files if file.suffix == ".safetensors"]
    assert max(weights) < 6_000_000
    assert sum(file.stat().st_size for file in files) <= 15 * 2**20
    for name in ("recipe.yaml", "run.json", "log.jsonl", "exact_eval.json"):
        assert (folder / name).is_file(), f"{name} belongs beside the weights"
    assert json.loads((folder / "run.json").read_text())["stopped"] == "done"
