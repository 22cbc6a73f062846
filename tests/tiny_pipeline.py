"""A whole pipeline, small enough for tests: 16 px pictures, weights that learned nothing."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

from vislm_tutorial.encoders import TextEncoder
from vislm_tutorial.fusion import FusionConfig, build_fusion
from vislm_tutorial.generators import Autoencoder, DiT
from vislm_tutorial.pipeline import VisLMPipeline

SIDE = 16


def tiny_pipeline(
    encoder: TextEncoder, fusion: str = "projector", conditioning: str = "cross"
) -> VisLMPipeline:
    """Weights that start at zero are drawn at random, so that every input changes the picture."""
    torch.manual_seed(0)
    fusion = build_fusion(FusionConfig(fusion, width=16, depth=1, heads=2), encoder.width)
    sizes = {"patch_size": 2, "width": 16, "depth": 1, "heads": 2, "condition_width": 16}
    backbone = DiT(4, in_channels=4, **sizes, conditioning=conditioning)
    timed = [p for name, p in fusion.named_parameters() if "modulation" in name]
    for parameter in [*timed, *backbone.parameters()]:
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    autoencoder = Autoencoder(patch_size=2, channels=(8, 16), latent_channels=4, norm_groups=4)
    scheduler = FlowMatchEulerDiscreteScheduler()
    return VisLMPipeline(fusion, backbone, scheduler, autoencoder, encoder)


def seeds(*numbers: int) -> list[torch.Generator]:
    """A generator for each image."""
    return [torch.Generator().manual_seed(number) for number in numbers]
