"""Encoders without weights, for where no checkpoint can be had: they run only when they are named."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.weights import combined_fingerprint, require_packages
from recbole_llm_interest.content.media.audio import read_sound
from recbole_llm_interest.content.media.images import read_image


class HashingEncoder:
    """Words and character n-grams of a text, hashed into 512 columns each (Weinberger et al., ICML 2009).

    It knows which texts share words or spellings, not what they mean. Character n-grams serve languages that do not
    put spaces between words.
    """

    columns = 512

    def __init__(self, batch_size: int = 64) -> None:
        self.batch_size = batch_size

    @property
    def description(self) -> dict[str, Any]:
        return {"name": "hashing", "columns": self.columns, "version": 1}

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint(self.description.items())

    def prepare(self) -> None:
        require_packages("text", "hashing", "sklearn")

    def load(self, content: str) -> str:
        return content

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        parts = [vectorizer.transform(batch).toarray() for vectorizer in self._vectorizers]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @functools.cached_property
    def _vectorizers(self) -> list[Any]:
        from sklearn.feature_extraction.text import HashingVectorizer

        words = HashingVectorizer(n_features=self.columns, ngram_range=(1, 2))
        characters = HashingVectorizer(n_features=self.columns, analyzer="char_wb", ngram_range=(1, 4))
        return [words, characters]


class ColorHistogramEncoder:
    """What colours an image has, roughly where, and which way its edges run: 192 columns.

    A joint histogram of 4 x 4 x 4 colours (square roots, so that distances are Hellinger's), the mean and deviation
    of the colours in 4 x 4 fields, and edge directions in 2 x 2 fields (Dalal and Triggs, CVPR 2005).
    """

    def __init__(self, batch_size: int = 32) -> None:
        self.batch_size = batch_size

    @property
    def description(self) -> dict[str, Any]:
        return {"name": "color_hist", "columns": 192, "version": 1}

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint(self.description.items())

    def prepare(self) -> None:
        require_packages("image", "color_hist", "PIL")

    def load(self, content: BinaryIO) -> NDArray[np.float32]:
        from PIL.Image import Resampling

        image = read_image(content).resize((128, 128), Resampling.BOX)
        pixels = np.asarray(image, dtype=np.float32) / 255  # [128, 128, 3]
        bins = np.minimum((pixels * 4).astype(int), 3) @ (16, 4, 1)
        histogram = np.sqrt(np.bincount(bins.ravel(), minlength=64) / bins.size)
        fields = pixels.reshape(4, 32, 4, 32, 3)
        means, deviations = fields.mean(axis=(1, 3)), fields.std(axis=(1, 3))
        down, right = np.gradient(pixels.mean(axis=2))
        strength, direction = np.hypot(down, right), np.arctan2(down, right)
        sector = np.minimum(((direction + np.pi) / (2 * np.pi) * 8).astype(int), 7)
        field = (np.arange(128) // 64)[:, None] * 2 + np.arange(128) // 64
        edges = np.bincount((field * 8 + sector).ravel(), weights=strength.ravel(), minlength=32) / (64 * 64)
        return np.concatenate([histogram, means.ravel(), deviations.ravel(), edges]).astype(np.float32)

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(batch)


class LibrosaEncoder:
    """Classical features of a sound by librosa (McFee et al., SciPy 2015), each by its mean and deviation over time.

    Log-mel bands (64), MFCC (20), chroma (12), spectral contrast (7), and the tempo: 207 columns.

    Args:
        seconds: how much of a sound is heard.
        batch_size: sounds that are decoded at once.
    """

    sampling_rate = 22_050
    _window = 2048

    def __init__(self, seconds: float = 30.0, batch_size: int = 8) -> None:
        self.seconds = seconds
        self.batch_size = batch_size

    @property
    def description(self) -> dict[str, Any]:
        return {"name": "librosa", "columns": 207, "seconds": self.seconds, "version": 1}

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint(self.description.items())

    def prepare(self) -> None:
        require_packages("audio", "librosa", "librosa", "soundfile", "soxr")

    def load(self, content: BinaryIO) -> NDArray[np.float32]:
        import librosa
        from librosa.onset import onset_strength

        rate = self.sampling_rate
        sound = read_sound(content, rate, self.seconds)
        sound = np.pad(sound, (0, max(0, self._window - len(sound))))
        magnitude = np.abs(librosa.stft(sound, n_fft=self._window))
        power = magnitude**2
        mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=rate, n_mels=64))
        over_time = [
            mel,
            librosa.feature.mfcc(S=mel, n_mfcc=20),
            librosa.feature.chroma_stft(S=power, sr=rate, tuning=0.0),
            librosa.feature.spectral_contrast(S=magnitude, sr=rate),
        ]
        tempo = librosa.feature.tempo(onset_envelope=onset_strength(S=mel, sr=rate), sr=rate)
        pooled = [statistic(feature, axis=1) for feature in over_time for statistic in (np.mean, np.std)]
        return np.concatenate([*pooled, tempo]).astype(np.float32)

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(batch)
