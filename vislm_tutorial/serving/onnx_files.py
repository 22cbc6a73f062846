"""Drawing from ONNX files alone: numpy, onnxruntime and a tokenizer; torch is not imported.

`onnx_parts.export` writes the files. `quantise` makes their weights whole numbers of one byte.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

CONFIG, TOKENIZER = "drawing.json", "tokenizer.json"
PART_NAMES = ("language_model", "fusion", "backbone", "decoder")
EXTRA = "`pip install 'vislm-tutorial[serving]'`"

Noise = Callable[[tuple[int, ...]], np.ndarray]  # shape -> standard normal values, float32


class OnnxFilesError(RuntimeError):
    """A file is missing, or does not say what it should; the message tells what to do."""


def part_file(name: str) -> str:
    """The file of a part."""
    return f"{name}.onnx"


def session(file: str | Path, threads: int = 0):
    """An onnxruntime session on the CPU; `threads` 0 leaves their number to onnxruntime.

    Raises:
        ImportError: without onnxruntime.
        OnnxFilesError: if there is no such file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"drawing from ONNX files needs onnxruntime; run {EXTRA}.") from error
    if not Path(file).is_file():
        raise OnnxFilesError(f"there is no {file}; write it with `vislm export -o FOLDER`.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; its warnings are about nodes that it folds away
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def sizes(folder: str | Path) -> dict[str, int]:
    """Bytes of each part's file."""
    return {name: (Path(folder) / part_file(name)).stat().st_size for name in PART_NAMES}


def quantise(
    folder: str | Path, target: str | Path, parts: Sequence[str] = PART_NAMES
) -> dict[str, int]:
    """Copy exported files, `parts` of them with weights of one byte: w = scale * q, q in -127..127.

    Dynamic quantisation: a matrix's rows have one scale each, and activations are rounded to a byte
    as they come. What is no matrix product or convolution keeps its 4 bytes.

    Returns:
        Bytes of each part's file.

    Raises:
        OnnxFilesError: for a part that there is not.
        ImportError: without the extra `serving`.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ImportError(f"quantising needs onnx and onnxruntime; run {EXTRA}.") from error
    unknown = sorted(set(parts) - set(PART_NAMES))
    if unknown:
        raise OnnxFilesError(f"no parts {unknown}; expected some of {', '.join(PART_NAMES)}.")
    folder, target = Path(folder), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(folder / name, target / name)
    for name in PART_NAMES:
        source, copy = folder / part_file(name), target / part_file(name)
        if name not in parts:
            shutil.copyfile(source, copy)
            continue
        with tempfile.TemporaryDirectory() as place:
            prepared = Path(place) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_dynamic(
                str(prepared),
                str(copy),
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"WeightSymmetric": True},
            )
    return sizes(target)


class OnnxPipeline:
    """Draws captions from the files of a folder; torch takes no part in it.

    Args:
        folder: as `onnx_parts.export` or `quantise` wrote it.
        threads: of each session; 0: as onnxruntime chooses.

    Raises:
        OnnxFilesError: if a file is missing.
    """

    def __init__(self, folder: str | Path, threads: int = 0):
        from tokenizers import Tokenizer

        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise OnnxFilesError(
                f"{folder} has no {CONFIG}; expected a folder that `vislm export` wrote."
            )
        self.config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.config["max_length"] - len(self.config["prefix"]))
        self.parts = {name: session(folder / part_file(name), threads) for name in PART_NAMES}

    def run(self, part: str, **inputs: np.ndarray) -> list[np.ndarray]:
        """A part's outputs; inputs by name, of which it takes those that its graph kept."""
        wanted = {entry.name for entry in self.parts[part].get_inputs()}
        return self.parts[part].run(None, {k: v for k, v in inputs.items() if k in wanted})

    def condition(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """B captions -> {"tokens": (B, M, D), "mask": (B, M), "pooled": (B, D)}."""
        rows = [self.config["prefix"] + self.tokenizer.encode(c).ids for c in captions]
        length = max(len(row) for row in rows)
        ids = np.zeros((len(rows), length), dtype=np.int64)
        mask = np.zeros((len(rows), length), dtype=bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, True
        (states,) = self.run("language_model", input_ids=ids, attention_mask=mask)
        return dict(
            zip(
                ("tokens", "mask", "pooled"),
                self.run("fusion", states=states, attention_mask=mask),
                strict=True,
            )
        )

    def __call__(
        self,
        captions: Sequence[str],
        seed: int = 0,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        stochastic: bool = True,
        noise: Noise | None = None,
    ) -> np.ndarray:
        """Draw captions.

        Args:
            captions: B strings.
            seed: of all noise.
            guidance_scale, num_inference_steps: None: the family's own, as in the pipeline.
            stochastic: as the pipeline's own scheduler, part of the noise fresh in each step;
                False: Euler's steps.
            noise: gives all noise, in the place of `seed`.

        Returns:
            (B, 3, H, W) float32 in [-1, 1].
        """
        steps = num_inference_steps or self.config["num_inference_steps"]
        scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        if noise is None:
            random = np.random.default_rng(seed)

            def noise(shape):
                return random.standard_normal(shape, dtype=np.float32)

        # The empty caption in the same batch: both halves are asked at once.
        batch = len(captions)
        both = self.condition([*captions, *([""] * batch)])
        x = noise((batch, *self.config["grid"]))
        sigmas = _sigmas(steps, self.config["shift"], stochastic)
        for sigma, lower in zip(sigmas[:-1], sigmas[1:], strict=True):
            # diffusers' stochastic scheduler tells the backbone whole timesteps.
            time = np.floor(1000 * sigma) if stochastic else 1000 * sigma
            times = np.full(2 * batch, time, dtype=np.float32)
            (velocity,) = self.run(
                "backbone", sample=np.concatenate([x, x]), timestep=times, **both
            )
            told, empty = velocity[:batch], velocity[batch:]
            v = empty + scale * (told - empty)
            if stochastic:
                x = _stochastic_step(x, v, sigma, lower, noise).astype(np.float32)
            else:
                x = (x + (lower - sigma) * v).astype(np.float32)
        return self.run("decoder", latents=x)[0]


def _sigmas(steps: int, shift: float, stochastic: bool) -> np.ndarray:
    """(n + 1,) noise levels from 1, or a thousandth below, to 0; Esser et al. 2024, eq. 23."""
    even = np.linspace(0.999, 0, steps + 1) if stochastic else np.linspace(1, 0, steps + 1)
    return shift * even / (1 + (shift - 1) * even)


def _stochastic_step(x, v, sigma: float, lower: float, noise: Noise) -> np.ndarray:
    """Ancestral sampling at a flow's noise levels (Ho et al. 2020, eq. 7)."""
    guess, eps = x - sigma * v, x + (1 - sigma) * v
    fresh = noise(x.shape)
    if lower == 0:
        return guess
    keep = lower * (1 - sigma) / (sigma * (1 - lower))
    return (1 - lower) * guess + lower * (keep * eps + np.sqrt(1 - keep**2) * fresh)
