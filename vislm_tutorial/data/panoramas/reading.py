"""Picture -> panorama: reads a picture back by analysis, with nothing learned.

The usual colours of the sky's and the ground's rows tell light and ground, and with them the
landscape. What differs from the landscape around a heading is compared with every landmark that
could stand there, a few pixels to each side and up and down.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ..images import check_floats
from .rendering import landscape, window_columns
from .shapes import HALF_WIDTH, landmark, window_rows
from .world import COLOURS, GROUNDS, HEADINGS, KINDS, LIGHTS, Landmark, Panorama

DRAWN_SIZE = 128  # rows of the landscapes and landmarks that pictures are compared with
WORKING_SIZE = 64  # rows to which they and the pictures are averaged down
SKY_ROWS, GROUND_ROWS = slice(0, 28), slice(38, 64)  # of `WORKING_SIZE`, clear of the horizon
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)]  # 2 pixels each
# A landmark is there where its template leaves at most this part of the squared difference from
# the landscape unexplained. Renders blurred by 3 pixels leave up to 0.28, an empty heading leaves
# 0.65 or more.
RESIDUAL_LIMIT = 0.45
LOOKS = [(kind, colour) for kind in KINDS for colour in COLOURS]  # K = 36


def read(images: Tensor, batch_size: int = 32) -> list[Panorama]:
    """The panoramas that pictures show.

    Args:
        images: (B, 3, H, 2 H) float in [-1, 1], H 64 or more.
        batch_size: pictures that are read at once.

    Returns:
        B panoramas with 0 to 8 landmarks: a landmark that cannot be made out is left out.

    Raises:
        ValueError: for another shape or integers.
    """
    check_images(images)
    if images.shape[2] < WORKING_SIZE:
        raise ValueError(f"images have {images.shape[2]} rows; expected {WORKING_SIZE} or more.")
    return [p for chunk in images.split(batch_size) if len(chunk) for p in _read_batch(chunk)]


def check_images(images: Tensor) -> None:
    """Raise ValueError unless images are floats of shape (B, 3, H, 2 H)."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[3] != 2 * images.shape[2]:
        raise ValueError(f"images has shape {tuple(images.shape)}; expected (B, 3, H, 2 H).")
    check_floats(images)


@torch.no_grad()
def _read_batch(images: Tensor) -> list[Panorama]:
    pixels = images.detach().to("cpu", torch.float32).nan_to_num().clamp(-1, 1).add(1).div(2)
    pixels = functional.adaptive_avg_pool2d(pixels, (WORKING_SIZE, 2 * WORKING_SIZE))
    names = _grounds_and_lights(pixels)
    readings: list[Panorama | None] = [None] * len(names)
    for name in sorted(set(names)):
        members = [i for i, other in enumerate(names) if other == name]
        marks = _landmarks(pixels[members] - _small_landscape(*name), *name)
        for i, found in zip(members, marks, strict=True):
            readings[i] = Panorama(*name, tuple(found))
    return readings


# --- the landscape -------------------------------------------------------------------------------


def _profile(pixels: Tensor) -> Tensor:
    """Each row's median colour, which landmarks and the sun do not move: (B, 3, rows)."""
    return pixels.median(dim=-1).values


@cache
def _small_landscape(ground: str, light: str) -> Tensor:
    """The landscape at `WORKING_SIZE`: (3, H, 2 H) in [0, 1]."""
    return functional.avg_pool2d(landscape(ground, light, DRAWN_SIZE), DRAWN_SIZE // WORKING_SIZE)


@cache
def _profiles() -> Tensor:
    """Those of all landscapes: (lights, grounds, 3, rows)."""
    lands = [torch.stack([_small_landscape(g, light) for g in GROUNDS]) for light in LIGHTS]
    return torch.stack([_profile(land) for land in lands])


def _grounds_and_lights(pixels: Tensor) -> list[tuple[str, str]]:
    """(ground, light) of each picture (B, 3, H, 2 H): the light by the sky, then the ground."""
    profile, known = _profile(pixels), _profiles()
    sky = known[:, 0, :, SKY_ROWS].flatten(1)  # the same over every ground
    light = torch.cdist(profile[..., SKY_ROWS].flatten(1), sky).argmin(dim=1)
    candidates = known[light][..., GROUND_ROWS]  # (B, grounds, 3, rows)
    distance = (candidates - profile[:, None, :, GROUND_ROWS]).square().sum(dim=(2, 3))
    ground = distance.argmin(dim=1)
    pairs = zip(ground.tolist(), light.tolist(), strict=True)
    return [(list(GROUNDS)[g], list(LIGHTS)[k]) for g, k in pairs]


# --- the landmarks -------------------------------------------------------------------------------


def _soften(difference: Tensor) -> Tensor:
    """(N, 3, h, w) blurred a little, so that a picture's own softness hardly matters."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    return functional.conv2d(difference, kernel, padding=1, groups=3)


@cache
def _templates(ground: str, light: str) -> Tensor:
    """How each look changes the landscape at each heading: (8, K, D), D = 3 h w of a window."""
    layers = [landmark(*look, ground, light, DRAWN_SIZE) for look in LOOKS]
    rgb, alpha = (torch.stack(parts) for parts in zip(*layers, strict=True))
    behind = landscape(ground, light, DRAWN_SIZE)[:, list(window_rows(DRAWN_SIZE))]
    factor, found = DRAWN_SIZE // WORKING_SIZE, []
    for heading in HEADINGS:
        columns = window_columns(heading, rgb.shape[-1], DRAWN_SIZE)
        change = functional.avg_pool2d(rgb - alpha * behind[..., columns], factor)
        found.append(_soften(change).flatten(1))
    return torch.stack(found)


def _windows(difference: Tensor) -> Tensor:
    """Around each heading, shifted in each way: (B, 3, H, 2 H) -> (8, B, shifts, D)."""
    rows = window_rows(WORKING_SIZE)
    width = 2 * HALF_WIDTH * WORKING_SIZE // DRAWN_SIZE
    found = []
    for heading in HEADINGS:
        columns = window_columns(heading, width, WORKING_SIZE)
        shifted = [
            difference[:, :, rows.start + down : rows.stop + down, (columns + right) % 128]
            for down, right in SHIFTS
        ]
        found.append(torch.stack([window.flatten(1) for window in shifted], dim=1))
    return torch.stack(found)


def _landmarks(difference: Tensor, ground: str, light: str) -> list[list[Landmark]]:
    """What stands at the headings of pictures of one landscape, from (B, 3, H, 2 H) differences."""
    wrapped = functional.pad(difference, (1, 1, 0, 0), mode="circular")
    windows = _windows(_soften(wrapped)[..., 1:-1])
    templates = _templates(ground, light)
    energy = templates.square().sum(dim=2)  # (8, K)
    headings, batch, shifts, size = windows.shape
    dots = windows.reshape(headings, batch * shifts, size) @ templates.transpose(1, 2)
    # |d|^2 - |d - t|^2, what a template explains: (8, B * shifts, K) -> (8, B, shifts * K)
    explained = (2 * dots - energy[:, None]).reshape(headings, batch, -1)
    best = explained.argmax(dim=2, keepdim=True)
    look = best % len(LOOKS)
    there = windows.square().sum(dim=3).gather(2, best // len(LOOKS))
    largest = torch.maximum(there, energy[:, None].expand(-1, batch, -1).gather(2, look))
    residual = (there - explained.gather(2, best)) / largest.clamp(min=1e-6)
    found: list[list[Landmark]] = [[] for _ in range(batch)]
    for h, heading in enumerate(HEADINGS):
        for i in range(batch):
            if residual[h, i, 0] <= RESIDUAL_LIMIT:
                found[i].append(Landmark(*LOOKS[int(look[h, i, 0])], heading))
    return found


# --- the seam ------------------------------------------------------------------------------------


def seam(images: Tensor) -> Tensor:
    """How visible the line is at which a picture's left and right edges meet.

    Args:
        images: (B, 3, H, 2 H) float in [-1, 1].

    Returns:
        (B,) mean difference of the last and the first column, divided by that of neighbouring
        columns elsewhere: about 1 where all goes on, well above where there is a step.

    Raises:
        ValueError: for another shape or integers.
    """
    check_images(images)
    images = images.float()
    across = (images[..., -1] - images[..., 0]).abs().mean(dim=(1, 2))
    elsewhere = (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))
    return across / elsewhere.clamp(min=1e-6)
