"""Hundreds of unusual and hostile images and sounds: each is read or rejected, quickly and with little memory."""

from __future__ import annotations

import io
import itertools
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from PIL import Image

SECONDS_A_FILE = 10
MEGABYTES = 2000
#: reads each file as an encoder would; prints the outcome and time of each, and the peak memory of all
READER = """
import json, sys, time
from pathlib import Path
from recbole_llm_interest.content.media.images import read_image
from recbole_llm_interest.content.blobs import MediaFile
from recbole_llm_interest.content.media.audio import read_audio
from recbole_llm_interest.errors import ContentError
root, outcomes = Path(sys.argv[1]), {}
for path in sorted(root.iterdir()):
    started = time.process_time()
    try:
        media = MediaFile(root, path.name)
        with media.open(media.key()) as file:
            if path.name.startswith("image"):
                read = read_image(file)
                good = read.mode == "RGB" and read.width * read.height <= 64_000_000
            else:
                samples = read_audio(file, 16_000, 30)
                good = len(samples) <= 30 * 16_000 and abs(samples).max() <= 1000.5
        outcome = "read" if good else "out of bounds"
    except ContentError:
        outcome = "rejected"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    outcomes[path.name] = outcome, time.process_time() - started
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
# unlike ru_maxrss, which starts with the peak of the parent process
print(json.dumps({"outcomes": outcomes, "megabytes": int(status["VmHWM"].split()[0]) / 1024}))
"""
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "JPEG2000": "jp2",
              "PPM": "ppm", "AVIF": "avif"}  # fmt: skip


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bit_depth, color, *, rows=b"", interlaced=0, before=b""):
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def wav(rate=16_000, channels=1, bits=16, *, tag=1, align=None, length=None, data=b"\0\1" * 400):
    align = channels * bits // 8 if align is None else align
    form = struct.pack("<HHIIHH", tag, channels % 65536, rate, (rate * align) % 2**32, align % 65536, bits)
    length = len(data) if length is None else length
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", length)
        + data
    )


def images():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    good = {kind: saved(noise, kind) for kind in EXTENSIONS}
    # with another format's extension, truncated, empty, and with trailing bytes
    for (kind, data), extension in itertools.product(good.items(), EXTENSIONS.values()):
        yield f"named-{kind}.{extension}", data
    for (kind, data), part in itertools.product(good.items(), (0, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99)):
        yield f"cut-{part}.{EXTENSIONS[kind]}", data[: int(len(data) * part)]
    for kind, data in good.items():
        yield f"tail.{EXTENSIONS[kind]}", data + b"\0" * 100_000
        yield f"zeros.{EXTENSIONS[kind]}", data[:20] + bytes(len(data))
    # every colour mode in every format that holds it
    modes = (
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "I;16",
        "F",
    )
    for mode, kind in itertools.product(modes, EXTENSIONS):
        try:
            yield f"mode-{mode}.{EXTENSIONS[kind]}", saved(Image.new(mode, (9, 7)), kind)
        except (OSError, ValueError, KeyError):  # the format does not hold it
            continue
    # every bit depth and colour type of a PNG header, valid or not
    for depth, color, interlaced in itertools.product((0, 1, 2, 4, 8, 16, 32), (0, 1, 2, 3, 4, 6, 7), (0, 1)):
        yield (
            f"png-{depth}-{color}-{interlaced}.png",
            png(9, 9, depth, color, rows=bytes(9 * 80), interlaced=interlaced),
        )
    # decompression bombs: large in memory, small on disk
    yield "bomb-bits.png", png(12_000, 12_000, 1, 0, rows=bytes(1501 * 12_000))
    yield "bomb-strip.png", png(60_000, 1, 1, 0, rows=bytes(7501))
    yield "bomb-pole.png", png(1, 60_000, 1, 0, rows=bytes(2 * 60_000))
    yield "bomb-header.png", png(2**31 - 1, 2**31 - 1, 8, 6)
    yield "bomb-no-width.png", png(0, 9, 8, 6)
    once = saved(Image.new("RGB", (4000, 4000), "teal"), "JPEG", progressive=True)
    yield "bomb-10,000-scans.jpg", once[:-2] + 10_000 * once[once.rindex(b"\xff\xda") : -2] + once[-2:]
    yield "bomb-64-million.png", png(8000, 8000, 8, 6, rows=bytes(32_001 * 8000))
    yield "bomb-beyond.png", png(8001, 8000, 8, 6)
    yield "bomb-16-bits.png", png(8000, 8000, 16, 0, rows=bytes(16_001 * 8000))
    yield "bomb-floats.tif", saved(Image.new("F", (8000, 8000)), "TIFF", compression="tiff_deflate")
    profile = b"icc\0\0" + zlib.compress(bytes(50_000_000), 9)
    yield "bomb-profile.png", png(9, 9, 8, 2, rows=bytes(9 * 28), before=chunk(b"iCCP", profile))
    words = b"words\0\0" + zlib.compress(bytes(50_000_000), 9)
    yield "bomb-text.png", png(9, 9, 8, 2, rows=bytes(9 * 28), before=chunk(b"zTXt", words) * 5)
    yield "bomb-frames.gif", saved(noise, "GIF", save_all=True, append_images=[noise] * 300)
    yield "bomb-screen.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + good["GIF"][10:]
    yield "bomb.ppm", b"P6 60000 60000 255\n" + bytes(100)
    yield "bomb.bmp", good["BMP"][:18] + struct.pack("<ii", 2**30, -(2**30)) + good["BMP"][26:]
    place = good["JPEG"].index(b"\xff\xc0") + 5
    yield "bomb.jpg", good["JPEG"][:place] + b"\xff\xff\xff\xff" + good["JPEG"][place + 4 :]
    place = good["JPEG2000"].index(b"ihdr") + 4
    yield "bomb.jp2", good["JPEG2000"][:place] + struct.pack(">II", 2**31, 2**31) + good["JPEG2000"][place + 8 :]
    yield "loop.tif", good["TIFF"][:4] + struct.pack("<I", 8) + b"\1\0" + bytes(12) + struct.pack("<I", 8)
    yield "page.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/tmp/executed) (w) file\n"


TONE = (np.sin(np.arange(4000) / 8) * 0.5).astype(np.float32)


def encoded(rate=16_000, channels=1, kind="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, np.repeat(TONE[:, None], channels, axis=1), rate, format=kind, subtype=subtype)
    return file.getvalue()


def headers_of_sounds():
    """WAV files with valid and invalid headers."""
    for rate in (0, 1, 7, 100, 1999, 2000, 4000, 11_025, 37_800, 192_000, 768_000, 768_001, 2**31 - 1, 2**32 - 1):
        yield f"rate-{rate}.wav", wav(rate)
    for channels, bits in itertools.product((0, 1, 2, 1024, 65_535), (0, 1, 7, 8, 12, 16, 24, 32, 64, 65_535)):
        yield f"width-{channels}-{bits}.wav", wav(channels=channels, bits=bits)
    for tag in (0, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFFFE, 0xFFFF):
        yield f"tag-{tag}.wav", wav(tag=tag)
    yield "align.wav", wav(align=0)
    for length in (0, 1, 2**31, 2**32 - 1):
        yield f"length-{length}.wav", wav(length=length)


def sounds_of_every_format():
    for kind in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(kind):
            try:
                yield f"{kind}-{subtype}.{kind.lower()}", encoded(kind=kind, subtype=subtype)
            except soundfile.LibsndfileError:  # needs another rate, or the format is not a single sound
                continue
    for channels in (2, 3, 8, 64, 255):
        yield f"channels-{channels}.wav", encoded(channels=channels)


def damaged_sounds():
    whole = {kind: encoded(kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")}
    for (kind, data), part in itertools.product(whole.items(), (0, 0.01, 0.1, 0.5, 0.9)):
        yield f"cut-{part}.{kind.lower()}", data[: int(len(data) * part)]
    for kind, data in whole.items():
        yield f"named-{kind}.m4a", data
        yield f"zeros.{kind.lower()}", data[:60] + bytes(len(data))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("1e30", 1e30), ("denormal", 1e-40)):
        yield f"{name}.wav", wav(tag=3, bits=32, data=np.full(800, value, np.float32).tobytes())
    yield "play.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"
    yield "list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield "page.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The outcome of each file, all read by one process."""
    folder = tmp_path_factory.mktemp("media")
    for kind, files in (
        ("image", images()),
        ("sound", headers_of_sounds()),
        ("sound", sounds_of_every_format()),
        ("sound", damaged_sounds()),
    ):
        for number, (name, data) in enumerate(files):
            (folder / f"{kind}-{number}-{files.__name__}-{name.replace('/', '-')}").write_bytes(data)
    done = subprocess.run([sys.executable, "-c", READER, str(folder)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_file_is_read_or_rejected(outcomes):
    outcome_of = {name: outcome for name, (outcome, _) in outcomes["outcomes"].items()}
    assert {name: outcome for name, outcome in outcome_of.items() if outcome not in ("read", "rejected")} == {}
    for kind in ("image", "sound"):
        of_kind = [outcome for name, outcome in outcome_of.items() if name.startswith(kind)]
        assert len(of_kind) >= 150
        assert min(of_kind.count("read"), of_kind.count("rejected")) >= 30


def test_time_and_memory_are_limited(outcomes):
    slow = {name: seconds for name, (_, seconds) in outcomes["outcomes"].items() if seconds > SECONDS_A_FILE}
    assert slow == {}
    assert outcomes["megabytes"] < MEGABYTES


def test_valid_file_is_read_whatever_its_extension(outcomes):
    for name, (outcome, _) in outcomes["outcomes"].items():
        if "-named-" in name or "-tail." in name:
            assert outcome == "read", name
    assert not Path("/tmp/executed").exists()
