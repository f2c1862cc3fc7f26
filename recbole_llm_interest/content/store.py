"""A folder of encoded features that survives kills, full disks and several writers at once.

Features lie in shards (safetensors) that are never changed once written and whose file name is the hash of their
bytes. So there is no index to keep in step: a shard that was cut short, damaged or edited does not match its own
name and is passed over, and what it held is encoded again. Two processes may write the same rows; that costs
space, never correctness.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from recbole_llm_interest.files import write_atomically

_logger = logging.getLogger(__name__)
_KEY_BYTES = hashlib.sha256().digest_size


def content_key(content: str) -> bytes:
    """The key of a row: a hash, so that the store holds no text of items or users."""
    return hashlib.sha256(content.encode("utf-8", errors="surrogatepass")).digest()


class FeatureStore:
    """Features of one encoder by content.

    Args:
        folder: where the features of all encoders lie.
        modality: ``text``.
        fingerprint: the encoder's; another encoder, or the same one set up differently, never sees these rows.
    """

    def __init__(self, folder: Path, modality: str, fingerprint: str) -> None:
        self.folder = folder / f"{modality}-{fingerprint[:16]}"

    def read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Those of ``keys`` that are in the store, each with its feature row, shape ``[D]``."""
        wanted = set(keys)
        found: dict[bytes, NDArray[np.float32]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            shard = self._read_shard(path)
            if shard is None:
                continue
            for key, row in zip(shard["keys"], shard["features"], strict=True):
                if (digest := key.tobytes()) in wanted:
                    found[digest] = row
        return found

    def _read_shard(self, path: Path) -> dict[str, NDArray[np.float32]] | None:
        try:
            data = path.read_bytes()
            intact = hashlib.sha256(data).hexdigest() == path.stem
            shard = load(data) if intact else {}
        except (OSError, SafetensorError):
            shard = {}
        if {"keys", "features"} <= shard.keys():
            return shard
        _logger.warning("feature shard %s is damaged: what it held is encoded again", path)
        return None

    def write(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Add rows, ``features`` of shape ``[len(keys), D]``, as one shard.

        Raises:
            ValueError: the features are not finite or not one row a key.
            OSError: the shard cannot be written; the store is as it was.
        """
        if len(features) != len(keys) or not np.isfinite(features).all():
            raise ValueError(f"{len(keys)} rows of finite features expected, not {features.shape} with NaN or Inf")
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _KEY_BYTES)
        data = save({"keys": packed, "features": np.ascontiguousarray(features, dtype=np.float32)})
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        write_atomically(path, lambda file: file.write(data))
