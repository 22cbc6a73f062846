"""Panorama -> equirectangular picture: sky, ridges, ground and landmarks.

Everything is a function of the direction in which one looks, so nothing jumps where the picture's
left and right edges meet. The twelve landscapes (ground and light) stay the same in every picture,
which leaves it exactly one meaning: what differs from its landscape is a landmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .shapes import GROUND_TINTS, landmark, window_rows
from .world import HEADINGS, Landmark, Panorama

# Colours 0..255 at the horizon, at a third of the height, and overhead.
SKIES = {
    "noon": ((214, 234, 248), (138, 190, 240), (66, 128, 214)),
    "sunset": ((255, 196, 150), (226, 140, 150), (98, 84, 156)),
    "night": ((62, 70, 118), (36, 42, 92), (16, 18, 54)),
}
# Where the sun or the moon stands (heading and height in degrees, radius), and its colour. None
# stands behind a landmark: their headings are between those of the compass.
LAMPS = {
    "noon": (157.5, 58.0, 5.0, (255, 252, 232)),
    "sunset": (247.5, 7.0, 4.5, (255, 236, 170)),
    "night": (22.5, 42.0, 4.5, (240, 240, 222)),
}
GLOWS = {  # how far the lamp's light spreads in radians, how strong, and its colour
    "noon": (0.34, 0.75, (255, 252, 236)),
    "sunset": (0.62, 0.85, (255, 206, 112)),
    "night": (0.30, 0.35, (150, 160, 214)),
}
CLOUD_COLOURS = {"noon": (255, 255, 255), "sunset": (255, 190, 168), "night": (70, 78, 124)}
CLOUDS = (  # heading and height in degrees, size
    (12, 48, 1.0),
    (68, 57, 0.8),
    (116, 46, 0.75),
    (204, 53, 1.05),
    (284, 46, 0.9),
    (330, 59, 0.75),
)
# Degrees from a cloud's middle (right, up) and radius of the balls of which it is made.
PUFFS = ((-13, 0, 6), (-7, 2.0, 7), (0, 3.5, 9), (7, 1.5, 7.5), (13, 0, 6))
NEAR_AND_FAR = {  # colours of the ground below one's feet and at the horizon
    "meadow": ((62, 128, 50), (142, 186, 84)),
    "desert": ((214, 160, 92), (238, 208, 146)),
    "sea": ((12, 88, 120), (70, 160, 180)),
    "snow": ((214, 226, 244), (246, 249, 253)),
}
RIDGES = {  # colours of the farther and the nearer ridge; the sea has none
    "meadow": ((146, 180, 176), (98, 150, 92)),
    "desert": ((226, 186, 142), (216, 162, 98)),
    "snow": ((176, 196, 224), (222, 232, 246)),
}


def _mix(image: Tensor, colour, part: Tensor) -> Tensor:
    """(3, H, W) with a colour (0..255) laid over it, `part` of it in [0, 1], (H, W)."""
    over = torch.as_tensor(colour, dtype=torch.float32).reshape(3, 1, 1) / 255
    return image + (over - image) * part


def _angle(east: Tensor, up: Tensor, heading: float, height: float) -> Tensor:
    """Radians between each direction and one given in degrees."""
    apart = (east - math.radians(heading)).cos()
    height = math.radians(height)
    cosine = up.sin() * math.sin(height) + up.cos() * math.cos(height) * apart
    return cosine.clamp(-1, 1).acos()


def _wrapped(angle: Tensor) -> Tensor:
    """The same angles between -pi and pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def _spots(east: Tensor, up: Tensor, count: int, low: float, high: float, size: float) -> Tensor:
    """Brightness in [0, 1] of `count` scattered dots between two heights in degrees; (H, W)."""
    places = torch.rand(count, 3, generator=torch.Generator().manual_seed(7))
    turn, height, strength = places.T[..., None]  # (count, 1) each
    height = (low + (high - low) * height).deg2rad()
    radius = size * math.pi / 128
    across = _wrapped(east - 2 * math.pi * turn) * height.cos() / radius  # (count, W)
    over = (up.T - height) / radius  # (count, H)
    # A round dot is the product of one along the columns and one along the rows.
    rows = (0.45 + 0.55 * strength) * (-(over**2)).exp()
    return (rows.T @ (-(across**2)).exp()).clamp(0, 1)


def _clouds(east: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the sky clouds cover, in [0, 1], and how bright they are there; (H, W) each."""
    puffs = [
        (cloud + size * dx / 0.65, raised + size * dy, 0.72 * size * radius)
        for cloud, raised, size in CLOUDS
        for dx, dy, radius in PUFFS
    ]
    heading, height, radius = torch.tensor(puffs).deg2rad().T[..., None]  # (N, 1) each
    across = _wrapped(east - heading) * 0.65 / radius  # (N, W)
    over = (up.T - height) / radius  # (N, H)
    rows = (-((over * torch.where(over < 0, 2.3, 1.15)) ** 2)).exp()  # flat below, round above
    columns = (-(across**2)).exp()
    thickness = rows.T @ columns
    lift = (rows * (up.T - height) / math.radians(5)).T @ columns / thickness.clamp(min=1e-6)
    return 0.94 * (1 - (-2.6 * thickness**2).exp()), 0.93 + 0.09 * lift.clamp(-1.5, 0.8)


def _sky(light: str, east: Tensor, up: Tensor, pixel: float) -> Tensor:
    """(3, H, W) in [0, 1]."""
    horizon, middle, zenith = SKIES[light]
    height = (up / (math.pi / 2)).clamp(0, 1).expand(-1, east.shape[1])
    image = _mix(torch.zeros(3, *height.shape), horizon, torch.ones_like(height))
    image = _mix(image, middle, torch.sin((height / 0.36).clamp(0, 1) * math.pi / 2))
    image = _mix(image, zenith, ((height - 0.2) / 0.8).clamp(0, 1) ** 0.9)
    heading, above, radius, colour = LAMPS[light]
    spread, strength, glow = GLOWS[light]
    distance = _angle(east, up, heading, above)
    image = _mix(image, glow, strength * (-distance / spread).exp())
    if light == "night":
        image = _mix(image, (250, 246, 226), 0.9 * _spots(east, up, 130, 12, 78, 0.75))
    cover, bright = _clouds(east, up)
    cloud = torch.tensor(CLOUD_COLOURS[light]).reshape(3, 1, 1) / 255 * bright
    image = image + (cloud - image) * cover
    return _mix(
        image, colour, (0.5 + (radius * math.pi / 128 - distance) / pixel / 1.6).clamp(0, 1)
    )


def _wave(
    east: Tensor, up: Tensor, pixel: float, k: float, turn: float, bend: float = 0.0
) -> Tensor:
    """A plane wave on the ground, in [-1, 1], that fades where pixels cannot resolve it; (H, W).

    `k` is radians per eye's height, `turn` the heading of its crests' normal, `bend` how far a
    second wave moves them to and fro.
    """
    far = 1 / (-up).clamp(min=0.5 * pixel).tan()  # in eye's heights
    x, y = far * (east - turn).sin(), far * (east - turn).cos()
    blur = k * pixel * (1 + far**2)
    return (k * y + bend * (0.55 * k * x).sin()).sin() * (-0.25 * blur**2).exp()


def _ground(ground: str, light: str, east: Tensor, up: Tensor, pixel: float) -> Tensor:
    """(3, H, W) in [0, 1]."""
    near, far = NEAR_AND_FAR[ground]
    down = (-up / (math.pi / 2)).clamp(0, 1).expand(-1, east.shape[1])
    image = _mix(torch.zeros(3, *down.shape), near, torch.ones_like(down))
    image = _mix(image, far, (1 - down) ** 3)
    waves = {
        "meadow": ((2.3, 0.4, 0.8, 0.06), (3.7, 1.9, 1.0, 0.06), (9.0, 1.1, 1.5, 0.03)),
        "desert": ((7.0, 0.6, 1.6, 0.06), (1.7, 2.2, 0.9, 0.05), (3.1, 0.2, 1.2, 0.03)),
        "sea": ((4.1, 0.5, 0.9, 0.09), (6.3, 1.0, 1.1, 0.08), (2.2, 2.3, 0.7, 0.06)),
        "snow": ((2.1, 0.7, 1.2, 0.035), (3.9, 1.8, 0.9, 0.02), (1.1, 2.7, 0.6, 0.025)),
    }[ground]
    swell = sum(depth * _wave(east, up, pixel, k, turn, bend) for k, turn, bend, depth in waves)
    image = image * (1 + swell)
    if ground == "meadow":
        for shift, flower in (
            (0.0, (255, 246, 214)),
            (1.3, (250, 214, 92)),
            (2.9, (240, 150, 190)),
        ):
            image = _mix(image, flower, 0.9 * _spots(east - shift, up, 45, -58, -15, 0.95))
    image = image * torch.tensor(GROUND_TINTS[light]).reshape(3, 1, 1)
    if ground in ("sea", "snow"):  # the lamp's light on the water, or on the crust
        across = _wrapped(east - math.radians(LAMPS[light][0]))
        path = (-((across / 0.30) ** 2)).exp() * (-(((down - 0.1) / 0.35) ** 2)).exp()
        glitter = path * (0.55 + 3.0 * swell if ground == "sea" else 0.35)
        image = _mix(image, GLOWS[light][2], glitter.clamp(0, 0.9))
    return image


def _ridge(ground: str, nearer: bool, east: Tensor) -> Tensor:
    """Height of a ridge in radians at each heading, (1, W)."""
    s = 1.0 if nearer else 2.1
    if ground == "snow" and not nearer:  # peaks
        steep = (1 - (3 * east).sin().abs()) + 0.6 * (1 - (5.5 * east + 1).sin().abs())
        return 0.03 + 0.12 * steep
    roll = (
        (3 * east + 1.7 * s).sin() + 0.6 * (5 * east + 0.4 * s).sin() + 0.3 * (9 * east - s).sin()
    )
    return (0.035 if nearer else 0.085) + (0.016 if nearer else 0.034) * roll


@lru_cache(maxsize=24)
def landscape(ground: str, light: str, image_size: int) -> Tensor:
    """What a panorama shows behind its landmarks: (3, H, 2 H) in [0, 1]."""
    pixel = math.pi / image_size
    east = ((torch.arange(2 * image_size) + 0.5) * pixel - math.pi)[None, :]
    up = (math.pi / 2 - (torch.arange(image_size) + 0.5) * pixel)[:, None]
    image = _sky(light, east, up, pixel)
    tint = torch.tensor(GROUND_TINTS[light]).reshape(3, 1, 1)
    air = torch.tensor(SKIES[light][0]).reshape(3, 1, 1)
    for nearer, colour in enumerate(RIDGES.get(ground, ())):
        height = _ridge(ground, bool(nearer), east)
        hazed = torch.tensor(colour).reshape(3, 1, 1) * tint
        hazed = torch.lerp(hazed, air.float(), 0.15 if nearer else 0.45)
        image = _mix(image, hazed, (0.5 + (height - up) / pixel).clamp(0, 1))
    earth = _ground(ground, light, east, up, pixel)
    earth = earth + (air / 255 - earth) * (0.45 * (up / 0.07).clamp(max=0).exp())
    below = (0.5 - up / pixel).clamp(0, 1)
    return (image + (earth - image) * below).clamp(0, 1)


def window_columns(heading: str, width: int, image_size: int) -> Tensor:
    """The columns of a window of this width around a heading, wrapped at the seam."""
    middle = image_size + round(HEADINGS[heading] * image_size / 180)
    return (torch.arange(width) + middle - width // 2) % (2 * image_size)


def render(panoramas: Sequence[Panorama], image_size: int = 128) -> Tensor:
    """Draw panoramas.

    Args:
        panoramas: B panoramas of 1 to 3 landmarks at least 90 degrees apart.
        image_size: rows H, 32 or more and a multiple of 4 (`read` needs 64); 2 H columns.

    Returns:
        (B, 3, H, 2 H) float32 in [-1, 1]; north is between the two middle columns.

    Raises:
        ValueError: for another image_size, and what `Panorama.check_drawable` raises.
    """
    if image_size < 32 or image_size % 4:
        raise ValueError(f"image_size is {image_size}; expected a multiple of 4, 32 or more.")
    for panorama in panoramas:
        panorama.check_drawable()
    if not panoramas:
        return torch.zeros(0, 3, image_size, 2 * image_size)
    images = torch.stack([landscape(p.ground, p.light, image_size) for p in panoramas])
    found: list[tuple[int, Landmark]] = [
        (i, m) for i, p in enumerate(panoramas) for m in p.landmarks
    ]
    layers = [
        landmark(m.kind, m.colour, panoramas[i].ground, panoramas[i].light, image_size)
        for i, m in found
    ]
    rgb, alpha = (torch.stack(parts) for parts in zip(*layers, strict=True))  # (N, 3 or 1, h, w)
    index = torch.tensor([i for i, _ in found])[:, None, None]
    rows = torch.tensor(window_rows(image_size))[None, :, None]
    columns = torch.stack([window_columns(m.heading, rgb.shape[-1], image_size) for _, m in found])
    columns = columns[:, None, :]
    # Landmarks of one panorama never overlap, so all are laid on at once: (N, h, w, 3).
    behind = images[index, :, rows, columns]
    images[index, :, rows, columns] = rgb.permute(0, 2, 3, 1) + behind * (
        1 - alpha[:, 0, ..., None]
    )
    return images.mul(2).sub(1)
