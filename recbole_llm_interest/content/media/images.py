"""Opens an image as a person would see it, whatever its colour mode, and refuses what would harm the run."""

from __future__ import annotations

import functools
import threading
import warnings
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import ContentError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pillow knows more, some of which run other programs (EPS) or were never meant for pictures.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000
#: of a progressive JPEG, whose every scan goes over all of them: some ten scans are usual, and a byte or two can ask
#: for one more
MAX_SCANNED_PIXELS = 32 * MAX_PIXELS
MAX_ASPECT_RATIO = 8
_LONGEST_EDGE_OF_A_STRIP = 2048
#: bits that scanners and cameras give a grey pixel, whatever number of them the file has room for
_DEPTHS = (8, 10, 12, 14, 16)
#: images above so many pixels are decoded one at a time: the decoding threads together would take gigabytes
_LARGE = 8_000_000
_one_large_image = threading.Lock()


def read_image(file: BinaryIO) -> Image:
    """The first frame of an image, upright, in RGB, on white where it is transparent.

    A strip longer than 8:1 is padded to 8:1 with white: scaling its short edge up to an encoder's input, as CLIP's
    preprocessing does, would take gigabytes for 60,000 x 1 pixels.

    Raises:
        ContentError: the file is no image of a known format, is damaged, has more than 64 million pixels, or is
            made to take minutes.
    """
    from PIL import Image

    _prepare_pillow()
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        if _pixels(image) > MAX_PIXELS:
            image.draft("RGB", (1024, 1024))  # a JPEG can be decoded at an eighth of its size
        if _pixels(image) > MAX_PIXELS:
            _refuse(f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million")
        if image.format in ("JPEG", "MPO") and _scans(file) * _pixels(image) > MAX_SCANNED_PIXELS:
            _refuse("is a JPEG of more scans than anyone would draw it in, which take minutes to decode")
        with _one_large_image if _pixels(image) > _LARGE else nullcontext():
            image.load()
            return _padded(_in_rgb(_upright(image)))
    except ContentError:
        raise
    except Exception as error:  # Pillow's formats raise everything from SyntaxError to struct.error
        # Memory that ran out and a disk that failed, which has an error number, say nothing about the image.
        is_lasting = not (isinstance(error, MemoryError) or getattr(error, "errno", None))
        reason = f"is no image that can be read: {type(error).__name__}: {error}"
        raise ContentError(reason, is_lasting=is_lasting) from error


@functools.cache
def _prepare_pillow() -> None:
    from PIL import Image

    Image.init()  # else it knows five formats until it meets a file of another
    # It warns of what is refused or repaired here, without saying in which file.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _pixels(image: Image) -> int:
    return image.width * image.height


def _scans(file: BinaryIO) -> int:
    """How many scans a JPEG says to have. The two bytes that begin one stand nowhere within the data of another."""
    place = file.tell()
    file.seek(0)
    scans, end = 0, b""
    while piece := file.read(2**20):
        scans += (end + piece).count(b"\xff\xda")
        end = piece[-1:]
    file.seek(place)
    return scans


def _refuse(reason: str) -> NoReturn:
    raise ContentError(reason)


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    with suppress(Exception):  # damaged EXIF says nothing about the picture's orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _in_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: Pillow's conversion cuts off what exceeds 255
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
    if not np.isfinite([low, high]).all():  # NaN, too, is its own minimum
        raise ContentError("has pixels that are not numbers")
    offset, scale = 0.0, 1.0
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high <= 65535:
        # A camera of 12 bits leaves the upper four of 16 empty, and few files say so: by all 16, its pictures would be
        # as good as black. A picture of 16 bits that is dark throughout is brightened along, and loses nothing by it.
        scale = 255 / next(2**bits - 1 for bits in _DEPTHS if high <= 2**bits - 1)
    elif high > low:
        offset, scale = low, 255 / (high - low)
    # in place: an image of 64 million pixels takes a quarter of a gigabyte each time
    values -= offset
    values *= scale
    np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _padded(image: Image) -> Image:
    from PIL import Image, ImageOps

    if max(image.size) <= MAX_ASPECT_RATIO * min(image.size):
        return image
    image.thumbnail((_LONGEST_EDGE_OF_A_STRIP, _LONGEST_EDGE_OF_A_STRIP), Image.Resampling.BICUBIC)
    shortest = -(-max(image.size) // MAX_ASPECT_RATIO)
    return ImageOps.pad(image, (max(image.width, shortest), max(image.height, shortest)), color="white")
