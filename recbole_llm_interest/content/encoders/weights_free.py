"""Encoders without pretrained weights. They run only if a setting names them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.weights import combined_fingerprint, require_packages
from recbole_llm_interest.content.media.audio import AUDIO_PACKAGES, read_audio
from recbole_llm_interest.content.media.images import read_image
from recbole_llm_interest.settings import ContentSettings, Modality

_Row = NDArray[np.float32]


class WeightsFreeEncoder:
    """What encoders without weights have in common: the description decides the features, so its hash identifies them.

    A subclass defines the class attributes, ``from_settings``, ``description``, ``load`` and ``encode``.

    Attributes:
        modality: text, image or audio.
        packages: as for ``Encoder``.
        required_modules: modules of the media decoders that it needs, too.
        batch_size: as for ``Encoder``.
    """

    needs_weights: ClassVar[bool] = False
    modality: ClassVar[Modality]
    packages: ClassVar[Mapping[str, str]] = {}
    required_modules: ClassVar[Sequence[str]] = ()

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    @property
    def description(self) -> dict[str, Any]:
        """Name, settings and ``version`` of the features; the version changes with the code that computes them."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Hash of the description."""
        return combined_fingerprint(self.description.items())

    def prepare(self) -> None:
        """Check that the packages are installed.

        Raises:
            EncoderError: one is not.
        """
        require_packages(self.modality, self.description["name"], *self.packages.values(), *self.required_modules)


class HashingEncoder(WeightsFreeEncoder):
    """Words and character n-grams of a text, each hashed into 512 columns (Weinberger et al., ICML 2009).

    The features show which texts share words or spellings, not meaning. Character n-grams also serve languages that
    write no spaces between words.

    Args:
        batch_size: texts to encode at once.

    Example:
        >>> HashingEncoder().encode(["whales", "how to bake bread"]).shape
        (2, 1024)
    """

    modality = "text"
    packages: ClassVar[Mapping[str, str]] = {"scikit-learn": "sklearn"}
    columns = 512

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__(batch_size)

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> HashingEncoder:
        """Create the encoder with the settings ``text_*``."""
        return cls(settings.text_batch_size)

    @property
    def description(self) -> dict[str, Any]:
        """Name, columns of each of the two parts, and version."""
        return {"name": "hashing", "columns": self.columns, "version": 1}

    def load(self, content: str) -> str:
        """Return the text unchanged."""
        return content

    def encode(self, batch: Sequence[str]) -> _Row:
        """Encode texts into features, ``[B, 1024]``."""
        parts = [vectorizer.transform(batch).toarray() for vectorizer in self._vectorizers]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @functools.cached_property
    def _vectorizers(self) -> list[Any]:
        from sklearn.feature_extraction.text import HashingVectorizer

        words = HashingVectorizer(n_features=self.columns, ngram_range=(1, 2))
        characters = HashingVectorizer(n_features=self.columns, analyzer="char_wb", ngram_range=(1, 4))
        return [words, characters]


class ColorHistogramEncoder(WeightsFreeEncoder):
    """Colors of an image, their rough position, and the directions of edges: 192 columns.

    A joint histogram of 4 x 4 x 4 colors (square roots, which gives Hellinger distances), mean and standard deviation
    of the colors in 4 x 4 cells, and edge directions in 2 x 2 cells (Dalal and Triggs, CVPR 2005).

    Args:
        batch_size: images to encode at once.
    """

    modality = "image"
    packages: ClassVar[Mapping[str, str]] = {"pillow": "PIL"}

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__(batch_size)

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> ColorHistogramEncoder:
        """Create the encoder with the settings ``image_*``."""
        return cls(settings.image_batch_size)

    @property
    def description(self) -> dict[str, Any]:
        """Name, columns and version."""
        return {"name": "color_hist", "columns": 192, "version": 1}

    def load(self, content: BinaryIO) -> _Row:
        """Compute the features of one image file, ``[192]``.

        Raises:
            ContentError: the file is not a usable image.
        """
        from PIL.Image import Resampling

        image = read_image(content).resize((128, 128), Resampling.BOX)
        pixels = np.asarray(image, dtype=np.float32) / 255  # [128, 128, 3]
        bins = np.minimum((pixels * 4).astype(int), 3) @ (16, 4, 1)
        histogram = np.sqrt(np.bincount(bins.ravel(), minlength=64) / bins.size)
        cells = pixels.reshape(4, 32, 4, 32, 3)
        means, deviations = cells.mean(axis=(1, 3)), cells.std(axis=(1, 3))
        down, right = np.gradient(pixels.mean(axis=2))
        strength, direction = np.hypot(down, right), np.arctan2(down, right)
        sector = np.minimum(((direction + np.pi) / (2 * np.pi) * 8).astype(int), 7)
        cell = (np.arange(128) // 64)[:, None] * 2 + np.arange(128) // 64
        edges = np.bincount((cell * 8 + sector).ravel(), weights=strength.ravel(), minlength=32) / (64 * 64)
        return np.concatenate([histogram, means.ravel(), deviations.ravel(), edges]).astype(np.float32)

    def encode(self, batch: Sequence[_Row]) -> _Row:
        """Stack the features of images, ``[B, 192]``."""
        return np.stack(batch)


class LibrosaEncoder(WeightsFreeEncoder):
    """Spectral features by librosa (McFee et al., SciPy 2015), each by mean and standard deviation over time.

    Log-mel bands (64), MFCC (20), chroma (12), spectral contrast (7), and the tempo: 207 columns.

    Args:
        seconds: length of the audio to read, from its start.
        batch_size: audio files to decode at once.
    """

    modality = "audio"
    packages: ClassVar[Mapping[str, str]] = {"librosa": "librosa"}
    required_modules = AUDIO_PACKAGES
    sampling_rate = 22_050
    _window = 2048

    def __init__(self, seconds: float = 30.0, batch_size: int = 8) -> None:
        super().__init__(batch_size)
        self.seconds = seconds

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> LibrosaEncoder:
        """Create the encoder with the settings ``audio_*``."""
        return cls(settings.audio_seconds, settings.audio_batch_size)

    @property
    def description(self) -> dict[str, Any]:
        """Name, columns, seconds and version."""
        return {"name": "librosa", "columns": 207, "seconds": self.seconds, "version": 1}

    def load(self, content: BinaryIO) -> _Row:
        """Compute the features of one audio file, ``[207]``.

        Raises:
            ContentError: the file is not usable audio.
        """
        import librosa
        from librosa.onset import onset_strength

        rate = self.sampling_rate
        samples = read_audio(content, rate, self.seconds)
        samples = np.pad(samples, (0, max(0, self._window - len(samples))))
        magnitude = np.abs(librosa.stft(samples, n_fft=self._window))
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

    def encode(self, batch: Sequence[_Row]) -> _Row:
        """Stack the features of audio files, ``[B, 207]``."""
        return np.stack(batch)
