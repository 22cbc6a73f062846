"""Checks of chapter 5's exercises on joining pretrained models: page 5.13."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .report import Mistake, call, compare, passed

# Parameters of a join by name, and the first stage in which each learns; 0: in none.
_LEARNS = {
    "language_model.layers.0.self_attn.q_proj.weight": 0,
    "text_encoder.embeddings.token_embedding.weight": 0,
    "vae.decoder.conv_out.weight": 0,
    "fusion.queries": 1,
    "fusion.blocks.0.attn.to_q.weight": 1,
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.base_layer.weight": 0,
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.default.weight": 2,
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.default.weight": 2,
    "unet.conv_in.weight": 0,
}


def check_learns(learns: Callable[[str, int], bool]) -> None:
    """Page 5.13: `learns(name, stage)`: whether a parameter of that name gets a gradient.

    Raises:
        CheckFailed: naming the mistake.
    """
    for name, since in _LEARNS.items():
        for stage in (1, 2):
            right = bool(since) and stage >= since
            if since == 2:
                message = (
                    "Stage 1 has no U-Net in the loop, so its adapters cannot learn there."
                    if stage == 1
                    else "The adapters in the U-Net are what stage 2 is for."
                )
            elif since == 1:
                message = "The fusion learns in both stages: it is all that is new."
            elif "base_layer" in name:
                message = "base_layer is the U-Net's own matrix; beside a LoRA it stays frozen."
            else:
                message = "This part came finished, and stays frozen."
            answer = call(learns, name, stage)
            compare(answer, right, [Mistake(not right, f"{name}, stage {stage}: {message}")])
    passed("the fusion in both stages, the adapters in the second, nothing else.")


def check_velocity(velocity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Page 5.13: `velocity(noisy, noise, alpha_bar)`: v from an answer in epsilon.

    Raises:
        CheckFailed: naming the mistake.
    """
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    for value in (0.9, 0.5, 0.1):
        a = torch.tensor(value, dtype=torch.float64)
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        found = (noisy - (1 - a).sqrt() * noise) / a.sqrt()
        wrong = (noisy - (1 - a) * noise) / a
        mistakes = [
            Mistake((1 - a).sqrt() * clean - a.sqrt() * noise, "The sign is the other way round."),
            Mistake(
                noise - clean, "That is a flow's velocity. Diffusion's has the two square roots."
            ),
            Mistake(
                a.sqrt() * noise - (1 - a).sqrt() * noisy,
                "The picture in the formula is the clean one; solve for it first.",
            ),
            Mistake(
                a.sqrt() * clean - (1 - a).sqrt() * noise,
                "The square roots are swapped: sqrt(alpha_bar) belongs to the noise here.",
            ),
            Mistake(a * noise - (1 - a) * wrong, "alpha_bar is of variances: take square roots."),
            Mistake(found, "That is the clean picture. One more step to v."),
        ]
        answer = call(velocity, noisy, noise, a)
        compare(answer, a.sqrt() * noise - (1 - a).sqrt() * clean, mistakes, f"v at {value:g}")
    passed("v at alpha_bar 0.9, 0.5 and 0.1, from the noisy picture and its noise alone.")


def check_snr_weight(weight: Callable[[float, float, str], float]) -> None:
    """Page 5.13: `weight(alpha_bar, gamma, kind)`: the min-SNR weight of a squared error.

    Raises:
        CheckFailed: naming the mistake.
    """
    for kind, alpha in (("epsilon", 0.98), ("v_prediction", 0.98), ("epsilon", 0.2)):
        gamma, snr = 5.0, alpha / (1 - alpha)
        limited, divisor = min(snr, gamma), snr if kind == "epsilon" else snr + 1
        root = (alpha / (1 - alpha)) ** 0.5
        mistakes = [
            Mistake(
                limited, "That weighs an error in the clean picture. Which error is squared here?"
            ),
            Mistake(max(snr, gamma) / divisor, "max lets the easy steps pull hardest; take min."),
            Mistake(
                min(root, gamma) / (root if kind == "epsilon" else root + 1),
                "The signal-to-noise ratio is of variances: alpha_bar / (1 - alpha_bar).",
            ),
            Mistake(
                limited / snr,
                "An error of v is sqrt(SNR + 1) times one of the picture: divide by SNR + 1.",
            ),
            Mistake(
                limited / (snr + 1), "SNR + 1 is for v. An error in epsilon is divided by SNR."
            ),
            Mistake(divisor / limited, "Upside down."),
        ]
        answer = call(weight, alpha, gamma, kind)
        compare(answer, limited / divisor, mistakes, f"The weight for {kind} at {alpha:g}")
    compare(call(weight, 0.2, 5.0, "v_prediction"), 0.2, what="For v at alpha_bar 0.2, the weight")
    passed("1 for epsilon where noise is strong, less where it is weak; for v it falls both ways.")
