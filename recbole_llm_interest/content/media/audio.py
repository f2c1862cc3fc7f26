"""Reads the beginning of a sound as one channel at a wanted sampling rate, and refuses what is no sound."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import ContentError

#: below it nothing that speech or music consists of is left, above it no recorder goes
SAMPLING_RATES = (2_000, 768_000)
#: samples lie within -1 and 1; a file in floating point may exceed that, but not by this much
MAX_LEVEL = 1_000.0
_BLOCK_FRAMES = 65_536
#: what PyAV may open: FFmpeg also reads play lists, which name other files and addresses
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mp3,aac,asf,avi,flac,ogg,wav,aiff,amr,mpegts,mpeg,flv"


def read_sound(file: BinaryIO, sampling_rate: int, seconds: float) -> NDArray[np.float32]:
    """The first ``seconds`` of a sound, channels averaged, ``[samples]`` at ``sampling_rate`` Hz.

    libsndfile reads wav, flac, ogg, mp3, aiff and more; the rest (m4a, aac, wma, the sound of videos) goes to PyAV,
    where that is installed.

    Raises:
        ContentError: the file is no sound that can be read, or holds no samples, or no finite ones.
    """
    import soundfile

    try:
        samples, rate = _read_by_soundfile(file, seconds)
    except soundfile.LibsndfileError as error:
        file.seek(0)
        samples, rate = _read_by_pyav(file, seconds, str(error))
    if not np.isfinite(samples).all() or np.abs(samples).max(initial=0) > MAX_LEVEL:
        raise ContentError("holds samples that are no sound level (not finite, or far beyond -1 to 1)")
    if rate != sampling_rate and len(samples):
        import soxr

        samples = soxr.resample(samples, rate, sampling_rate)
    if not len(samples):
        raise ContentError("holds no samples")
    return np.ascontiguousarray(samples, dtype=np.float32)


def _check_rate(rate: int) -> int:
    low, high = SAMPLING_RATES
    if not low <= rate <= high:
        raise ContentError(f"has a sampling rate of {rate} Hz, not {low} to {high}")
    return rate


def _read_by_soundfile(file: BinaryIO, seconds: float) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(file) as sound:
            rate = _check_rate(sound.samplerate)
            left, blocks = round(seconds * rate), []
            # Block by block, so that many channels take no more memory than one.
            while left > 0 and len(block := sound.read(min(left, _BLOCK_FRAMES), dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
                left -= len(block)
    except (ContentError, soundfile.LibsndfileError):
        raise
    except Exception as error:
        raise _no_sound(error) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32), rate


def _read_by_pyav(file: BinaryIO, seconds: float, why: str) -> tuple[NDArray[np.float32], int]:
    try:
        import av
    except ImportError as error:
        raise ContentError(
            f"is not read by soundfile ({why.rstrip('.')}); pip install av, which reads more formats"
        ) from error
    only = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    try:
        with av.open(file, mode="r", options=only, metadata_errors="replace") as container:
            stream = container.streams.get(audio=0)[0]
            rate = _check_rate(stream.rate)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            left, blocks = round(seconds * rate), []
            for frame in container.decode(stream):
                for mono in resampler.resample(frame):
                    blocks.append(mono.to_ndarray()[0, :left])
                    left -= len(blocks[-1])
                if left <= 0:
                    break
    except ContentError:
        raise
    except Exception as error:  # FFmpeg's errors have a class for each of its codes
        raise _no_sound(error) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32), rate


def _no_sound(error: Exception) -> ContentError:
    reason = f"is no sound that can be read: {type(error).__name__}: {error}"
    return ContentError(reason, is_lasting=not isinstance(error, MemoryError))
