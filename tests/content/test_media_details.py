"""Small files built by hand, on which decoders differ: what is expected follows from the rules of the formats."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from recbole_llm_interest.content.blobs import MediaFile
from recbole_llm_interest.content.media.audio import read_audio
from recbole_llm_interest.content.media.images import read_image
from recbole_llm_interest.errors import ContentError

WHITE, RED, GREEN, BLUE = (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)


def pixels(data: bytes) -> list[list[tuple[int, ...]]]:
    image = np.asarray(read_image(io.BytesIO(data)))
    return [[tuple(map(int, pixel)) for pixel in row] for row in image]


# --- reasons


@pytest.mark.parametrize("read", [read_image, lambda file: read_audio(file, 16_000, 3.0)], ids=["image", "audio"])
def test_reason_names_no_object_and_no_descriptor(tmp_path, read):
    """Reasons are stored and compared: an address or a descriptor is another one in the next run."""
    (tmp_path / "x").write_bytes(b"neither of the two " * 9)
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
    opened = MediaFile(tmp_path, "x")
    reasons = []
    for file in (opened.open(opened.key()), io.BytesIO(b"neither of the two " * 9)):
        with file, pytest.raises(ContentError) as caught:
            read(file)
        reasons.append(str(caught.value))
    for descriptor in spare:
        os.close(descriptor)
    assert reasons[0] == reasons[1]
    assert not any(sign in reasons[0] for sign in ("<", "_io", "0x", "'"))


# --- sounds


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack(">I", len(data) if size is None else size) + data


@pytest.mark.parametrize("size", [0, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_aiff_that_makes_libsndfile_seek_before_the_start_prints_nothing(tmp_path, capfd, size):
    """A chunk with another size than it states: the next one is misread, and its size leads out of the file."""
    common = chunk(b"COMM", struct.pack(">hIh", 1, 100, 16) + b"\x40\x0e\xac\x44" + b"\0" * 6)
    sound = chunk(b"SSND", bytes(8) + b"\1\2" * 100)
    path = tmp_path / "x.aiff"
    path.write_bytes(chunk(b"FORM", b"AIFF" + common + chunk(b"ABCD", b"xx", size) + sound))
    with path.open("rb") as file, pytest.raises(ContentError, match=r"has no samples|is not readable audio"):
        read_audio(file, 16_000, 3.0)
    assert capfd.readouterr() == ("", "")


def test_wav_that_was_written_to_a_pipe_is_read():
    """Its header states no size of the sound: for libsndfile it is empty, for FFmpeg it ends with the file."""
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(2000) / 5), 16_000, format="WAV")
    data = bytearray(file.getvalue())
    size = data.find(b"data") + 4
    data[size : size + 4] = bytes(4)
    assert len(soundfile.read(io.BytesIO(data))[0]) == 0  # so the test could fail
    samples = read_audio(io.BytesIO(data), 16_000, 3.0)
    assert np.allclose(samples, np.sin(np.arange(2000) / 5), atol=1e-3)


def test_mp3_that_is_shorter_than_what_its_first_frame_leaves_out_is_read():
    """Two silent frames, of which the encoder left out as many samples at each end: FFmpeg drops those of the start."""
    header, length = b"\xff\xfb\x90\xc4", 417
    left_out = bytes([1152 >> 4, 1152 % 16 << 4 | 1152 >> 8, 1152 & 255])
    first = header + bytes(17) + b"Info" + struct.pack(">II", 1, 2) + b"LAME3.100" + bytes(12) + left_out
    data = first.ljust(length, b"\0") + 2 * header.ljust(length, b"\0")
    assert len(read_audio(io.BytesIO(data), 44_100, 3.0)) == 529


def test_sound_without_samples_is_refused_by_both():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(0), 16_000, format="WAV")
    with pytest.raises(ContentError, match="has no samples"):
        read_audio(io.BytesIO(file.getvalue()), 16_000, 3.0)


# --- bitmaps


def bitmap(values: list[list[int]], masks: tuple[int, ...], bits: int = 32, header: int = 56, compression: int = 3,
           top_down: bool = False) -> bytes:  # fmt: skip
    """A BMP with masks; rows of ``values`` from the top."""
    height, width = len(values), len(values[0])
    rows = [np.array(row, dtype=f"<u{bits // 8}").tobytes() for row in values]
    rows = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in (rows if top_down else rows[::-1])]
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, 0, 0, 0, 0, 0
    )
    info += struct.pack(f"<{len(masks)}I", *masks)
    info = info.ljust(header, b"\0")
    offset = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", offset + sum(map(len, rows)), 0, 0, offset) + info + b"".join(rows)


def resized(width: int, height: int) -> bytes:
    """A bitmap that states another size than it has."""
    data = bitmap([[1]], ABGR)
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


ABGR = (0x000000FF, 0x0000FF00, 0x00FF0000, 0xFF000000)
RGBA_FROM_TOP = (0xFF000000, 0x00FF0000, 0x0000FF00, 0x000000FF)


@pytest.mark.parametrize("masks", [ABGR, RGBA_FROM_TOP, (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)])
@pytest.mark.parametrize("header", [56, 108, 124])
def test_opacity_of_a_bitmap_counts_unless_it_is_zero_everywhere(masks, header):
    red, green, blue, opacity = masks
    low = opacity & -opacity
    half = [[red | 128 * low, green | opacity], [blue, 0]]
    assert pixels(bitmap(half, masks, header=header)) == [[(255, 127, 127), GREEN], [WHITE, WHITE]]
    unused = [[red, green], [blue, 0]]
    assert pixels(bitmap(unused, masks, header=header)) == [[RED, GREEN], [BLUE, (0, 0, 0)]]


def test_bitmap_without_an_opacity_mask_is_opaque():
    """Behind a header of 40 bytes there are three masks, and in one of 52, too: what follows are pixels."""
    red, green, blue, rest = ABGR
    values = [[red | rest, green], [blue, rest]]
    expected = [[RED, GREEN], [BLUE, (0, 0, 0)]]
    assert pixels(bitmap(values, ABGR[:3], header=52)) == expected
    assert pixels(bitmap(values, ABGR[:3], header=40)) == expected
    assert pixels(bitmap(values, (*ABGR[:3], 0), header=56)) == expected


def test_four_masks_behind_a_short_header_are_those_of_alpha_bit_fields():
    values = [[ABGR[0] | 0xFF000000, 0]]
    assert pixels(bitmap(values, ABGR, header=40, compression=6)) == [[RED, WHITE]]


def test_bitmaps_of_16_bits_have_opacity_and_any_widths_of_masks():
    assert pixels(bitmap([[0x7C00 | 0x8000, 0x03E0, 0x001F | 0x8000]], (0x7C00, 0x03E0, 0x001F, 0x8000), 16)) == [
        [RED, WHITE, BLUE]
    ]
    assert pixels(bitmap([[0x8F00]], (0x0F00, 0x00F0, 0x000F, 0xF000), 16)) == [[(255, 119, 119)]]
    assert pixels(bitmap([[0x001F << 1]], (0xF800, 0x07C0, 0x003E, 0), 16)) == [[BLUE]]
    assert pixels(bitmap([[0x3FF << 20 | 0x1FF << 10]], (0x3FF << 20, 0x3FF << 10, 0x3FF, 0), 32)) == [[(255, 127, 0)]]


def test_bitmap_from_the_top_is_not_turned():
    red, green, _, _ = ABGR
    assert pixels(bitmap([[red], [green]], ABGR, top_down=True)) == [[RED], [GREEN]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bitmap([[1, 2]], (0b101, 0b10, 0, 0)), "has the mask 0x00000005, whose bits are not contiguous"),
        (bitmap([[1, 2]], ABGR)[:-1], "is damaged: it has 7 bytes of pixels, not 8"),
        (resized(2**30, 2**30), "more than 64 million"),
        (resized(-1, 1), "has -1 x 1 pixels"),
    ],
    ids=["mask", "cut", "vast", "negative"],
)  # fmt: skip
def test_damaged_bitmap_is_refused(data, reason):
    with pytest.raises(ContentError, match=reason):
        read_image(io.BytesIO(data))


# --- GIF


def gif(canvas: tuple[int, int], frame: tuple[int, int, int, int], indices: list[int], transparent: int | None = None,
        background: int = 0) -> bytes:  # fmt: skip
    """One frame (left, top, width, height) of palette indices, in four colors: red, green, blue, black."""
    codes = [code for index in indices for code in (4, index)] + [5]  # 4 clears, so that every code has 3 bits
    stream = sum(code << 3 * place for place, code in enumerate(codes))
    data = stream.to_bytes(-(-3 * len(codes) // 8), "little")
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    return (
        b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81, background, 0)
        + bytes([*RED, *GREEN, *BLUE, 0, 0, 0]) + control
        + b"\x2c" + struct.pack("<HHHHB", *frame, 0) + b"\x02" + bytes([len(data)]) + data + b"\0\x3b"
    )  # fmt: skip


@pytest.mark.parametrize("background", [0, 2])
def test_canvas_of_a_gif_is_transparent_where_the_first_frame_is_not(background):
    """Browsers show no background color, and Pillow fills the canvas with the palette's first one."""
    assert pixels(gif((3, 2), (1, 0, 2, 1), [1, 3], background=background)) == [
        [WHITE, GREEN, (0, 0, 0)],
        [WHITE, WHITE, WHITE],
    ]


def test_transparent_pixels_of_a_smaller_frame_are_white():
    assert pixels(gif((3, 1), (1, 0, 2, 1), [1, 2], transparent=1)) == [[WHITE, WHITE, BLUE]]
    assert pixels(gif((2, 1), (0, 0, 2, 1), [0, 2], transparent=0)) == [[WHITE, BLUE]]


def test_frame_beyond_the_canvas_makes_it_larger():
    assert pixels(gif((1, 1), (0, 0, 2, 1), [1, 2])) == [[GREEN, BLUE]]
