"""The join from end to end: distilled, tuned, saved and loaded, with a tiny and a real model."""

from __future__ import annotations

import json
import os
import warnings

import pytest
import torch
from tiny_diffusion import CAPTIONS, LENGTH, SIDE, WIDTH, save_tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from vislm_tutorial import registry
from vislm_tutorial._assets import DIFFUSION
from vislm_tutorial.diffusion import training_scheduler
from vislm_tutorial.encoders import TextEncoder, load_encoder
from vislm_tutorial.joint import JoinConfig, join, load_joined, retrieval, save_joined
from vislm_tutorial.joint.stages import Denoising, own_statistics
from vislm_tutorial.training import TrainingConfig

CONFIG = JoinConfig(depth=1, heads=2, lora_rank=2)
DRAWING = {"num_inference_steps": 2, "guidance_scale": 2.0}


class Coloured(Dataset):
    """A plain picture for each caption, of its colour."""

    captions = CAPTIONS[:12]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict:
        level = ("red", "green", "blue", "yellow").index(self.captions[index].split()[1]) / 2 - 1
        return {"image": torch.full((3, SIDE, SIDE), level), "caption": self.captions[index]}


def tiny_language_model() -> TextEncoder:
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="[CLS]")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(vocabulary),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    return TextEncoder("tiny", AutoModel.from_config(config), tokenizer, "0", "mean", 16)


def steps(n: int, **changes) -> TrainingConfig:
    options = {"batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 2, "ema_decay": 0.8}
    return TrainingConfig(steps=n, log_every=5, **options | changes)


def logged(run_dir) -> list[float]:
    rows = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("diffusion") / "pipe")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Both stages, with what was known before each."""
    runs = tmp_path_factory.mktemp("runs")
    joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
    base = {k: v.clone() for k, v in joined.pipe.unet.state_dict().items()}
    known = {"before": joined.condition(CAPTIONS), "own": joined.condition(CAPTIONS, "own")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISLM_CACHE", str(runs / "cache"))
        joined.distill(CAPTIONS, steps(60), runs / "1")
        known["after"] = joined.condition(CAPTIONS)
        joined.fine_tune(Coloured(), steps(8, batch_size=4), runs / "2")
    return joined, base, known, runs


def test_distillation_learns_what_the_own_encoder_says(trained):
    joined, _, known, runs = trained
    losses = logged(runs / "1")
    assert losses[-1] < 0.6 * losses[0]
    before, after = (retrieval(known[when], known["own"]) for when in ("before", "after"))
    assert before < 0.2 and after > before + 0.3
    assert joined.condition(CAPTIONS[:2]).shape == (2, LENGTH, WIDTH)


def test_only_fusion_and_adapters_learn_in_stage_two(trained):
    joined, base, known, _ = trained
    unet = joined.pipe.unet
    for name, value in unet.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, base[name.replace(".base_layer", "")]), name
    moved = [p for name, p in unet.named_parameters() if "lora_B" in name]  # start at 0
    assert moved and all(p.any() for p in moved)
    assert all(p.requires_grad == ("lora_" in name) for name, p in unet.named_parameters())
    assert not torch.equal(joined.condition(CAPTIONS), known["after"])
    torch.testing.assert_close(joined.condition(CAPTIONS, "distilled"), known["after"])


def test_checkpoints_hold_what_learns_and_nothing_frozen(trained):
    from safetensors import safe_open

    with safe_open(trained[3] / "2" / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert all(name.startswith("fusion.") or "lora_" in name for name in names)
    assert any("lora_" in name for name in names)


def test_stages_are_drawn_from_the_same_noise(trained):
    joined, base, _, _ = trained
    pictures = joined.draw_stages(CAPTIONS[:2], **DRAWING)
    assert list(pictures) == ["own", "distilled", "tuned"]
    assert all(p.shape == (2, 3, SIDE, SIDE) and p.abs().max() <= 1 for p in pictures.values())
    assert not torch.equal(pictures["distilled"], pictures["tuned"])
    # "own" is the checkpoint as it came: prompts as text, the U-Net without its adapters.
    joined.pipe.unet.disable_adapters()
    noise = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    asked = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "pt"}
    plain = joined.pipe(CAPTIONS[:2], generator=noise, **asked).images
    joined.pipe.unet.enable_adapters()
    torch.testing.assert_close(pictures["own"], plain * 2 - 1, rtol=0, atol=1e-4)


def test_what_was_saved_draws_the_same_again(trained, folder, tmp_path):
    joined = trained[0]
    save_joined(joined, tmp_path / "saved")
    again = load_joined(tmp_path / "saved", language_model=tiny_language_model(), device="cpu")
    for stage, pictures in joined.draw_stages(CAPTIONS[:2], **DRAWING).items():
        loaded = again.draw(CAPTIONS[:2], stage=stage, **DRAWING)
        torch.testing.assert_close(loaded, pictures, rtol=0, atol=1e-5)
    files = {p.name for p in (tmp_path / "saved").rglob("*") if p.is_file()}
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)


def test_an_older_join_in_the_folder_is_replaced(trained, folder, tmp_path):
    save_joined(trained[0], tmp_path)
    assert load_joined(tmp_path, language_model=tiny_language_model(), device="cpu").has_adapters
    save_joined(join(folder, tiny_language_model(), CONFIG, device="cpu"), tmp_path)
    again = load_joined(tmp_path, language_model=tiny_language_model(), device="cpu")
    assert again.distilled is None and not again.has_adapters


def test_diffusers_itself_reads_the_adapters(trained, folder, tmp_path):
    from diffusers import StableDiffusionPipeline

    save_joined(trained[0], tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.load_lora_weights(tmp_path)
    latents, told = torch.randn(1, 4, 8, 8), torch.randn(1, LENGTH, WIDTH)
    ours, theirs = (
        p.unet(latents, 500, encoder_hidden_states=told).sample for p in (trained[0].pipe, pipe)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_run_goes_on_where_it_stopped(folder, tmp_path):
    def distilled(*lengths: int) -> torch.Tensor:
        for length in lengths:
            joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
            joined.distill(CAPTIONS, steps(length, schedule="constant"), tmp_path / str(lengths))
        return joined.condition(CAPTIONS)

    torch.testing.assert_close(distilled(3, 6), distilled(6), rtol=0, atol=1e-6)


def test_another_language_model_is_refused(trained, tmp_path):
    save_joined(trained[0], tmp_path)
    other = tiny_language_model()
    other.fingerprint = "other"
    with pytest.raises(ValueError, match="not to other"):
        load_joined(tmp_path, language_model=other, device="cpu")
    with pytest.raises(FileNotFoundError, match="save_joined"):
        load_joined(tmp_path / "nowhere")


def test_stages_that_are_not_there_are_named(folder):
    joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
    for stage, cure in (("distilled", "distill"), ("tuned", "fine_tune")):
        with pytest.raises(ValueError, match=cure):
            joined.draw(CAPTIONS[:1], stage=stage)
    with pytest.raises(ValueError, match="'third'.*own, distilled, tuned"):
        joined.condition(CAPTIONS[:1], "third")
    with pytest.raises(ValueError, match=f"1 to {LENGTH}"):
        join(folder, tiny_language_model(), JoinConfig(tokens=99), device="cpu")
    with pytest.raises(ValueError, match="give many"):
        own_statistics(joined.pipe, ["one"] * 3, LENGTH)
    with pytest.raises(ValueError, match="0 caption.*give many"):
        own_statistics(joined.pipe, [], LENGTH)
    with pytest.raises(ValueError, match="same for all.*take more tokens"):
        own_statistics(joined.pipe, CAPTIONS, 1)  # the start token knows no caption
    assert own_statistics(joined.pipe, CAPTIONS, 3).variance > 0


def test_fewer_tokens_imitate_the_first_of_them(folder, tmp_path):
    config = JoinConfig(tokens=4, depth=1, heads=2, lora_rank=2)
    joined = join(folder, tiny_language_model(), config, device="cpu")
    joined.distill(CAPTIONS, steps(2), tmp_path / "run")
    assert joined.condition(CAPTIONS[:2]).shape == (2, 4, WIDTH)
    assert joined.draw(CAPTIONS[:2], **DRAWING).shape == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_unet_has_no_loss(kind, folder):
    from diffusers import DDPMScheduler

    joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
    scheduler = DDPMScheduler(prediction_type=kind)
    clean = torch.randn(3, 4, 8, 8)

    class Knows(torch.nn.Module):
        def forward(self, noisy, t, encoder_hidden_states):
            alpha = scheduler.alphas_cumprod[t][:, None, None, None]
            noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            answer = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
            return type("Output", (), {"sample": noise if kind == "epsilon" else answer})

    states = joined.encoder.encode(CAPTIONS[:3])
    loss = Denoising(joined.fusion, Knows(), scheduler, gamma=5.0)
    generator = torch.Generator().manual_seed(0)
    assert loss({"pictures": clean, "states": states}, generator) < 1e-6
    loss.scheduler = DDPMScheduler(prediction_type="sample")
    assert loss({"pictures": clean, "states": states}, generator) > 0.1


def test_with_the_real_smollm2(folder, tmp_path):
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("VISLM_CACHE")  # where its conversion lies
            encoder = load_encoder("smollm2", layers="mean")
    except registry.AssetError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    joined = join(folder, encoder, CONFIG, device="cpu")
    assert joined.fusion.config.states_width == 576
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        joined.distill(CAPTIONS, steps(10, learning_rate=3e-3), tmp_path / "1")
        joined.fine_tune(Coloured(), steps(2, batch_size=2), tmp_path / "2")
    assert logged(tmp_path / "1")[-1] < logged(tmp_path / "1")[0]
    assert list(joined.draw_stages(["a red circle"], **DRAWING)) == ["own", "distilled", "tuned"]


def test_a_folder_of_the_readers_own_pictures_serves_as_data(folder, tmp_path):
    from PIL import Image

    from vislm_tutorial.data.folder import load_folder

    own = tmp_path / "own"
    own.mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (20, 20), colour).save(own / f"{colour}.png")
        (own / f"{colour}.txt").write_text(f"a {colour} square", encoding="utf-8")
    joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
    joined.distill(CAPTIONS, steps(2), tmp_path / "1")
    result = joined.fine_tune(
        load_folder(own, image_size=SIDE), steps(2, batch_size=2), tmp_path / "2"
    )
    assert result.stopped == "done" and joined.has_adapters
    other = join(folder, tiny_language_model(), CONFIG, device="cpu")
    with pytest.raises(ValueError, match="best of 16 pixels"):
        other.fine_tune(load_folder(own, image_size=18), steps(1), tmp_path / "3")


def test_frozen_parts_in_half_precision_leave_what_learns_in_float32(folder):
    joined = join(folder, tiny_language_model(), CONFIG, device="cpu")
    joined.pipe.to(torch.bfloat16)  # as load_diffusion has it on CUDA
    joined._add_adapters()
    model = Denoising(joined.fusion, joined.pipe.unet, training_scheduler(joined.pipe))
    learns = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in learns.values()} == {torch.float32}
    assert joined.pipe.unet.conv_in.weight.dtype == torch.bfloat16
    batch = {"pictures": torch.randn(2, 4, 8, 8), "states": joined.encoder.encode(CAPTIONS[:2])}
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.dtype == torch.float32
    reached = [name for name, p in learns.items() if p.grad is not None and p.grad.any()]
    assert {name.split(".")[0] for name in reached} == {"fusion", "unet"}
    pictures = joined.draw(CAPTIONS[:2], **DRAWING)
    assert pictures.dtype == torch.float32 and pictures.isfinite().all()


def test_pipelines_of_the_hub_are_listed_with_their_licence():
    for name, entry in DIFFUSION.items():
        assert "/" in entry.hub_id and "/" not in name
        assert entry.licence and entry.title and entry.stands_in
