"""Words -> a procedural landscape, a picture worth painting: nothing in it that was not asked for.

`landscape("an impressionist landscape with a puppy and warm sunlight")` gives the scene,
`painting.paint` the brush strokes. Animals are OpenMoji drawings: show `openmoji.ATTRIBUTION`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from ..data.styles import subjects
from ..data.styles.redrawing import Style, to_picture
from ..data.styles.redrawing import restyle as _restyle

LIGHTS = {  # word -> light; "sunlight" alone is warm
    "day": "daylight", "daylight": "daylight", "sunlight": "warm sunlight", "warm": "warm sunlight",
    "sunny": "warm sunlight", "sunset": "warm sunlight", "sunrise": "warm sunlight",
    "golden": "warm sunlight", "moonlight": "moonlight", "moonlit": "moonlight",
    "night": "moonlight", "grey": "grey light", "gray": "grey light", "overcast": "grey light",
}  # fmt: skip
PARTS = {
    "sun": "sun", "sunlight": "sun", "sunset": "sun", "sunrise": "sun", "moon": "moon",
    "moonlight": "moon", "cloud": "clouds", "clouds": "clouds", "cloudy": "clouds",
    "mountain": "mountains", "mountains": "mountains", "hill": "hills", "hills": "hills",
    "tree": "trees", "trees": "trees", "forest": "trees", "lake": "lake", "pond": "lake",
    "water": "lake", "flower": "flowers", "flowers": "flowers", "poppies": "flowers",
    "meadow": "meadow", "field": "meadow", "grass": "meadow",
}  # fmt: skip
ANIMALS = {
    "puppy": "dog", "dog": "dog", "poodle": "poodle", "kitten": "cat", "cat": "cat",
    "horse": "horse", "cow": "cow", "sheep": "ewe", "goat": "goat", "rabbit": "rabbit",
    "deer": "deer", "duck": "duck", "goose": "goose", "swan": "swan",
    "rooster": "rooster", "pig": "pig", "donkey": "donkey",
}  # fmt: skip
_FILLERS = set(
    """a an and the in on with of at by under over near its it is there impressionist
    impressionism expressionist pointillist painting painted picture style scenery scene landscape
    light soft bright small little young""".split()
)
_FILLERS |= {"oil", "sky", "sunlit"}
# Of each light: the sky at its top and at the horizon, the light's colour, and that of shadows.
_SKIES = {
    "daylight": ((0.36, 0.6, 0.9), (0.8, 0.9, 0.97), (1.0, 1.0, 0.98), (0.62, 0.68, 0.85)),
    "warm sunlight": ((0.47, 0.64, 0.85), (1.0, 0.84, 0.55), (1.12, 1.0, 0.72), (0.62, 0.5, 0.66)),
    "moonlight": ((0.05, 0.08, 0.24), (0.2, 0.32, 0.5), (0.42, 0.52, 0.76), (0.5, 0.5, 0.75)),
    "grey light": ((0.62, 0.65, 0.69), (0.8, 0.81, 0.81), (0.78, 0.8, 0.82), (0.8, 0.82, 0.86)),
}
_HORIZON, _SUN = 0.46, (0.74, 0.24)  # in heights from the top; (x, y) of sun or moon
_ANIMAL = Style(None, lambda colour: colour, "#6b3d1c", 0.5)


@dataclass(frozen=True)
class Meaning:
    """What a caption asks for: a light, parts (a subset of `PARTS`), animals; and the rest."""

    light: str
    parts: frozenset[str]
    animals: tuple[str, ...]
    unknown: tuple[str, ...]


def understand(caption: str) -> Meaning:
    """Read a caption word by word. "landscape" alone asks for hills and a meadow."""
    words = re.findall(r"[a-z]+", caption.lower())
    lights = [LIGHTS[word] for word in words if word in LIGHTS]
    parts = {PARTS[word] for word in words if word in PARTS}
    animals = tuple(dict.fromkeys(ANIMALS[word] for word in words if word in ANIMALS))
    if "landscape" in words:
        parts |= {"hills", "meadow"}
    if animals:
        parts.add("meadow")
    unknown = (w for w in words if w not in {*LIGHTS, *PARTS, *ANIMALS} | _FILLERS)
    return Meaning(lights[-1] if lights else "daylight", frozenset(parts), animals, tuple(unknown))


def landscape(
    caption: str, image_size: int = 512, seed: int = 0, ignore_unknown: bool = False
) -> Tensor:
    """The scene a caption names.

    Args:
        caption: such as "an impressionist landscape with a puppy and warm sunlight".
        image_size: side in pixels, 64 or more.
        seed: of hills, trees, clouds and flowers. A part looks the same whatever else is there.
        ignore_unknown: paint what is understood and leave the other words out.

    Returns:
        (3, image_size, image_size) float32 in [-1, 1].

    Raises:
        ValueError: if a word is unknown (unless ignored), or the size too small.
        ImportError: if animals are asked for without the extra `drawings`.
    """
    meaning = understand(caption)
    if meaning.unknown and not ignore_unknown:
        raise ValueError(
            f"landscape does not know {', '.join(map(repr, meaning.unknown))}. It knows "
            f"{', '.join(sorted({*PARTS, *LIGHTS, *ANIMALS}))}; ignore_unknown=True skips it."
        )
    if image_size < 64:
        raise ValueError(f"image_size is {image_size}; a landscape needs 64 pixels or more.")
    scene = _Scene(meaning, image_size, seed)
    # (H, W, 3) in [0, 1] -> (3, H, W) in [-1, 1]
    return torch.from_numpy(scene.draw().astype(np.float32)).permute(2, 0, 1).contiguous() * 2 - 1


class _Scene:
    """One landscape in the making: an array (H, W, 3) in [0, 1], painted from far to near."""

    def __init__(self, meaning: Meaning, side: int, seed: int):
        self.meaning, self.side, self.seed = meaning, side, seed
        self.sky_top, self.sky_low, self.light, self.shade = map(np.array, _SKIES[meaning.light])
        self.y, self.x = np.mgrid[0:side, 0:side] / side

    def draw(self) -> np.ndarray:
        self.canvas = self._sky()
        for part, draw in (
            ("clouds", self._clouds), ("sun", self._disc), ("moon", self._disc),
            ("mountains", self._mountains), ("hills", self._hills), ("meadow", self._meadow),
            ("lake", self._lake), ("trees", self._trees), ("flowers", self._flowers),
        ):  # fmt: skip
            if part in self.meaning.parts:
                draw()
        for number, animal in enumerate(self.meaning.animals):
            self._animal(animal, number)
        return self.canvas.clip(0, 1)

    def _rng(self, part: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *part.encode()])

    def _noise(self, part: str, rows: int, columns: int, octaves: int = 4) -> np.ndarray:
        """Smooth noise (H, W), about -1 to 1: `rows` x `columns` waves and finer ones on them."""
        rng, total = self._rng(part), np.zeros((self.side, self.side))
        for octave in range(octaves):
            shape = (rows * 2**octave + 2, columns * 2**octave + 2)
            wave = zoom(rng.normal(0, 1, shape), [self.side / n for n in shape], order=3)
            total += wave[: self.side, : self.side] * 0.55**octave
        return total / 1.6

    def _lay(self, mask: np.ndarray, colour) -> None:
        """Cover where mask (H, W) in [0, 1] says so, with one colour or (H, W, 3)."""
        mask = mask[..., None]
        self.canvas = self.canvas * (1 - mask) + np.asarray(colour) * mask

    def _lit(self, colour) -> np.ndarray:
        return np.asarray(colour) * self.light

    def _edge(self, distance: np.ndarray) -> np.ndarray:
        """1 where `distance` (in heights) is positive, with an edge two pixels soft."""
        return (0.5 + distance * self.side / 2).clip(0, 1)

    def _sky(self) -> np.ndarray:
        depth = ((self.y + 0.02 * self._noise("sky", 3, 2)) / _HORIZON).clip(0, 1)[..., None] ** 1.3
        return (1 - depth) * self.sky_top + depth * self.sky_low

    def _clouds(self) -> None:
        puffs = self._noise("clouds", 4, 2) + 0.5 * self._noise("wisps", 12, 4)
        mask = ((puffs - 0.25) * 1.6).clip(0, 1) * ((_HORIZON - self.y) * 5).clip(0, 1)
        under = ((puffs - 0.55) * 1.5).clip(0, 0.6)[..., None]
        white = self._lit((0.97, 0.95, 0.95)) * (1 - under * 0.35)
        self._lay(0.9 * mask, white + under * 0.25 * (self.sky_top - 0.5))

    def _disc(self) -> None:
        moon = "moon" in self.meaning.parts and "sun" not in self.meaning.parts
        colour = (0.97, 0.97, 0.88) if moon else (1.0, 0.95, 0.72)
        halo = (0.62, 0.72, 0.9) if moon else (1.0, 0.86, 0.5)
        away = np.hypot(self.x - _SUN[0], self.y - _SUN[1])
        self._lay(0.75 * np.exp(-away / 0.13), halo)
        self._lay(self._edge(0.055 - away), colour)

    def _ridge(self, part: str, top: float, height: float, waves: int) -> np.ndarray:
        return top - height * (0.5 + 0.5 * self._noise(part, 1, waves)[0])[None, :]

    def _mountains(self) -> None:
        ridge = self._ridge("mountains", _HORIZON - 0.02, 0.26, 3)
        rock = 0.5 * self._lit((0.5, 0.5, 0.64)) + 0.5 * self.sky_low * (0.75, 0.8, 0.95)
        sides = 0.1 * self._noise("rock", 8, 8)[..., None]
        snow = ((ridge + 0.06 - self.y) * 18).clip(0, 1)[..., None]
        self._lay(self._edge(self.y - ridge), rock * (1 + sides) + 0.3 * snow * self.light)

    def _hills(self) -> None:
        for number, (top, far) in enumerate(((0.45, 0.6), (0.5, 0.35), (0.55, 0.12))):
            ridge = self._ridge(f"hill {number}", top, 0.1, 2)
            green = self._lit((0.36, 0.52, 0.3)) * (
                1 + 0.16 * self._noise(f"h{number}", 10, 5)[..., None]
            )
            haze = far * (self.sky_low * (0.8, 0.86, 1.0))
            self._lay(self._edge(self.y - ridge), (1 - far) * green + haze)

    def _meadow(self) -> None:
        ridge = self._ridge("meadow", 0.6, 0.05, 2)
        near = ((self.y - 0.55) / 0.45).clip(0, 1)[..., None]
        patches, blades = (
            self._noise("patches", 9, 3)[..., None],
            self._noise("blades", 40, 22, 2)[..., None],
        )
        green = (1 - near) * np.array((0.62, 0.72, 0.32)) + near * np.array((0.28, 0.5, 0.2))
        green = green * (1 + 0.16 * patches + 0.14 * blades) + 0.05 * patches * (1, 0.5, -0.3)
        self._lay(self._edge(self.y - ridge), self._lit(green))

    def _lake(self) -> None:
        wide = ((self.x - 0.4) / 0.36) ** 2 + ((self.y - 0.68) / 0.07) ** 2
        wide = wide + 0.25 * self._noise("shore", 3, 4)
        ripples = 0.1 * self._noise("ripples", 60, 5, 2)[..., None]
        mirror = 0.6 * self.sky_top + 0.4 * self.sky_low
        path = 0.6 * np.exp(-(((self.x - _SUN[0] + 0.1) / 0.09) ** 2))[..., None]
        path = path if self.meaning.parts & {"sun", "moon"} else 0
        self._lay(
            ((1 - wide) * 12).clip(0, 1), mirror * (1 + ripples) * 0.92 + path * 0.5 * self.light
        )

    def _trees(self) -> None:
        rng = self._rng("trees")
        for x, foot, size in (
            (0.3, 0.58, 0.1),
            (0.4, 0.6, 0.12),
            (0.96, 0.66, 0.22),
            (0.1, 0.7, 0.3),
        ):
            self._shadow(x, foot, 0.75 * size)
            trunk = np.abs(self.x - x - 0.004 * np.sin(20 * self.y)) < 0.045 * size
            self._lay(
                1.0 * (trunk & (self.y < foot) & (self.y > foot - size)),
                self._lit((0.32, 0.22, 0.18)),
            )
            for _ in range(46):
                dx, dy = rng.normal(0, 0.27, 2).clip(-0.6, 0.6) * size
                r = size * rng.uniform(0.1, 0.2)
                sunny = (dx * (_SUN[0] - x) * 2 - dy) / size + rng.normal(0, 0.25)
                leaf = np.array((0.24, 0.4, 0.17)) + 0.17 * np.clip(sunny, -1, 1.2) * np.array(
                    (1.1, 1, 0.4)
                )
                away = np.hypot(self.x - x - dx, self.y - foot + 1.05 * size - dy)
                self._lay(self._edge(r - away), self._lit(leaf))

    def _flowers(self) -> None:
        rng = self._rng("flowers")
        colours = ((0.88, 0.2, 0.16), (0.95, 0.85, 0.9), (0.95, 0.76, 0.2), (0.62, 0.4, 0.75))
        for _ in range(260):
            depth = rng.uniform(0, 1) ** 0.8
            x, y, r = rng.uniform(0, 1), 0.62 + 0.38 * depth, 0.003 + 0.009 * depth
            colour = self._lit(colours[rng.choice(4, p=(0.55, 0.15, 0.2, 0.1))])
            self._lay(self._edge(r - np.hypot(self.x - x, (self.y - y) * 1.3)), colour)

    def _shadow(self, x: float, y: float, size: float) -> None:
        """On the grass, away from the light: long in warm sunlight, none without any."""
        long = {"warm sunlight": 1.5, "grey light": 0.6}.get(self.meaning.light, 1.0)
        away = -0.6 * size * long * np.sign(_SUN[0] - x)
        across = ((self.x - x - away * 0.45) / (size * long * 0.75)) ** 2
        inside = 1 - across - ((self.y - y - 0.015) / (0.16 * size)) ** 2
        soft = gaussian_filter(inside.clip(0, 1), self.side / 160)
        self._lay(0.75 * (soft * 3).clip(0, 1), self.canvas * self.shade * 0.85)

    def _animal(self, name: str, number: int) -> None:
        drawing = next(d for d in subjects() if d.caption == name)
        size, x, foot = 0.4, (0.46, 0.78, 0.2)[number % 3], 0.9 - 0.05 * (number % 3)
        size = size if number == 0 else 0.3
        self._shadow(x, foot, 0.8 * size)
        pixels = round(size * self.side)
        picture = to_picture(_restyle(drawing.path, _ANIMAL), pixels)
        box = picture.getbbox()
        sheet = Image.new("RGBA", (self.side, self.side))
        corner = (round(x * self.side) - pixels // 2, round(foot * self.side) - box[3])
        sheet.paste(picture, corner)
        layer = np.asarray(sheet) / 255
        relief = gaussian_filter(layer[..., 3], 0.05 * pixels)
        lit = np.gradient(relief, axis=0) - np.gradient(relief, axis=1)  # from the upper right
        fur = 1 + (lit * 0.22 * pixels * 0.3).clip(-0.3, 0.3) + 0.06 * self._noise("fur", 30, 30, 2)
        self._lay(layer[..., 3], self._lit(layer[..., :3]) * fur[..., None])
