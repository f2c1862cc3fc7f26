"""Reads an image as a viewer would show it, in any color mode, and rejects files that would harm the run."""

from __future__ import annotations

import functools
import threading
import warnings
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.media.bit_fields import open_bit_fields, too_many_pixels
from recbole_llm_interest.content.media.reasons import unreadable
from recbole_llm_interest.errors import ContentError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pillow reads more formats; some run other programs (EPS) or are not for images
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000
#: limit for a progressive JPEG, whose every scan covers all pixels: about ten scans are usual, and each more costs a
#: file only a few bytes
MAX_SCANNED_PIXELS = 32 * MAX_PIXELS
MAX_ASPECT_RATIO = 8
_MAX_STRIP_EDGE = 2048
#: bits of a gray pixel in scanners and cameras, which may be fewer than in the file's format
_DEPTHS = (8, 10, 12, 14, 16)
#: images with more pixels are decoded one at a time, because several threads would need gigabytes
_LARGE_IMAGE_PIXELS = 8_000_000
_large_image_lock = threading.Lock()


def read_image(file: BinaryIO) -> Image:
    """Read the first frame of an image, upright, in RGB, on white where it is transparent.

    A strip longer than 8:1 is padded to 8:1 with white: CLIP's preprocessing scales the short edge up to the encoder's
    input, which would take gigabytes for 60,000 x 1 pixels.

    Args:
        file: opened for reading bytes.

    Raises:
        ContentError: the file is not an image of a supported format, is damaged, has more than 64 million pixels, or
            would take minutes to decode.
    """
    _prepare_pillow()
    try:
        image = open_bit_fields(file, MAX_PIXELS) or _open_image(file)
        covered = _covered(image)
        with _large_image_lock if _pixels(image) > _LARGE_IMAGE_PIXELS else nullcontext():
            image.load()
            return _pad_strip(_in_rgb(_upright(_uncovered_as_transparent(image, covered))))
    except ContentError:
        raise
    except Exception as error:  # Pillow's formats raise many exception types, from SyntaxError to struct.error
        # Lack of memory and disk errors, which have an errno, are not the image's fault.
        is_lasting = not (isinstance(error, MemoryError) or getattr(error, "errno", None))
        raise unreadable("image", error, is_lasting=is_lasting) from error


def _open_image(file: BinaryIO) -> Image:
    """Open an image without decoding its pixels.

    Raises:
        ContentError: it has too many pixels or scans.
    """
    from PIL import Image

    image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    if _pixels(image) > MAX_PIXELS:
        image.draft("RGB", (1024, 1024))  # a JPEG can be decoded at an eighth of its size
    if _pixels(image) > MAX_PIXELS:
        raise too_many_pixels(image.width, image.height, MAX_PIXELS)
    if image.format in ("JPEG", "MPO") and _scans(file) * _pixels(image) > MAX_SCANNED_PIXELS:
        raise ContentError("is a JPEG with so many scans that decoding would take minutes")
    return image


@functools.cache
def _prepare_pillow() -> None:
    from PIL import Image

    Image.init()  # else only five formats are registered at first
    # Its warnings are about images that are rejected or repaired here, and do not name the file.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _pixels(image: Image) -> int:
    return image.width * image.height


def _scans(file: BinaryIO) -> int:
    """Return the number of scans in a JPEG. The two bytes of their marker cannot occur inside a scan."""
    position = file.tell()
    file.seek(0)
    scans, end = 0, b""
    while chunk := file.read(2**20):
        scans += (end + chunk).count(b"\xff\xda")
        end = chunk[-1:]
    file.seek(position)
    return scans


def _covered(image: Image) -> tuple[int, int, int, int]:
    """Return the box that the first frame of a GIF covers, which may be less than its canvas; else the whole image."""
    tiles = getattr(image, "tile", [])
    if image.format == "GIF" and tiles:
        left, top, right, bottom = tiles[0].extents
        return left, top, right, bottom
    return 0, 0, image.width, image.height


def _uncovered_as_transparent(image: Image, covered: tuple[int, int, int, int]) -> Image:
    """Return the canvas with nothing outside the box, as browsers show it; Pillow fills it with the first color."""
    from PIL import Image

    if covered == (0, 0, image.width, image.height):
        return image
    canvas = Image.new("RGBA", image.size)
    canvas.paste(image.convert("RGBA").crop(covered), covered)
    return canvas


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    with suppress(Exception):  # damaged EXIF has no usable orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _in_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel; Pillow's conversion clips values above 255
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image.convert("RGB")


def _to_eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    values: NDArray[Any] = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # the minimum of values with NaN is NaN
        raise ContentError("has pixels that are not numbers")
    offset, scale = 0.0, 1.0
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high <= 65535:
        # A 12-bit camera leaves the upper four of 16 bits empty, and few files state that: divided by 65535, its images
        # would be nearly black. A dark 16-bit image is brightened, too, which loses nothing.
        scale = 255 / next(2**bits - 1 for bits in _DEPTHS if high <= 2**bits - 1)
    elif high > low:
        offset, scale = low, 255 / (high - low)
    # In place, because a copy of 64 million pixels takes a quarter of a gigabyte.
    values -= offset
    values *= scale
    np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _pad_strip(image: Image) -> Image:
    from PIL import Image, ImageOps

    if max(image.size) <= MAX_ASPECT_RATIO * min(image.size):
        return image
    image.thumbnail((_MAX_STRIP_EDGE, _MAX_STRIP_EDGE), Image.Resampling.BICUBIC)
    shortest = -(-max(image.size) // MAX_ASPECT_RATIO)
    return ImageOps.pad(image, (max(image.width, shortest), max(image.height, shortest)), color="white")
