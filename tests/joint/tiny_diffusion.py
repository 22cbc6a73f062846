"""A Stable Diffusion small enough for tests: diffusers' own classes, random weights, on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIDE = 16  # pixels
LENGTH = 12  # tokens that its text encoder reads
WIDTH = 16  # of its text states
CAPTIONS = [
    f"a {colour} {shape} {where}"
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square", "star")
    for where in ("above", "below", "left")
]


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's kind of vocabulary: letters, and the words of `CAPTIONS` merged from them."""
    letters = [chr(c) for c in range(97, 123)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    words = "red green blue yellow circle square star above below left".split()
    merges, vocabulary = [], list(tokens)
    for word in sorted(words):  # merged from the left
        start, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for piece in rest:
            if (start, piece) not in merges:
                merges.append((start, piece))
                vocabulary.append(start + piece)
            start += piece
    vocabulary = list(dict.fromkeys(vocabulary))
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=LENGTH,
    )


def tiny_pipe(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """U-Net, VAE and text encoder with weights that learned nothing."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=8.0,  # at 1 its states hardly depend on the caption
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type=prediction_type),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_tiny(folder: Path, prediction_type: str = "epsilon") -> Path:
    """`tiny_pipe` on disk, as a checkpoint of the hub would lie there."""
    tiny_pipe(prediction_type).save_pretrained(folder)
    return folder
