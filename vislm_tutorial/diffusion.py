"""A pretrained latent diffusion pipeline of diffusers: loaded, checked, and its training terms.

What is supported is the family of Stable Diffusion 1 and 2: a `UNet2DConditionModel` that reads a
text by cross-attention and nothing else, a VAE, a text encoder with its tokenizer, and a scheduler
that adds noise with variance 1 - alpha_bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers.utils import logging as transformers_logging

from . import registry
from ._assets import DIFFUSION
from .encoders.pretrained import _quiet_transformers
from .pipeline import _quiet_diffusers
from .training.precision import choose_precision

DEFAULT = "tiny-sd"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def load_diffusion(
    source: str | Path = DEFAULT,
    *,
    revision: str | None = None,
    variant: str | None = None,
    allow_network: bool = False,
    device: torch.device | str = "cpu",
) -> DiffusionPipeline:
    """A text-to-image pipeline, frozen, in eval mode: half precision on CUDA, else float32.

    Args:
        source: a name of the table `_assets.DIFFUSION`, a hub id "<owner>/<model>", or the folder
            of a pipeline that was saved with `save_pretrained`.
        revision: of a hub model; None: the table's, else "main".
        variant: of its files, such as "fp16"; None: the table's, else none.
        allow_network: fetch from the hub what is not on this machine; else nothing is tried.

    Raises:
        registry.AssetError: if it is not on this machine or has no safetensors weights.
        ValueError: if it is of another family; the message says in what.
    """
    device = torch.device(device)
    entry = DIFFUSION.get(str(source))
    place = entry.hub_id if entry else str(source)
    options = {"use_safetensors": True}
    if not Path(place).is_dir():
        options["revision"] = revision or (entry.revision if entry else "main")
        options["variant"] = variant or (entry.variant if entry else None)
        options["local_files_only"] = not allow_network
    # In half precision a frozen part costs half the memory; what learns is float32 all the same.
    dtype = choose_precision("auto", device).dtype if device.type == "cuda" else torch.float32
    try:
        with quiet():
            pipe = DiffusionPipeline.from_pretrained(place, **options).to(device, dtype)
    except (OSError, ValueError) as error:  # the base classes of all errors of the hub's client
        raise registry.AssetError(_not_loaded(place, allow_network, error)) from error
    check_supported(pipe)
    for name in PARTS[:3]:
        getattr(pipe, name).requires_grad_(False).eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check_supported(pipe: DiffusionPipeline) -> None:
    """Refuses a pipeline of another family.

    Raises:
        ValueError: naming the first part that is missing or asks for more than a text's states.
    """
    kind, hint = type(pipe).__name__, "Take a checkpoint of the Stable Diffusion 1 or 2 family."
    for name in PARTS:
        if getattr(pipe, name, None) is None:
            raise ValueError(f"{kind} has no {name}; expected {', '.join(PARTS)}. {hint}")
    unet = pipe.unet
    if not isinstance(unet, UNet2DConditionModel):
        raise ValueError(
            f"the unet of {kind} is a {type(unet).__name__}; expected a UNet2DConditionModel. "
            f"{hint}"
        )
    for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
        if value := unet.config.get(name):
            raise ValueError(
                f"{kind} has {name}={value!r}: its U-Net is told more than a text's states "
                f"(Stable Diffusion XL is, for one). {hint}"
            )
    if unet.config.in_channels != pipe.vae.config.latent_channels:
        raise ValueError(
            f"the unet of {kind} reads {unet.config.in_channels} channels, its VAE makes "
            f"{pipe.vae.config.latent_channels}: a picture is expected beside the text. {hint}"
        )
    if not hasattr(pipe.scheduler, "alphas_cumprod"):
        raise ValueError(
            f"the scheduler of {kind} is a {type(pipe.scheduler).__name__}, which has no "
            f"alphas_cumprod: it is no diffusion with a variance-preserving noise. {hint}"
        )


def image_size(pipe: DiffusionPipeline) -> int:
    """The side in pixels of the pictures it was trained on."""
    return pipe.unet.config.sample_size * pipe.vae_scale_factor


@torch.no_grad()
def own_states(pipe: DiffusionPipeline, captions: Sequence[str]) -> Tensor:
    """What its own text encoder tells its U-Net: (B, T, D) float32, T tokens whatever the caption.

    T is the length to which its tokenizer pads (77 for CLIP); the U-Net sees the padding too. What
    is longer is cut, as it always was for this U-Net.
    """
    with quiet():
        states, _ = pipe.encode_prompt(list(captions), pipe.device, 1, False)
    return states.float()


@torch.no_grad()
def to_latents(pipe: DiffusionPipeline, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w) float32 as the U-Net sees them.

    The mean of the VAE's answer, not a draw: its spread is far below one grey level.
    """
    answer = pipe.vae.encode(images.to(pipe.device, pipe.vae.dtype))
    latents = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else answer.latents
    shift = pipe.vae.config.get("shift_factor") or 0.0
    return (latents.float() - shift) * pipe.vae.config.scaling_factor


def latents_of(pipe: DiffusionPipeline, batches: Iterable[Tensor]) -> Tensor:
    """The latents of a whole data set, (N, C, h, w) float16 on the CPU.

    Args:
        batches: (b, 3, H, W) in [-1, 1] at a time.
    """
    return torch.cat([to_latents(pipe, images).half().cpu() for images in batches])


def training_scheduler(pipe: DiffusionPipeline) -> DDPMScheduler:
    """The noise its U-Net was trained with, whatever scheduler it draws with."""
    with quiet():
        return DDPMScheduler.from_config(pipe.scheduler.config)


def noise_target(
    scheduler: DDPMScheduler, clean: Tensor, noise: Tensor, timestep: Tensor
) -> Tensor:
    """What the U-Net shall answer for x_t = sqrt(a) x_0 + sqrt(1 - a) eps, a = alpha_bar_t.

    eps itself ("epsilon"; Ho et al. 2020, eq. 14), or v = sqrt(a) eps - sqrt(1 - a) x_0
    ("v_prediction"; Salimans & Ho 2022, appendix D), or x_0 ("sample").

    Args:
        clean, noise: (B, C, h, w) each.
        timestep: (B,) whole numbers in [0, 1000).

    Raises:
        ValueError: for another prediction type.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(clean, noise, timestep)
    if kind == "sample":
        return clean
    raise ValueError(
        f"prediction_type is {kind!r}; expected 'epsilon', 'v_prediction' or 'sample'."
    )


def min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """How much a timestep counts, so that no noise level pulls harder than SNR = `gamma` would.

    An error e in x_0 is an error sqrt(SNR) e in eps and sqrt(SNR + 1) e in v. The loss on x_0 is
    to weigh min(SNR, gamma), hence min(SNR, gamma) / SNR on eps and min(SNR, gamma) / (SNR + 1) on
    v (Hang et al. 2023, "Min-SNR", section 3.4).

    Args:
        snr: a / (1 - a), any shape, above 0.
        gamma: 5 in the paper.

    Raises:
        ValueError: for an unknown prediction type.
    """
    per_error = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
    if prediction_type not in per_error:
        raise ValueError(f"prediction_type is {prediction_type!r}; one of {', '.join(per_error)}.")
    return snr.clamp(max=gamma) / per_error[prediction_type]


def signal_to_noise(scheduler: DDPMScheduler, timestep: Tensor) -> Tensor:
    """alpha_bar / (1 - alpha_bar) at `timestep` (B,): (B,)."""
    alpha = scheduler.alphas_cumprod.to(timestep.device)[timestep]
    return alpha / (1 - alpha)


@contextmanager
def quiet() -> Iterator[None]:
    """Without loading bars, and without advice on packages that nothing here uses."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with _quiet_diffusers(), _quiet_transformers():
            yield
    finally:
        transformers_logging.set_verbosity(level)


def _not_loaded(place: str, allow_network: bool, error: Exception) -> str:
    text = f"{place} could not be loaded: {error}"
    if not Path(place).is_dir() and not allow_network:
        return f"{text} It is not on this machine; pass allow_network=True to fetch it."
    return (
        f"{text} Only safetensors weights are read, since a pickle can run code; if this "
        f"checkpoint has none, take another: {', '.join(DIFFUSION)}."
    )
