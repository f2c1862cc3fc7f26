"""Reads bitmaps (BMP) with bit masks for red, green, blue and alpha.

Pillow supports only a few of these layouts, and reads an unused alpha channel as full transparency.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import ContentError

if TYPE_CHECKING:
    from PIL.Image import Image

#: signature, start of the pixels, size of the header, width, height, planes, bits of a pixel, compression
_HEADER = struct.Struct("<2s8xIIiiHHI")
#: offset of the masks: after a header of 40 bytes, or in a longer header
_MASKS_AT = 54
#: sizes of the headers from which each has the masks of its predecessor and more; the first has no alpha
_HEADER_SIZES = (40, 52, 56, 108, 124)
_FIRST_SIZE_WITH_ALPHA = 56
#: kinds of compression with masks: of three colors, and of four
_BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6


def open_bit_fields(file: BinaryIO, max_pixels: int) -> Image | None:
    """Read a bitmap with masks as browsers show it, in RGB or RGBA; None for other files, whose position is kept.

    An alpha channel of zeros is ignored.

    Args:
        file: opened for reading bytes, at its start.
        max_pixels: maximum number of pixels.

    Raises:
        ContentError: the image has more pixels, is damaged, or the bits of a mask are not contiguous.
    """
    from PIL import Image

    layout = _read_layout(file)
    file.seek(0)
    if layout is None:
        return None
    width, height = layout.width, abs(layout.height)
    if width <= 0 or not height:
        raise ContentError(f"has {width} x {layout.height} pixels")
    if width * height > max_pixels:
        raise too_many_pixels(width, height, max_pixels)
    file.seek(layout.offset)
    pixels = _read_pixels(file, width, height, layout.bits)
    channels = [_channel(pixels, mask) for mask in layout.masks]
    if not any(channel.any() for channel in channels[3:]):
        del channels[3:]
    image = np.stack(channels, axis=-1)
    return Image.fromarray(image if layout.height < 0 else image[::-1])


@dataclass(frozen=True)
class _Layout:
    """The header of a bitmap.

    Attributes:
        offset: of the pixels.
        width: in pixels.
        height: in pixels; negative if the first row is the top one.
        bits: of a pixel, 16 or 32.
        masks: of red, green, blue, and alpha if it has one.
    """

    offset: int
    width: int
    height: int
    bits: int
    masks: tuple[int, ...]


def _read_layout(file: BinaryIO) -> _Layout | None:
    """Return the layout of a bitmap with masks; None for another file."""
    start = file.read(_MASKS_AT + 16).ljust(_MASKS_AT + 16, b"\0")
    signature, offset, size, width, height, _, bits, compression = _HEADER.unpack_from(start)
    if signature != b"BM" or size not in _HEADER_SIZES or bits not in (16, 32):
        return None
    if compression not in (_BIT_FIELDS, _ALPHA_BIT_FIELDS):
        return None
    *colors, alpha = struct.unpack_from("<4I", start, _MASKS_AT)
    has_alpha = alpha and (size >= _FIRST_SIZE_WITH_ALPHA or compression == _ALPHA_BIT_FIELDS)
    return _Layout(offset, width, height, bits, (*colors, alpha) if has_alpha else tuple(colors))


def too_many_pixels(width: int, height: int, most: int) -> ContentError:
    """Return the rejection of an image of this size, where ``most`` pixels are allowed."""
    return ContentError(f"has {width} x {height} pixels, more than {most // 10**6} million")


def _read_pixels(file: BinaryIO, width: int, height: int, bits: int) -> NDArray[np.unsignedinteger]:
    """Return the pixels in the file's order, ``[height, width]``; each row ends at a multiple of four bytes."""
    row_bytes = -(-width * bits // 32) * 4
    data = file.read(row_bytes * height)
    if len(data) < row_bytes * height:
        raise ContentError(f"is damaged: it has {len(data):,} bytes of pixels, not {row_bytes * height:,}")
    rows = np.frombuffer(data, dtype=f"<u{bits // 8}").reshape(height, -1)
    return rows[:, :width]


def _channel(pixels: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """Return the values that a mask takes from the pixels, scaled to 0 to 255; of an empty mask, zeros."""
    if not mask:
        return np.zeros(pixels.shape, dtype=np.uint8)
    shift = (mask & -mask).bit_length() - 1
    highest = mask >> shift
    if highest & (highest + 1):
        raise ContentError(f"has the mask {mask:#010x}, whose bits are not contiguous")
    if (surplus := highest.bit_length() - 8) > 0:
        shift, highest = shift + surplus, 255
    scale = np.rint(np.arange(highest + 1) * (255 / highest)).astype(np.uint8)
    return scale[(pixels >> shift) & highest]
