"""What the two stages of a join train: their losses as modules for `training.train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..diffusion import min_snr_weight, noise_target, own_states, signal_to_noise
from ..encoders import CachedEncoder
from ..fusion import ResamplerFusion

SAME = 1e-9  # a variance below this share of the mean square is rounding
SURVEYED = 512  # captions over which a teacher's mean and spread are taken


class CaptionPairs(Dataset):
    """Captions with a language model's states of them; batches are whole (`collate=first`).

    Args:
        encoder: which knows them all.
        drop: how often a caption is replaced by "".
    """

    def __init__(self, captions: Sequence[str], encoder: CachedEncoder, drop: float):
        self.captions, self.encoder, self.drop = list(captions), encoder, drop

    def __len__(self) -> int:
        return len(self.captions)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        captions = ["" if torch.rand(()).item() < self.drop else self.captions[i] for i in indices]
        return [{"captions": captions, "states": self.encoder.encode(captions)}]


@dataclass(frozen=True)
class Statistics:
    """How a teacher's text states lie."""

    mean: Tensor  # (D,) over captions and tokens
    std: Tensor  # (D,) likewise
    variance: float  # mean square around each token's own mean: what depends on the caption


@torch.no_grad()
def own_statistics(pipe: DiffusionPipeline, captions: Sequence[str], tokens: int) -> Statistics:
    """Of the first `tokens` states, over some of the captions, evenly taken.

    Raises:
        ValueError: if the captions are too few, or these states are the same for all of them.
    """
    captions = list(dict.fromkeys(captions))
    if len(captions) < 2:
        raise ValueError(
            f"{len(captions)} caption(s) to distil from; give many, and different ones."
        )
    captions = captions[:: -(-len(captions) // SURVEYED)]
    parts = [own_states(pipe, captions[i : i + 64]) for i in range(0, len(captions), 64)]
    states = torch.cat(parts)[:, :tokens]  # (N, M, D)
    variance = (states - states.mean(dim=0)).square().mean().item()
    if variance <= SAME * states.square().mean().item():
        raise ValueError(
            f"the first {tokens} token(s) of the teacher are the same for all {len(captions)} "
            "captions, so there is nothing to distil (the very first one opens every caption); "
            "take more tokens, or different captions."
        )
    return Statistics(states.mean(dim=(0, 1)), states.std(dim=(0, 1)), variance)


class Stage(nn.Module):
    """A module whose state is what learns: a frozen U-Net does not go into every checkpoint."""

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """Of trainable parameters only."""
        learns = self._learns()
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if k in learns}

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """What `state_dict` gave; all else stays.

        Raises:
            RuntimeError: if a trainable parameter is missing, or one is too many.
        """
        answer = super().load_state_dict(state_dict, strict=False, assign=assign)
        wrong = [*(self._learns() & set(answer.missing_keys)), *answer.unexpected_keys]
        if strict and wrong:
            raise RuntimeError(f"{wrong[0]!r} is missing, or not a part of this stage.")
        return answer

    def _learns(self) -> set[str]:
        return {name for name, p in self.named_parameters() if p.requires_grad}


class Distillation(Stage):
    """Stage 1: fused states against the teacher's, token by token.

    Args:
        pipe: whose text encoder teaches; not a part of this module, and frozen.
        variance: of the teacher's states, by which the squared error is divided.
    """

    def __init__(self, fusion: ResamplerFusion, pipe: DiffusionPipeline, variance: float):
        super().__init__()
        self.fusion, self.pipe, self.variance = fusion, pipe, variance

    def forward(self, batch: dict, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of `{"captions": B strings, "states": TextStates}` / variance."""
        fused = self.fusion(batch["states"]).encoder_hidden_states  # (B, M, D)
        own = own_states(self.pipe, batch["captions"])[:, : fused.shape[1]]
        return F.mse_loss(fused.float(), own) / self.variance


class Denoising(Stage):
    """Stage 2: the loss the U-Net was made with, here for the fusion and the U-Net's adapters.

    Args:
        unet: frozen but for its adapters.
        scheduler: whose noise and prediction type the U-Net knows.
        gamma: of the min-SNR weights; 0: none.
    """

    def __init__(
        self,
        fusion: ResamplerFusion,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        gamma: float = 0.0,
    ):
        super().__init__()
        self.fusion, self.unet = fusion, unet
        self.scheduler, self.gamma = scheduler, gamma

    def forward(self, batch: dict, generator: torch.Generator | None = None) -> Tensor:
        """Scalar loss of `{"pictures": latents (B, C, h, w), "states": TextStates}`."""
        clean = batch["pictures"]
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        steps = self.scheduler.config.num_train_timesteps
        t = torch.randint(steps, clean.shape[:1], generator=generator, device=clean.device)
        noisy = self.scheduler.add_noise(clean, noise, t)
        told = self.fusion(batch["states"]).encoder_hidden_states
        answer = self.unet(noisy, t, encoder_hidden_states=told).sample
        target = noise_target(self.scheduler, clean, noise, t)
        error = (answer.float() - target).square().mean(dim=(1, 2, 3))  # (B,)
        if self.gamma:
            snr = signal_to_noise(self.scheduler, t)
            error = error * min_snr_weight(snr, self.gamma, self.scheduler.config.prediction_type)
        return error.mean()


def retrieval(fused: Tensor, own: Tensor) -> float:
    """How often a caption's fused states lie nearest to its own teacher's, among all B captions.

    Args:
        fused, own: (B, M, D) each, of B different captions in the same order.

    Returns:
        A share in [0, 1]; 1 / B is chance.
    """
    distance = torch.cdist(fused.flatten(1), own[:, : fused.shape[1]].flatten(1))  # (B, B)
    return (distance.argmin(dim=1).cpu() == torch.arange(len(fused))).float().mean().item()
