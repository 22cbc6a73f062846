"""A language model joined to a pretrained diffusion pipeline, in two stages.

    caption --> language model --> fusion --> states, as from the pipeline's text encoder --> U-Net

Stage 1 (`Joined.distill`) needs captions only: the fusion learns to say what the pipeline's own
text encoder says. Stage 2 (`Joined.fine_tune`) needs pictures: fusion and LoRA adapters in the
U-Net learn from the denoising loss, so the result may know what the old encoder never did.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import diffusion
from ..encoders import CachedEncoder, TextEncoder, load_encoder
from ..fusion import FusionConfig, ResamplerFusion, build_fusion
from ..training import TrainingConfig, TrainingResult, train
from ..training.datasets import PreparedCaptions, first, picture_batches
from .stages import CaptionPairs, Denoising, Distillation, own_statistics

STAGES = ("own", "distilled", "tuned")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # a U-Net's layers that get an adapter


@dataclass(frozen=True)
class JoinConfig:
    """What stands between the two models, and how it learns."""

    tokens: int = 0  # M of the fusion; 0: as many as the pipeline's own text encoder gives
    depth: int = 2  # blocks of the fusion
    heads: int = 8  # of each block
    lora_rank: int = 8  # of the adapters of the U-Net's attention
    min_snr_gamma: float = 0.0  # see diffusion.min_snr_weight; 0: all noise levels count alike
    caption_dropout: float = 0.1  # how often a caption is replaced by "", for guidance
    seed: int = 0  # of the fusion's and the adapters' fresh weights


class Joined:
    """A pipeline, a language model, and the fusion between them; made by `join`.

    Attributes:
        pipe: the diffusion pipeline; its own text encoder stays, as teacher and for comparison.
        encoder: the language model, frozen.
        fusion: the network in use.
        distilled: the fusion as stage 1 left it, or None before.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        encoder: TextEncoder,
        config: JoinConfig = JoinConfig(),  # noqa: B008, it is frozen
        source: str = "",
    ) -> None:
        diffusion.check_supported(pipe)
        self.pipe, self.encoder, self.config, self.source = pipe, encoder, config, source
        encoder.model.requires_grad_(False)
        length = diffusion.own_states(pipe, [""]).shape[1]
        if not 0 <= config.tokens <= length:
            raise ValueError(
                f"tokens is {config.tokens}; expected 1 to {length}, the number of states that the "
                "pipeline's own text encoder gives, or 0 for as many."
            )
        sizes = FusionConfig(
            kind="resampler",
            width=pipe.unet.config.cross_attention_dim,
            tokens=config.tokens or length,
            depth=config.depth,
            heads=config.heads,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.fusion: ResamplerFusion = build_fusion(sizes, encoder.width).to(self.device)
        self.distilled: ResamplerFusion | None = None

    @property
    def device(self) -> torch.device:
        """Where the pipeline is."""
        return self.pipe.device

    @property
    def has_adapters(self) -> bool:
        """Whether the U-Net has LoRA adapters, which stage 2 gives it."""
        return bool(getattr(self.pipe.unet, "peft_config", None))

    @torch.no_grad()
    def condition(self, captions: Sequence[str], stage: str | None = None) -> Tensor:
        """What the U-Net is told: (B, M, D) float32.

        Args:
            stage: "own", "distilled" or "tuned"; None: as far as it has come.

        Raises:
            ValueError: for a stage that there is not (yet).
        """
        if stage == "own":
            return diffusion.own_states(self.pipe, captions)
        fusion = self._fusion(stage)
        self.encoder.model.to(self.device)
        return fusion(self.encoder.encode(captions)).encoder_hidden_states

    def distill(
        self, captions: Sequence[str], training: TrainingConfig, run_dir: str | Path
    ) -> TrainingResult:
        """Stage 1: the fusion learns the pipeline's own text states; no picture, no U-Net.

        The loss is the share of those states' variance that is missed: 1 is what a fusion gets
        that does not read the caption.

        Args:
            captions: the more kinds of sentences, the better; no pictures belong to them.
            training, run_dir: as for `training.train`; a run that was stopped goes on.
        """
        fusion, tokens = self.fusion, self.fusion.config.tokens
        statistics = own_statistics(self.pipe, captions, tokens)
        if self.distilled is None:  # the last norm begins with the teacher's mean and spread
            with torch.no_grad():
                fusion.norm_out.weight.copy_(statistics.std)
                fusion.norm_out.bias.copy_(statistics.mean)
        pairs = CaptionPairs(captions, self._cached(captions), self.config.caption_dropout)
        model = Distillation(fusion.requires_grad_(True), self.pipe, statistics.variance)
        result = train(model, pairs, training, run_dir, collate=first, meta={"stage": "distilled"})
        self.distilled = copy.deepcopy(fusion).requires_grad_(False)
        return result

    def fine_tune(
        self, dataset: Dataset, training: TrainingConfig, run_dir: str | Path
    ) -> TrainingResult:
        """Stage 2: the denoising loss on pictures, for the fusion and for LoRA in the U-Net.

        Args:
            dataset: items `{"image": (3, H, W) in [-1, 1], "caption": str}`, with `.captions`:
                `data.openmoji.load_openmoji`, `data.folder.load_folder`, ...
            training, run_dir: as for `training.train`.

        Raises:
            ValueError: if the pictures' sides are no multiple of what the U-Net can halve.
        """
        captions = list(dataset.captions)
        latents = diffusion.latents_of(self.pipe, picture_batches(dataset, batch_size=8))
        halvings = 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)
        if any(side % halvings for side in latents.shape[-2:]):
            raise ValueError(
                f"the pictures' latents are {tuple(latents.shape[-2:])}; the U-Net halves them "
                f"until {halvings} times smaller. Load pictures of another image_size, best of "
                f"{diffusion.image_size(self.pipe)} pixels."
            )
        self._add_adapters()
        pairs = PreparedCaptions(
            latents, captions, self._cached(captions), self.config.caption_dropout
        )
        scheduler = diffusion.training_scheduler(self.pipe)
        model = Denoising(
            self.fusion.requires_grad_(True), self.pipe.unet, scheduler, self.config.min_snr_gamma
        )
        return train(model, pairs, training, run_dir, collate=first, meta={"stage": "tuned"})

    @torch.no_grad()
    def draw(
        self,
        captions: Sequence[str],
        *,
        stage: str | None = None,
        seed: int = 0,
        num_inference_steps: int = 25,
        guidance_scale: float = 5.0,
        image_size: int | None = None,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], by the pipeline's own scheduler.

        Caption number i starts from noise of seed + i at every stage, so stages can be compared.
        A safety checker that came with the checkpoint stays on.

        Args:
            stage: as for `condition`.
            guidance_scale: 1: none.
            image_size: side in pixels; None: what the pipeline was trained on.
        """
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
        dtype, size = self.pipe.unet.dtype, image_size or diffusion.image_size(self.pipe)
        half = dtype != torch.float32
        with (
            self._adapters(stage in (None, "tuned")),
            torch.autocast(self.device.type, dtype if half else torch.bfloat16, enabled=half),
        ):
            pictures = self.pipe(
                prompt_embeds=self.condition(captions, stage).to(dtype),
                negative_prompt_embeds=self.condition([""] * len(captions), stage).to(dtype),
                generator=generators,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                height=size,
                width=size,
                output_type="pt",
            ).images
        return pictures.float().cpu() * 2 - 1  # [0, 1] -> [-1, 1]

    def draw_stages(self, captions: Sequence[str], **options) -> dict[str, Tensor]:
        """`draw` by every stage that there is, each from the same noise: stage -> pictures.

        Args:
            options: of `draw`.
        """
        there = {"own": True, "distilled": self.distilled, "tuned": self.has_adapters}
        names = [stage for stage in STAGES if there[stage]]
        return {stage: self.draw(captions, stage=stage, **options) for stage in names}

    def _fusion(self, stage: str | None) -> ResamplerFusion:
        there = {None: True, "distilled": self.distilled is not None, "tuned": self.has_adapters}
        if stage not in there:
            raise ValueError(f"stage is {stage!r}; expected one of {', '.join(STAGES)}, or None.")
        if not there[stage]:
            needed = "distill" if stage == "distilled" else "fine_tune"
            raise ValueError(f"there is no stage {stage!r} yet; {needed}(...) makes it.")
        return (self.distilled if stage == "distilled" else self.fusion).eval()

    def _cached(self, captions: Sequence[str]) -> CachedEncoder:
        """The language model with the states of all captions, and of the empty one, on disk."""
        encoder = CachedEncoder(self.encoder)
        self.encoder.model.to(self.device)
        encoder.encode_many([*dict.fromkeys(captions), ""], progress=False)
        self.encoder.model.to("cpu")  # in training its states are only read, by the loader
        return encoder

    def _add_adapters(self) -> None:
        from peft import LoraConfig

        unet, rank = self.pipe.unet, self.config.lora_rank
        if not self.has_adapters:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed)
                unet.add_adapter(
                    LoraConfig(
                        r=rank,
                        lora_alpha=rank,
                        init_lora_weights="gaussian",
                        target_modules=list(ATTENTION),
                    )
                )
        freeze_but_adapters(unet)

    @contextmanager
    def _adapters(self, on: bool) -> Iterator[None]:
        """Inside, the U-Net draws with its adapters or as it came."""
        if on or not self.has_adapters:
            yield
            return
        self.pipe.unet.disable_adapters()
        try:
            yield
        finally:
            self.pipe.unet.enable_adapters()


def join(
    source: str | Path = diffusion.DEFAULT,
    language_model: str | TextEncoder = "smollm2",
    config: JoinConfig = JoinConfig(),  # noqa: B008, it is frozen
    *,
    layers: str | int = "mean",
    max_length: int = 64,
    allow_network: bool = False,
    device: torch.device | str | None = None,
) -> Joined:
    """A language model in front of a pretrained diffusion pipeline; nothing has learned yet.

    Args:
        source: as for `diffusion.load_diffusion`.
        language_model: as for `load_encoder`, or an encoder that is loaded.
        layers, max_length: of the language model, as for `load_encoder`.
        allow_network: fetch from the hub what is not on this machine.
        device: None: where accelerate would train.

    Raises:
        ValueError, registry.AssetError: as `load_diffusion` and `load_encoder`.
    """
    device = device or PartialState(cpu=not torch.accelerator.is_available()).device
    pipe = diffusion.load_diffusion(source, allow_network=allow_network, device=device)
    encoder = language_model
    if isinstance(encoder, str):
        encoder = load_encoder(
            encoder, layers, max_length, allow_network=allow_network, device=device
        )
    return Joined(pipe, encoder, config, str(source))


def freeze_but_adapters(unet: nn.Module) -> None:
    """Adapters learn, in float32; all else of the U-Net stays frozen and as it is."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
