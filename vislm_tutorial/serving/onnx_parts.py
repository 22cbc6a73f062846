"""A pipeline as ONNX files: each of its four parts alone, traced once, checked against torch.

    language_model  input_ids (B, L), attention_mask (B, L) -> states (B, L, D_lm)
    fusion          states, attention_mask -> tokens (B, M, D), mask (B, M), pooled (B, D)
    backbone        sample (B, C, h, w), timestep (B,), tokens, mask, pooled -> velocity (as sample)
    decoder         latents (B, C, h, w) -> images (B, 3, H, W)

B and L are free in every file. `onnx_files` draws with them, without torch.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..generators import FlowGenerator
from ..pipeline import VisLMPipeline
from ..types import Condition, TextStates
from .onnx_files import CONFIG, TOKENIZER, OnnxFilesError, part_file

OPSET = 17
TOLERANCE = 1e-4  # most that a value may differ from torch's, in units of the largest
WORD = 1037  # any token; tracing looks at shapes alone


class LanguageModelPart(nn.Module):
    """Token numbers -> the encoder's chosen states, as `TextEncoder.forward`."""

    def __init__(self, pipe: VisLMPipeline):
        super().__init__()
        self.model = copy.deepcopy(pipe.encoder.model)
        self.layers, self.width = pipe.encoder.layers, pipe.encoder.width

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) int64 and (B, L) bool -> (B, L, D_lm)."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask.long(),
            output_hidden_states=True,
            return_dict=True,
            **({"use_cache": False} if hasattr(self.model.config, "use_cache") else {}),
        )
        states = output.hidden_states[1:]
        if self.layers == "mean":  # a number for the width: the tracer takes no shape for one
            chosen = [functional.layer_norm(layer, (self.width,)) for layer in states]
            mixed = sum(chosen) / len(chosen)
        elif self.layers == "plain mean":
            mixed = sum(states) / len(states)
        else:
            mixed = output.hidden_states[-1 if self.layers == "last" else self.layers]
        return mixed * attention_mask[..., None]


class FusionPart(nn.Module):
    """States -> a Condition's three tensors."""

    def __init__(self, pipe: VisLMPipeline):
        super().__init__()
        self.fusion = _with_plain_norms(pipe.fusion)

    def forward(self, states: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D_lm) and (B, L) bool -> (B, M, D), (B, M) bool, (B, D)."""
        condition = self.fusion(TextStates(states, attention_mask))
        return (
            condition.encoder_hidden_states,
            condition.encoder_attention_mask,
            condition.pooled_projections,
        )


class BackbonePart(nn.Module):
    """One step's question: the velocity at a noisy sample."""

    def __init__(self, pipe: VisLMPipeline):
        super().__init__()
        self.backbone = _with_plain_norms(pipe.backbone)

    def forward(self, sample, timestep, tokens, mask, pooled) -> Tensor:
        """(B, C, h, w), (B,) in [0, 1000] and a condition's tensors -> (B, C, h, w)."""
        return self.backbone(sample, timestep, Condition(tokens, mask, pooled))


class DecoderPart(nn.Module):
    """Latents -> pictures; where the backbone draws pixels, it only clips them."""

    def __init__(self, pipe: VisLMPipeline):
        super().__init__()
        self.autoencoder = pipe.autoencoder and copy.deepcopy(pipe.autoencoder)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W) in [-1, 1]."""
        return (
            latents.clamp(-1, 1) if self.autoencoder is None else self.autoencoder.decode(latents)
        )


class PlainRMSNorm(nn.Module):
    """`nn.RMSNorm` in operators that ONNX has had for long (its own came with opset 23)."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean x^2 + eps) * weight, over the last axis."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def _with_plain_norms(module: nn.Module) -> nn.Module:
    """A copy with each RMSNorm in plain operators."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.RMSNorm):
                setattr(parent, name, PlainRMSNorm(child))
    return module


@dataclass(frozen=True)
class Part:
    """How one part is exported."""

    build: Callable[[VisLMPipeline], nn.Module]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


PARTS = {
    "language_model": Part(LanguageModelPart, ("input_ids", "attention_mask"), ("states",)),
    "fusion": Part(FusionPart, ("states", "attention_mask"), ("tokens", "mask", "pooled")),
    "backbone": Part(
        BackbonePart, ("sample", "timestep", "tokens", "mask", "pooled"), ("velocity",)
    ),
    "decoder": Part(DecoderPart, ("latents",), ("images",)),
}
_LENGTHS = {  # which axis of what is as long as a caption, or as a condition
    "input_ids": "length",
    "attention_mask": "length",
    "states": "length",
    "tokens": "condition",
    "mask": "condition",
}


def export(
    pipe: VisLMPipeline, folder: str | Path, parts: Sequence[str] = tuple(PARTS)
) -> dict[str, float]:
    """Write a flow's parts as ONNX files, the tokenizer, and what drawing needs to know.

    Each file is run with another batch and another length than it was traced with, and compared
    with torch.

    Args:
        pipe: on the CPU, in float32.
        folder: is made if need be.
        parts: some of `PARTS`.

    Returns:
        By part, the largest difference from torch's answer.

    Raises:
        ValueError: if the pipeline is no flow, or its fusion changes with the time.
        OnnxFilesError: if a file does not say what torch says.
        ImportError: without the extra `serving`.
    """
    _require_onnx()
    if not isinstance(pipe.generator, FlowGenerator):
        raise ValueError(
            f"this pipeline draws with a {type(pipe.generator).__name__}; the ONNX loop is a "
            "flow's. Export a pipeline with a flow, such as the shipped one."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    traced, other = _example(pipe, batch=2, length=9), _example(pipe, batch=3, length=5)
    differences = {}
    for name in parts:
        part = PARTS[name]
        module = part.build(pipe).eval().requires_grad_(False)
        file = folder / part_file(name)
        arguments = tuple(traced[key] for key in part.inputs)
        with _quiet_tracer(), torch.no_grad():
            torch.onnx.export(
                module,
                arguments,
                str(file),
                dynamo=False,  # the other exporter asks for one more package
                opset_version=OPSET,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_axes={
                    key: {0: "batch"} | ({1: _LENGTHS[key]} if key in _LENGTHS else {})
                    for key in (*part.inputs, *part.outputs)
                },
            )
        differences[name] = _difference(module, part, file, other)
        if not differences[name] <= TOLERANCE:
            raise OnnxFilesError(
                f"{file.name} differs from torch by {differences[name]:.2g}, expected at most "
                f"{TOLERANCE:g}. What was traced holds for one shape only; report the fusion "
                f"({type(pipe.fusion).__name__}) and the backbone ({type(pipe.backbone).__name__})."
            )
    _write_config(pipe, folder)
    return differences


def _example(pipe: VisLMPipeline, batch: int, length: int) -> dict[str, Tensor]:
    """Inputs of all parts for captions of random words, the last one shorter than the others."""
    random = torch.Generator().manual_seed(0)
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[-1, length // 2 :] = False
    words = torch.randint(WORD, 2 * WORD, (batch, length), generator=random)
    with torch.no_grad():
        states = pipe.encoder.forward(words, mask)
        condition = pipe.fusion(TextStates(states, mask))
    if not isinstance(condition, Condition):
        raise ValueError(
            f"the fusion {type(pipe.fusion).__name__} gives another condition at each step, which "
            "the ONNX loop does not ask for. Choose pooled, projector, resampler or queries."
        )
    sample = pipe.generator.noise(condition, random)
    return {
        "input_ids": words,
        "attention_mask": mask,
        "states": states,
        "tokens": condition.encoder_hidden_states,
        "mask": condition.encoder_attention_mask,
        "pooled": condition.pooled_projections,
        "sample": sample,
        "latents": sample,
        "timestep": torch.linspace(900, 300, batch),
    }


def _difference(module: nn.Module, part: Part, file: Path, example: dict[str, Tensor]) -> float:
    """The largest difference of any output, in units of that output's largest value, 1 at least."""
    from .onnx_files import session

    with torch.no_grad():
        expected = module(*(example[key] for key in part.inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    run = session(file)
    feeds = {i.name: example[i.name].numpy() for i in run.get_inputs()}
    try:
        answers = run.run(None, feeds)
    except Exception as error:  # onnxruntime's own kinds, of which none is public
        raise OnnxFilesError(f"{file.name} holds for one shape only: {error}") from error
    worst = 0.0
    for right, answer in zip(expected, answers, strict=True):
        if right.shape != answer.shape:
            return float("inf")
        right, answer = right.double(), torch.from_numpy(answer).double()
        worst = max(worst, ((right - answer).abs().max() / right.abs().max().clamp(min=1)).item())
    return worst


def _write_config(pipe: VisLMPipeline, folder: Path) -> None:
    """The tokenizer's file, and the few numbers that stand in no graph."""
    encoder, settings = pipe.encoder, pipe.generator.settings
    encoder.tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    own = pipe.scheduler.config
    values = {
        "prefix": encoder._prefix,
        "max_length": encoder.max_length,
        "grid": list(pipe.generator.grid),
        "guidance_scale": settings["guidance_scale"],
        "num_inference_steps": settings["num_inference_steps"],
        "shift": own.get("shift", own.get("flow_shift", 1.0)),
    }
    (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _quiet_tracer():
    """Without the tracer's warnings: that it is the older one, and that `if`s are taken once.

    Both are known here, and the second is why `export` compares at other shapes.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (DeprecationWarning, UserWarning, torch.jit.TracerWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        log.setLevel(level)


def _require_onnx() -> None:
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"the ONNX export needs {name}, not installed here. Run "
                "`pip install 'vislm-tutorial[serving]'`."
            ) from error
