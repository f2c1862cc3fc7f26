"""Images and sounds: seen and heard as a person would, and refused with a reason where they would harm the run."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from recbole_llm_interest.content.blobs import MediaFile
from recbole_llm_interest.content.media.audio import read_audio
from recbole_llm_interest.content.media.images import MAX_ASPECT_RATIO, read_image
from recbole_llm_interest.errors import ContentError


def as_file(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def seen(image, kind="PNG", **options):
    """Mean colour of what is read."""
    read = read_image(as_file(image, kind, **options))
    assert read.mode == "RGB"
    return np.asarray(read).reshape(-1, 3).mean(axis=0)


# --- files


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "leads out"),
        ("images/../../secret.png", "leads out"),
        ("/etc/passwd", "leads out"),
        ("link.png", "leads out"),
        ("missing.png", "does not exist"),
        ("a\0b.png", "has an invalid name"),
        ("\ud800.png", "has an invalid name"),
        ("x" * 300 + ".png", "cannot be read"),
        ("loop.png", r"cannot be read|is a link that leads back"),
        ("folder", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("empty.png", "is empty"),
        ("vast.png", "has 2,147,483,649 bytes: at most 2,147,483,648 are allowed"),
    ],
)
def test_file_that_may_not_or_cannot_be_read_is_refused(tmp_path, name, reason):
    root = tmp_path / "content"
    for folder in ("folder", "images"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe")
    (root / "empty.png").touch()
    with (root / "vast.png").open("wb") as file:
        file.truncate(2**31 + 1)  # sparse: it takes no room
    for read in (MediaFile(root, name).key, lambda: MediaFile(root, name).open(b"")):
        with pytest.raises(ContentError, match=reason):
            read()


def test_same_bytes_have_the_same_key_whatever_the_name(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"the same")
    assert MediaFile(tmp_path, "a.png").key() == MediaFile(tmp_path, "b.jpg").key()


# --- images


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_common_formats_are_read(kind):
    assert np.allclose(seen(Image.new("RGB", (20, 20), (200, 100, 50)), kind), (200, 100, 50), atol=8)


@pytest.mark.slow
def test_formats_do_not_depend_on_what_was_read_before():
    """Pillow knows five formats until it meets a file of another: nothing here may rely on that having happened."""
    program = (
        "import io, sys\n"
        "from recbole_llm_interest.content.media.images import read_image\n"
        "for line in sys.stdin:\n"
        "    read_image(io.BytesIO(bytes.fromhex(line)))\n"
    )
    files = [as_file(Image.new("RGB", (9, 9)), kind).getvalue().hex() for kind in ("PNG", "WEBP", "TIFF", "AVIF")]
    done = subprocess.run([sys.executable, "-c", program], input="\n".join(files), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_memory_that_runs_out_says_nothing_about_the_image(monkeypatch):
    def run_out(*_):
        raise MemoryError

    image = as_file(Image.new("RGB", (9, 9)), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", run_out)
    with pytest.raises(ContentError) as caught:
        read_image(image)
    assert not caught.value.is_lasting


def test_transparent_is_white():
    assert np.allclose(seen(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), 255)
    assert np.allclose(seen(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), 127, atol=1)
    assert np.allclose(seen(Image.new("LA", (8, 8), (0, 0))), 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    assert np.allclose(seen(palette, transparency=0), 255)
    assert np.allclose(seen(palette), (10, 20, 30))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut_off(kind):
    ramp = np.linspace(0, 65535, 100 * 100, dtype=np.uint16).reshape(100, 100)
    read = np.asarray(read_image(as_file(Image.fromarray(ramp), kind)))
    assert np.allclose(read[..., 0], ramp / 257, atol=1)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_that_are_not_all_used_are_no_dark_picture(kind, bits):
    """As cameras of 12 bits save them: of the upper bits, no pixel has any."""
    ramp = np.linspace(0, 2**bits - 1, 100 * 100, dtype=np.uint16).reshape(100, 100)
    read = np.asarray(read_image(as_file(Image.fromarray(ramp), kind)))
    assert np.allclose(read[..., 0], ramp * (255 / (2**bits - 1)), atol=1)


def test_floating_point_pixels_are_scaled():
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.allclose(np.asarray(read_image(as_file(Image.fromarray(ramp), "TIFF")))[..., 0], ramp * 255, atol=1)
    with pytest.raises(ContentError, match="not numbers"):
        read_image(as_file(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"))


def test_cmyk_is_converted():
    assert np.allclose(seen(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (255, 0, 0), atol=12)


def test_exif_rotation_is_applied():
    left_red = Image.new("RGB", (40, 20), "blue")
    left_red.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: what is on the left comes to the top
    read = read_image(as_file(left_red, "JPEG", exif=exif))
    assert read.size == (20, 40)
    assert read.getpixel((10, 5))[0] > 200
    assert read.getpixel((10, 35))[2] > 200


def test_first_frame_of_what_moves_is_seen():
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for kind in ("GIF", "WEBP", "PNG"):
        assert seen(red, kind, save_all=True, append_images=[blue])[0] > 240


def test_strip_is_padded_and_does_not_explode():
    for size in ((60_000, 1), (1, 60_000), (900, 100)):
        read = read_image(as_file(Image.new("RGB", size, "red")))
        assert max(read.size) <= MAX_ASPECT_RATIO * min(read.size)
        assert max(read.size) <= 2048
    plain = Image.new("RGB", (800, 100), "red")
    assert read_image(as_file(plain)).size == plain.size  # eight to one is left as it is


def png(width, height, rows, bit_depth=1, color=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


def test_decompression_bomb_is_refused_before_it_goes_off():
    bomb = png(12_000, 12_000, b"\0" * (12_000 // 8 + 1) * 12_000)
    assert len(bomb.getvalue()) < 20_000
    with pytest.raises(ContentError, match="more than 64 million"):
        read_image(bomb)


@pytest.mark.slow
def test_large_photograph_is_read_at_a_fraction_of_its_size():
    photograph = Image.new("RGB", (12_000, 9_000), (200, 100, 50))  # 108 megapixels
    read = read_image(as_file(photograph, "JPEG"))
    assert max(read.size) <= 3000
    assert np.allclose(read.getpixel((5, 5)), (200, 100, 50), atol=4)


@pytest.mark.parametrize(
    "data",
    [
        b"no image at all",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"BM" + b"\xff" * 60,
        b"II*\0" + b"\xff" * 60,
    ],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ContentError, match="is not a readable image"):
        read_image(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_damaged_images_are_read_or_refused_and_never_more(kind):
    """Cut short, and with bytes changed, at many places."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    good = as_file(Image.fromarray(noise), kind).getvalue()
    chance = random.Random(0)
    damaged = [good[: chance.randrange(1, len(good))] for _ in range(15)]
    for _ in range(40):
        bytes_ = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
        damaged.append(bytes(bytes_))
    outcomes = set()
    for data in damaged:
        try:
            outcomes.add(read_image(io.BytesIO(data)).mode)
        except ContentError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"RGB", "refused"}


# --- sounds


def tone(seconds=1.0, rate=16_000, channels=1, pitch=440.0):
    wave = np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate).astype(np.float32)
    return np.repeat(wave[:, None], channels, axis=1)


def sound_file(samples, rate=16_000, kind="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    file.seek(0)
    return file


def pitch_of(samples, rate):
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_a_tone_keeps_its_pitch_in_every_format_and_rate(kind, rate):
    samples = read_audio(sound_file(tone(rate=rate), rate, kind), 16_000, 30)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) < 1600
    assert abs(pitch_of(samples, 16_000) - 440) < 3


def test_channels_are_averaged():
    stereo = tone(channels=2)
    stereo[:, 1] *= -1
    assert np.abs(read_audio(sound_file(stereo), 16_000, 30)).max() < 1e-4
    assert np.allclose(
        read_audio(sound_file(tone(channels=6)), 16_000, 30), read_audio(sound_file(tone()), 16_000, 30), atol=1e-4
    )


def test_only_the_beginning_is_heard():
    assert len(read_audio(sound_file(tone(seconds=5)), 16_000, 1.5)) == 24_000


@pytest.mark.slow
def test_eight_hours_are_bounded_by_what_is_heard():
    silence = sound_file(np.zeros(8 * 3600 * 8000, dtype=np.int16), 8_000, "FLAC")
    assert len(silence.getvalue()) < 2_000_000
    assert len(read_audio(silence, 16_000, 30)) == 30 * 16_000


@pytest.mark.parametrize("kind", ["mp4", "webm", "adts"])
def test_what_soundfile_cannot_read_goes_to_pyav(kind):
    import av

    file = io.BytesIO()
    codec = {"mp4": "aac", "webm": "libopus", "adts": "aac"}[kind]
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(seconds=2, rate=48_000).T.copy(), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    samples = read_audio(file, 16_000, 1.0)
    assert abs(pitch_of(samples, 16_000) - 440) < 5
    assert len(samples) == 16_000


def test_without_pyav_the_reason_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ContentError, match="pip install av"):
        read_audio(io.BytesIO(b"\0\0\0\x18ftypmp42" + b"\0" * 64), 16_000, 30)


def header_only_wav(rate=16_000):
    return sound_file(np.zeros((0, 1), np.float32), rate)


def wav_with_rate(rate):
    data = bytearray(sound_file(tone()).getvalue())
    data[24:28] = struct.pack("<I", rate)
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (header_only_wav, "has no samples"),
        (lambda: sound_file(np.ones((1, 1), np.float32), 48_000), "has no samples"),  # none is left at 16 kHz
        (lambda: sound_file(np.full((800, 1), 1e30, np.float32), subtype="FLOAT"), "no sound level"),
        (lambda: sound_file(np.full((800, 1), np.nan, np.float32), subtype="FLOAT"), "no sound level"),
        (lambda: sound_file(np.full((800, 1), np.inf, np.float64), subtype="DOUBLE"), "no sound level"),
        (lambda: wav_with_rate(1), "sampling rate of 1 Hz"),
        (lambda: wav_with_rate(0), "rate|is not readable audio"),
        (lambda: wav_with_rate(2**31 - 1), "sampling rate"),
        (lambda: io.BytesIO(b"text of some length, and no audio at all in it"), "is not readable audio|is not read"),
        (lambda: io.BytesIO(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), "is not readable audio|is not read"),
        (lambda: io.BytesIO(b"ffconcat version 1.0\nfile /etc/passwd\n"), "is not readable audio|is not read"),
        (lambda: io.BytesIO(b"RIFF\xff\xff\xff\xffWAVEfmt "), "is not readable audio|is not read|no samples"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(file, reason):
    with pytest.raises(ContentError, match=reason):
        read_audio(file(), 16_000, 30)


def test_play_list_opens_nothing_else(tmp_path, monkeypatch):
    """FFmpeg by itself opens what a play list names in the current folder; nothing but the file itself may be read."""
    import av

    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(sound_file(tone()).getvalue())
    play_list = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(play_list)) as container:
        assert next(container.decode(audio=0)).samples  # so it is a danger, and the test could fail
    with pytest.raises(ContentError):
        read_audio(io.BytesIO(play_list), 16_000, 30)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_damaged_sounds_are_read_or_refused_and_never_more(kind):
    good = sound_file(tone(0.3), kind=kind).getvalue()
    chance = random.Random(0)
    damaged = [good[: chance.randrange(1, len(good))] for _ in range(15)]
    for _ in range(40):
        bytes_ = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            bytes_[chance.randrange(min(len(bytes_), 400))] = chance.randrange(256)
        damaged.append(bytes(bytes_))
    refused = 0
    for data in damaged:
        try:
            assert np.isfinite(read_audio(io.BytesIO(data), 16_000, 30)).all()
        except ContentError:
            refused += 1
    assert refused
