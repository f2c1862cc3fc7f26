"""A folder of encoded features that survives kills, full disks and concurrent writers.

Features are in shards (safetensors). A shard's file name is the hash of its bytes, and its content never changes, so no
index is needed: a truncated, damaged or edited shard does not match its name, is skipped, and its content is encoded
again. Two processes may write the same features, which costs space only. The manifest is written last. It states the
encoder, the shards and the rejected content; features are found without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.array_files import parse_arrays
from recbole_llm_interest.io.files import remove_abandoned, write_atomically
from recbole_llm_interest.io.opening import FileKind, is_there, read_bytes, read_json

_logger = logging.getLogger(__name__)
_KEY_BYTES = hashlib.sha256().digest_size
#: what reading a damaged manifest raises
_DAMAGES = (DataError, ValueError, KeyError, TypeError, AttributeError)
#: 512 rows of the widest encoder take 16 MB
_SHARD = FileKind("feature shard", DataError, 2**30, "delete it")
#: a million rejections take 200 MB
_MANIFEST = FileKind("manifest", DataError, 500_000_000, "delete it")


class FeatureStore:
    """Features of one encoder, by the hash of the content.

    Args:
        folder: contains the stores of all encoders.
        modality: text, image or audio.
        fingerprint: the encoder's. Another encoder, or other settings of it, has another store.
    """

    def __init__(self, folder: Path, modality: str, fingerprint: str) -> None:
        self.folder = folder / f"{modality}-{fingerprint[:16]}"
        self._fingerprint = fingerprint

    @classmethod
    def all_below(cls, folder: Path, modality: str) -> list[FeatureStore]:
        """Return the stores of a modality, one for each encoder that has written one."""
        paths = sorted(path for path in folder.glob(f"{modality}-*") if path.is_dir())
        return [cls(folder, modality, path.name.removeprefix(f"{modality}-")) for path in paths]

    @property
    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the features of those ``keys`` that are in the store, each ``[D]``."""
        requested = set(keys)
        vectors: dict[bytes, NDArray[np.float32]] = {}
        for path in self._shards:
            if (shard := self._read_shard(path)) is not None:
                rows = zip(shard["keys"], shard["features"], strict=True)
                vectors.update({key.tobytes(): vector for key, vector in rows if key.tobytes() in requested})
        return vectors

    def _read_shard(self, path: Path) -> dict[str, NDArray[np.float32]] | None:
        """Return a shard's ``keys``, ``[S, 32]``, and ``features``, ``[S, D]``; None if it is damaged."""
        try:
            data = read_bytes(path, _SHARD)
            is_intact = hashlib.sha256(data).hexdigest() == path.stem
            shard = parse_arrays(data, {"U8", "F32"}) if is_intact else {}
        except (DataError, ValueError):
            shard = {}
        if _is_valid(shard):
            return shard
        _logger.warning("feature shard %s is damaged: its content is encoded again", path)
        return None

    def write(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Add features as one shard.

        Args:
            keys: of the contents.
            features: ``[len(keys), D]``.

        Raises:
            ValueError: the features are not finite, or their number is not that of the keys.
            StorageError: the shard cannot be written; the store is unchanged.
        """
        if len(features) != len(keys) or not np.isfinite(features).all():
            raise ValueError(f"expected {len(keys)} rows of finite features, got {features.shape}, or NaN or Inf")
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _KEY_BYTES)
        data = save({"keys": packed, "features": np.ascontiguousarray(features, dtype=np.float32)})
        self._write_file(f"{hashlib.sha256(data).hexdigest()}.safetensors", data)

    def keep_only(self, keys: Set[bytes]) -> list[Path]:
        """Delete features and rejections of all content except ``keys``, and every damaged shard.

        Returns:
            The files that were deleted or rewritten.

        Raises:
            StorageError: a file cannot be written; the one that it replaces is unchanged.
        """
        shards = [path for path in self._shards if self._reduce_shard(path, keys)]
        return [*shards, *self._reduce_manifest(keys, has_new_shards=bool(shards))]

    def _reduce_shard(self, path: Path, keys: Set[bytes]) -> bool:
        """Replace a shard by one with ``keys`` only. Returns False if nothing had to be deleted.

        Raises:
            StorageError: the new shard cannot be written; the old one is unchanged.
        """
        shard = self._read_shard(path) or {"keys": np.zeros((0, _KEY_BYTES), np.uint8)}
        is_kept = np.array([key.tobytes() in keys for key in shard["keys"]], dtype=bool)
        if len(is_kept) and is_kept.all():
            return False
        if is_kept.any():
            self.write([key.tobytes() for key in shard["keys"][is_kept]], shard["features"][is_kept])
        path.unlink()
        return True

    def _reduce_manifest(self, keys: Set[bytes], *, has_new_shards: bool) -> list[Path]:
        """Delete the rejections of all content except ``keys``, and a damaged manifest. Returns the changed files.

        Raises:
            StorageError: the manifest cannot be written; the old one is unchanged.
        """
        if not is_there(self._manifest):
            return []
        try:
            manifest = read_json(self._manifest, _MANIFEST)
            rejected = {key: reason for key, reason in manifest["refused"].items() if bytes.fromhex(key) in keys}
            if not has_new_shards and rejected.keys() == manifest["refused"].keys():
                return []
            self._write_manifest({**manifest, "shards": [path.name for path in self._shards], "refused": rejected})
        except _DAMAGES:
            self._manifest.unlink()
        return [self._manifest]

    def _write_file(self, name: str, data: bytes) -> None:
        write_atomically(
            self.folder / name, lambda file: file.write(data), "set feature_cache to another folder for features"
        )

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._write_file(self._manifest.name, json.dumps(manifest, indent=1).encode())

    def read_rejections(self, encoder: Mapping[str, Any]) -> dict[bytes, str]:
        """Return the content that was rejected, by key, with the reason. It need not be tried again.

        Args:
            encoder: its description. If the manifest has another one, such as another version of a decoder, there are
                no rejections.
        """
        if not is_there(self._manifest):
            return {}
        try:
            manifest = read_json(self._manifest, _MANIFEST)
            if manifest["encoder"] != encoder:
                return {}
            return {bytes.fromhex(key): str(reason) for key, reason in manifest["refused"].items()}
        except _DAMAGES:
            _logger.warning("%s is damaged: rejected content is tried again", self._manifest)
            return {}

    def write_manifest(self, encoder: Mapping[str, Any], rejected: Mapping[bytes, str]) -> None:
        """Write the manifest.

        Args:
            encoder: its name, settings and the versions of its libraries.
            rejected: reasons, by key; added to those of the present manifest.

        Raises:
            StorageError: the manifest cannot be written; the old one is unchanged.
        """
        rejected = {**self.read_rejections(encoder), **rejected}  # another process may have added some
        self._write_manifest(
            {
                "encoder": dict(encoder),
                "fingerprint": self._fingerprint,
                "shards": [path.name for path in self._shards],
                "refused": {key.hex(): reason for key, reason in rejected.items()},
            }
        )

    def remove_unfinished(self) -> None:
        """Remove the unfinished files of killed writers."""
        remove_abandoned(self.folder.glob(".*"))


def _is_valid(shard: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a shard has a finite row of features for each key."""
    keys, features = shard.get("keys"), shard.get("features")
    if keys is None or features is None or keys.dtype != np.uint8 or features.dtype != np.float32:
        return False
    is_table = keys.ndim == features.ndim == 2 and keys.shape == (len(features), _KEY_BYTES)
    return is_table and bool(np.isfinite(features).all())
