"""Reads the start of an audio file as one channel at a given sampling rate, and rejects unusable files."""

from __future__ import annotations

from contextlib import suppress
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.media.reasons import unreadable
from recbole_llm_interest.errors import ContentError

#: modules that ``read_audio`` needs
AUDIO_PACKAGES = ("soundfile", "soxr")
#: lower rates leave nothing of speech or music; no recorder has higher ones
SAMPLING_RATES = (2_000, 768_000)
#: samples lie between -1 and 1; a floating-point file may exceed that, but not by this much
MAX_LEVEL = 1_000.0
_BLOCK_FRAMES = 65_536
#: formats that PyAV may open; FFmpeg also reads playlists, which name other files and addresses
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mp3,aac,asf,avi,flac,ogg,wav,aiff,amr,mpegts,mpeg,flv"


def read_audio(file: BinaryIO, sampling_rate: int, seconds: float) -> NDArray[np.float32]:
    """Read the first ``seconds`` of an audio file, with channels averaged.

    libsndfile reads wav, flac, ogg, mp3, aiff and more. PyAV, if it is installed, reads other formats: m4a, aac, wma,
    and the audio of videos.

    Args:
        file: opened for reading bytes.
        sampling_rate: of the result, in Hz.
        seconds: maximum length of the result.

    Returns:
        Samples, ``[samples]``.

    Raises:
        ContentError: the file is not readable audio, or has no samples or samples that are not finite.
    """
    samples, rate = _read_samples(file, seconds)
    if not np.isfinite(samples).all() or np.abs(samples).max(initial=0) > MAX_LEVEL:
        raise ContentError("has samples that are no sound level (not finite, or far beyond -1 to 1)")
    if rate != sampling_rate and len(samples):
        import soxr

        samples = soxr.resample(samples, rate, sampling_rate)
    if not len(samples):
        raise ContentError("has no samples")
    return np.ascontiguousarray(samples, dtype=np.float32)


class _QuietFile:
    """A file whose failed seeks are no exceptions: libsndfile calls them from C, where one is printed, not raised.

    Args:
        file: opened for reading bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> None:
        """Move to a position. A position that does not exist, such as one before the start, is ignored."""
        with suppress(OSError, ValueError, OverflowError):
            self._seek(offset, whence)

    def __repr__(self) -> str:
        return "the file"


def _read_samples(file: BinaryIO, seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return samples and their rate. PyAV is asked where libsndfile cannot read the file, or finds nothing in it."""
    import soundfile

    try:
        samples, rate = _read_by_soundfile(file, seconds)
    except soundfile.LibsndfileError as error:
        file.seek(0)
        return _read_by_pyav(file, seconds, str(error))
    if len(samples):
        return samples, rate
    file.seek(0)
    with suppress(ContentError):  # such as an MP3 shorter than the delay of its encoder
        return _read_by_pyav(file, seconds, "no samples")
    return samples, rate


def _check_rate(rate: int) -> int:
    low, high = SAMPLING_RATES
    if not low <= rate <= high:
        raise ContentError(f"has a sampling rate of {rate} Hz, not {low} to {high}")
    return rate


def _read_by_soundfile(file: BinaryIO, seconds: float) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(_QuietFile(file)) as audio:
            rate = _check_rate(audio.samplerate)
            frames, blocks = round(seconds * rate), []
            # Blocks keep the memory for many channels as low as for one.
            while frames > 0 and len(block := audio.read(min(frames, _BLOCK_FRAMES), dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
                frames -= len(block)
    except (ContentError, soundfile.LibsndfileError):
        raise
    except Exception as error:
        raise unreadable("audio", error, is_lasting=not isinstance(error, MemoryError)) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32), rate


def _read_by_pyav(file: BinaryIO, seconds: float, reason: str) -> tuple[NDArray[np.float32], int]:
    try:
        import av
    except ImportError as error:
        raise ContentError(
            f"is not read by soundfile ({reason.rstrip('.')}); pip install av, which reads more formats"
        ) from error
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    try:
        with av.open(file, mode="r", options=options, metadata_errors="replace") as container:
            stream = container.streams.get(audio=0)[0]
            rate = _check_rate(stream.rate)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            remaining, blocks = round(seconds * rate), []
            for frame in container.decode(stream):
                for mono in resampler.resample(frame):
                    blocks.append(mono.to_ndarray()[0, :remaining])
                    remaining -= len(blocks[-1])
                if remaining <= 0:
                    break
    except ContentError:
        raise
    except Exception as error:  # FFmpeg has an exception class for each error code
        raise unreadable("audio", error, is_lasting=not isinstance(error, MemoryError)) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32), rate
