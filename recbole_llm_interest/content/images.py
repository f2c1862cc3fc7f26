"""Opens an image as a person would see it, whatever its colour mode, and refuses what would harm the run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from recbole_llm_interest.errors import ContentError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pillow knows more, some of which run other programs (EPS) or were never meant for pictures.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
MAX_PIXELS = 64_000_000
MAX_ASPECT_RATIO = 8
_LONGEST_EDGE_OF_A_STRIP = 2048


def read_image(file: BinaryIO) -> Image:
    """The first frame of an image, upright, in RGB, on white where it is transparent.

    A strip longer than 8:1 is padded to 8:1 with white: scaling its short edge up to an encoder's input, as CLIP's
    preprocessing does, would take gigabytes for 60,000 x 1 pixels.

    Raises:
        ContentError: the file is no image of a known format, is damaged, or has more than 64 million pixels.
    """
    from PIL import Image

    # Pillow warns of what is refused or repaired below, without saying in which file.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN or not Image.OPEN])
        if image.width * image.height > MAX_PIXELS:
            image.draft("RGB", (1024, 1024))  # a JPEG can be decoded at an eighth of its size
        _check_size(image)
        image.load()
        return _padded(_in_rgb(_upright(image)))
    except ContentError:
        raise
    except Exception as error:  # Pillow's formats raise everything from SyntaxError to struct.error
        raise ContentError(f"is no image that can be read: {type(error).__name__}: {error}") from error


def _check_size(image: Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ContentError(f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about the picture's orientation
        return image


def _in_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: Pillow's conversion cuts off what exceeds 255
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise ContentError("has pixels that are not numbers")
    low, high = values.min(), values.max()
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        values = values * 255
    elif pixels.dtype.kind == "u" or (low >= 0 and 255 < high <= 65535):
        values = values / 257  # 16 bits
    elif low < 0 or high > 255:
        values = (values - low) * (255 / (high - low))
    return values.round().astype(np.uint8)


def _padded(image: Image) -> Image:
    from PIL import Image, ImageOps

    if max(image.size) <= MAX_ASPECT_RATIO * min(image.size):
        return image
    image.thumbnail((_LONGEST_EDGE_OF_A_STRIP, _LONGEST_EDGE_OF_A_STRIP), Image.Resampling.BICUBIC)
    shortest = -(-max(image.size) // MAX_ASPECT_RATIO)
    return ImageOps.pad(image, (max(image.width, shortest), max(image.height, shortest)), color="white")
