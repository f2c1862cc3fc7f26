"""Encoders: one module a modality, one interface for all; none is imported before it is asked for by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.settings import ContentSettings, Modality


class Encoder(Protocol):
    """Turns content into features, and says what would make the features differ.

    Attributes:
        batch_size: how much content it takes at once.
    """

    batch_size: int

    @property
    def description(self) -> dict[str, Any]:
        """Its name and settings, for a person to read; they stand in the store's manifest."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the content that decides the features: weights, preprocessing, pooling."""
        ...

    def prepare(self) -> None:
        """Make sure that weights and libraries are there, before anything is encoded; loads nothing yet.

        Raises:
            EncoderError: they are not.
        """
        ...

    def load(self, content: Any) -> Any:
        """One piece of content made ready: a text as it is, an open file decoded and preprocessed.

        Raises:
            ContentError: it cannot be used.
        """
        ...

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Features of what ``load`` returned, shape ``[len(batch), D]``. Weights are loaded when first needed."""
        ...


def create_encoder(modality: Modality, settings: ContentSettings) -> Encoder:
    """The encoder that the settings name. Nothing stands in for one that cannot be had.

    Raises:
        EncoderError: its weights are in none of the places where they are looked for.
    """
    precision, device = settings.encoder_precision, settings.encoder_device
    if modality == "text":
        if settings.text_encoder == "hashing":
            from recbole_llm_interest.content.encoders.weights_free import HashingEncoder

            return HashingEncoder(settings.text_batch_size)
        from recbole_llm_interest.content.encoders.text import TextEncoder

        return TextEncoder(
            settings.text_encoder,
            pooling=settings.text_pooling,
            prompt=settings.text_prompt,
            max_length=settings.text_max_length,
            truncate_dim=settings.text_truncate_dim,
            precision=precision,
            device=device,
            batch_size=settings.text_batch_size,
            download=settings.download_weights,
        )
    if modality == "image":
        if settings.image_encoder == "color_hist":
            from recbole_llm_interest.content.encoders.weights_free import ColorHistogramEncoder

            return ColorHistogramEncoder(settings.image_batch_size)
        from recbole_llm_interest.content.encoders.image import ImageEncoder

        return ImageEncoder(
            settings.image_encoder,
            settings.image_weights,
            precision=precision,
            device=device,
            batch_size=settings.image_batch_size,
            download=settings.download_weights,
        )
    if settings.audio_encoder == "librosa":
        from recbole_llm_interest.content.encoders.weights_free import LibrosaEncoder

        return LibrosaEncoder(settings.audio_seconds, settings.audio_batch_size)
    from recbole_llm_interest.content.encoders.audio import AudioEncoder

    return AudioEncoder(
        settings.audio_encoder,
        seconds=settings.audio_seconds,
        precision=precision,
        device=device,
        batch_size=settings.audio_batch_size,
        download=settings.download_weights,
    )
