"""Open a stranger's picture file safely: every fault becomes one `UnreadablePicture` with a reason.

The pixel count is read from the header before anything is decoded, and Pillow's global settings
stay as they are.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Formats that Pillow decodes by itself; others (EPS, WMF) would start outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".avif"),
)
# Recognised so that they can be reported; nothing here can open them.
OTHER_SUFFIXES = (
    *(".heic", ".heif", ".svg", ".eps", ".pdf", ".psd", ".ico", ".jp2", ".jxl"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
)
MAX_PIXELS = 50_000_000  # 150 MB once decoded; a 48-megapixel phone picture passes


class UnreadablePicture(ValueError):
    """A file that is not used; the message is the reason, without the file's name."""


def read_picture(
    path: Path | io.BytesIO, max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Image.Image:
    """Decode a picture of any common kind to upright RGB.

    Transparency is composed on white, sixteen bits become eight, a palette, grey or CMYK becomes
    RGB, EXIF rotation is applied, of an animation the first frame is taken.

    Args:
        path: a regular file, or its bytes.
        max_pixels: width x height above which nothing is decoded.
        at_least: sides that suffice; a JPEG larger than twice this is decoded at a reduced size.

    Raises:
        UnreadablePicture: whatever is wrong with the file.
    """
    try:
        _check_bytes(path, max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd headers; what matters is checked here
            with Image.open(path, formats=_available_formats()) as picture:
                _check_pixels(picture, max_pixels)
                if at_least is not None:
                    picture.draft(None, (2 * at_least, 2 * at_least))
                picture.load()
                return _to_rgb(_upright(picture))
    except UnreadablePicture:
        raise
    except UnidentifiedImageError:
        raise UnreadablePicture(
            f"is not a picture, or damaged at its start (read are {', '.join(FORMATS)})"
        ) from None
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(f"is too large to decode safely ({error})") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadablePicture(
            f"cannot be decoded ({str(error) or type(error).__name__})"
        ) from error


def _available_formats() -> tuple[str, ...]:
    """`FORMATS` that this Pillow was built with; asking for another one fails."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_bytes(path: Path | io.BytesIO, max_pixels: int) -> None:
    # Some decoders read the whole file first. Sixteen-bit RGBA takes 8 bytes a pixel uncompressed.
    size = path.getbuffer().nbytes if isinstance(path, io.BytesIO) else path.stat().st_size
    limit = 8 * max_pixels + 1_000_000
    if size == 0:
        raise UnreadablePicture("is an empty file")
    if size > limit:
        raise UnreadablePicture(f"is {size:,} bytes long; at most {limit:,} are read")


def _check_pixels(picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise UnreadablePicture(
            f"is {width} x {height}, more than the {max_pixels:,} pixels allowed; "
            "shrink it, or raise max_pixels"
        )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing about the way up, and the pixels are fine
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_sixteen_bits(picture)
    if picture.mode == "F":
        raise UnreadablePicture("holds fractions of unknown range; save it as an 8-bit PNG")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return picture.convert("RGB")


def _from_sixteen_bits(picture: Image.Image) -> Image.Image:
    """Grey levels 0..65535 -> 0..255; Pillow's own conversion would clip them to white."""
    levels = np.asarray(picture).astype(np.int64)  # (H, W)
    if levels.min() < 0 or levels.max() > 65535:
        raise UnreadablePicture(
            f"has grey levels {levels.min()} to {levels.max()}, outside 16 bits; "
            "save it as an 8-bit PNG"
        )
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
