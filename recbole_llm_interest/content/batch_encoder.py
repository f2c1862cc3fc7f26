"""Encodes batches of content by one encoder: in this process, or in a worker of a cluster."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.blobs import Blob
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.errors import ContentError, DataError, EncoderError
from recbole_llm_interest.settings import ContentSettings, Modality

#: features of one item or user, ``[D]``
Vector = NDArray[np.float32]


@dataclass
class EncodedBatch:
    """What became of the contents of a batch, by key.

    Attributes:
        features: each ``[D]``.
        rejected: reasons why contents can never be used.
        failed: reasons that may not apply in another run.
    """

    features: dict[bytes, Vector] = field(default_factory=dict)
    rejected: dict[bytes, str] = field(default_factory=dict)
    failed: dict[bytes, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of contents."""
        return len(self.features) + len(self.rejected) + len(self.failed)


class BatchEncoder:
    """Loads contents and encodes them.

    Args:
        encoder: loads its weights at the first batch.
        pool: loads contents.
    """

    def __init__(self, encoder: Encoder, pool: ThreadPoolExecutor) -> None:
        self._encoder = encoder
        self._pool = pool

    def __call__(self, blobs: Mapping[bytes, Blob]) -> EncodedBatch:
        """Encode contents; those that cannot be used have a reason instead of features.

        Args:
            blobs: by key, at least one.

        Raises:
            EncoderError: the encoder does not load.
        """
        batch = EncodedBatch()
        inputs = self._load(blobs, batch)
        if not inputs:
            return batch
        for key, vector in zip(inputs, self._encoder.encode(list(inputs.values())), strict=True):
            if np.isfinite(vector).all():
                batch.features[key] = vector
            else:
                batch.rejected[key] = "gives features that are not finite"
        return batch

    def _load(self, blobs: Mapping[bytes, Blob], batch: EncodedBatch) -> dict[bytes, Any]:
        """Preprocess contents in parallel, and note the reasons for those that cannot be used."""

        def load(key: bytes) -> Any:
            try:
                with blobs[key].open(key) as content:
                    return self._encoder.load(content)
            except ContentError as error:
                return error

        first, *others = blobs
        # The first one runs alone, so that models and libraries are loaded by one thread.
        results = dict(zip(blobs, [load(first), *self._pool.map(load, others)], strict=True))
        for key, result in results.items():
            if isinstance(result, ContentError):
                (batch.rejected if result.is_lasting else batch.failed)[key] = str(result)
        return {key: result for key, result in results.items() if not isinstance(result, ContentError)}


def create_batch_encoder(
    modality: Modality, settings: ContentSettings, fingerprint: str, folders: Set[Path]
) -> BatchEncoder:
    """Create the encoder of a worker, and check that it is the one of the process that gives the batches.

    Args:
        modality: text, image or audio.
        settings: name the encoder.
        fingerprint: the encoder's in the other process.
        folders: of the contents' files.

    Raises:
        EncoderError: the weights are not found on this machine, or are other ones.
        DataError: a folder is not on this machine.
    """
    host = socket.gethostname()
    for folder in sorted(folders):
        if not folder.is_dir():
            raise DataError(f"{folder} is not on {host}, a node of the cluster: share that folder among all nodes")
    encoder = create_encoder(modality, settings)
    if encoder.fingerprint != fingerprint:
        raise EncoderError(
            f"the {modality} encoder on {host}, a node of the cluster, has other weights than here: install the same "
            "packages and models on all nodes"
        )
    encoder.prepare()
    return BatchEncoder(encoder, ThreadPoolExecutor(1))
