"""Encoders: one module a modality, one interface for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """Turns content into features, and says what would make the features differ.

    Attributes:
        batch_size: how much content it takes at once.
    """

    batch_size: int

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the content that decides the features: weights, preprocessing, pooling."""
        ...

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Features of ``batch``, shape ``[len(batch), D]``. The weights are loaded on the first call."""
        ...
