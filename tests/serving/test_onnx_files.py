"""ONNX files say what torch says, at any size; they draw without torch; int8 is a quarter."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_pipeline import SIDE, tiny_pipeline
from typer.testing import CliRunner

from vislm_tutorial.cli import app
from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.generators import CGAN
from vislm_tutorial.pipeline import VisLMPipeline
from vislm_tutorial.serving import onnx_parts
from vislm_tutorial.serving.onnx_files import (
    PART_NAMES,
    OnnxFilesError,
    OnnxPipeline,
    quantise,
    sizes,
)

CAPTIONS = ["a red circle above a blue square", "", "a star"]


@pytest.fixture(scope="module")
def pipe() -> VisLMPipeline:
    return tiny_pipeline(load_encoder("minilm", layers="mean"))


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        differences = onnx_parts.export(pipe, folder)
    assert differences.keys() == set(PART_NAMES) and max(differences.values()) < 1e-4
    return folder


@pytest.fixture(scope="module")
def small(folder, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("int8")
    quantise(folder, target)
    return target


def shared_noise(seed: int):
    """torch's noise for the numpy loop, and the generator that gives torch the same."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)
    return generator, lambda shape: torch.randn(shape, generator=noise).numpy()


@pytest.mark.parametrize("steps", [1, 3])
def test_numpy_draws_what_torch_draws(pipe, folder, steps):
    generator, noise = shared_noise(0)
    options = {"num_inference_steps": steps, "guidance_scale": 3.0}
    expected = pipe(CAPTIONS, generator=generator, output_type="pt", **options).images
    drawn = OnnxPipeline(folder, threads=1)(CAPTIONS, stochastic=False, noise=noise, **options)
    assert drawn.shape == (3, 3, SIDE, SIDE) and drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers'
def test_the_stochastic_steps_are_the_schedulers(pipe, folder):
    generator, noise = shared_noise(1)
    options = {"num_inference_steps": 4, "guidance_scale": 2.0}
    expected = pipe(
        CAPTIONS, scheduler="stochastic", generator=generator, output_type="pt", **options
    ).images
    drawn = OnnxPipeline(folder, threads=1)(CAPTIONS, stochastic=True, noise=noise, **options)
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-4)


def test_a_seed_repeats_a_drawing(folder):
    onnx_pipe = OnnxPipeline(folder, threads=1)
    once, again, other = (onnx_pipe(["a star"], s, num_inference_steps=2) for s in (0, 0, 1))
    assert np.array_equal(once, again) and not np.allclose(once, other)


def test_captions_are_cut_where_the_encoder_cuts_them(pipe, folder):
    onnx_pipe = OnnxPipeline(folder, threads=1)
    condition = onnx_pipe.condition(["red circle " * 200])
    assert condition["tokens"].shape[1] == pipe.encoder.max_length


def test_torch_is_not_needed(folder):
    script = (
        "import sys; sys.modules['torch'] = None\n"  # any import of it would fail
        "from vislm_tutorial.serving.onnx_files import OnnxPipeline\n"
        f"drawn = OnnxPipeline({str(folder)!r}, threads=1)(['a star'], num_inference_steps=2)\n"
        f"assert drawn.shape == (1, 3, {SIDE}, {SIDE}) and abs(drawn).max() <= 1\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_int8_files_are_smaller_and_hold_int8(folder, small):
    before, after = sizes(folder), sizes(small)
    # Of the tiny parts most is not weights; the language model is a real one.
    assert 0.24 < after["language_model"] / before["language_model"] < 0.30
    kinds = {w.data_type for w in onnx.load(small / "language_model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_int8_draws_nearly_the_same(folder, small):
    _, noise = shared_noise(0)
    exact = OnnxPipeline(folder, threads=1)(CAPTIONS, num_inference_steps=3, noise=noise)
    _, noise = shared_noise(0)
    rounded = OnnxPipeline(small, threads=1)(CAPTIONS, num_inference_steps=3, noise=noise)
    assert 0 < abs(exact - rounded).mean() < 0.1


def test_one_part_alone_can_be_int8(folder, tmp_path):
    after = quantise(folder, tmp_path, ["fusion"])
    changed = {name for name, size in sizes(folder).items() if after[name] != size}
    assert changed == {"fusion"}


@pytest.mark.parametrize("fusion", ["pooled", "projector", "resampler"])
@pytest.mark.parametrize("conditioning", ["cross", "prefix"])
def test_other_fusions_and_conditionings(fusion, conditioning, tmp_path, pipe):
    other = tiny_pipeline(pipe.encoder, fusion, conditioning)
    differences = onnx_parts.export(other, tmp_path, ["fusion", "backbone"])
    assert max(differences.values()) < 1e-4


@pytest.mark.parametrize("layers", ["plain mean", 3])
def test_other_layers(layers, tmp_path):
    other = tiny_pipeline(load_encoder("minilm", layers=layers))
    assert onnx_parts.export(other, tmp_path, ["language_model"])["language_model"] < 1e-4


def test_a_file_that_holds_for_one_shape_only_is_noticed(pipe, tmp_path, monkeypatch):
    class Fixed(onnx_parts.DecoderPart):
        def forward(self, latents):
            return super().forward(latents) + len(latents)  # a number to the tracer

    part = onnx_parts.Part(Fixed, ("latents",), ("images",))
    monkeypatch.setitem(onnx_parts.PARTS, "decoder", part)
    with pytest.raises(OnnxFilesError, match="differs from torch"):
        onnx_parts.export(pipe, tmp_path, ["decoder"])


def test_what_cannot_be_exported_is_refused(pipe, tmp_path):
    timed = tiny_pipeline(pipe.encoder, "timestep_resampler")
    with pytest.raises(ValueError, match="another condition at each step"):
        onnx_parts.export(timed, tmp_path)
    gan = CGAN(sample_size=16, in_channels=3, condition_width=16, widths=(8, 8, 8))
    with pytest.raises(ValueError, match="draws with a CGAN"):
        onnx_parts.export(VisLMPipeline(pipe.fusion, gan, encoder=pipe.encoder), tmp_path)


def test_missing_files_and_unknown_parts_are_named(folder, tmp_path):
    with pytest.raises(OnnxFilesError, match="vislm export"):
        OnnxPipeline(tmp_path)
    with pytest.raises(OnnxFilesError, match="no parts .'painter'.*language_model, fusion"):
        quantise(folder, tmp_path, ["painter"])


def test_the_command_writes_files_that_draw(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    options = ["export", "--pipeline", str(tmp_path / "saved"), "-o", str(tmp_path / "out")]
    said = CliRunner().invoke(app, options).output
    assert all(name in said for name in PART_NAMES) and "of torch" in said
    assert OnnxPipeline(tmp_path / "out", threads=1)(["a star"], num_inference_steps=1).any()
