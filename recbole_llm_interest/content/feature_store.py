"""A folder of encoded features that survives kills, full disks and several writers at once.

Features lie in shards (safetensors) that are never changed once written and whose file name is the hash of their
bytes. So there is no index to keep in step: a shard that was cut short, damaged or edited does not match its own
name and is passed over, and what it held is encoded again. Two processes may write the same rows; that costs
space, never correctness. The manifest, written last, says what made the features, which shards there were and what
was refused; features are found without it.
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
from safetensors import SafetensorError
from safetensors.numpy import load, save

from recbole_llm_interest.io.files import remove_abandoned, write_atomically

_logger = logging.getLogger(__name__)
_KEY_BYTES = hashlib.sha256().digest_size


class FeatureStore:
    """Features of one encoder by content.

    Args:
        folder: where the features of all encoders lie.
        modality: text, image or audio.
        fingerprint: the encoder's; another encoder, or the same one set up differently, never sees these rows.
    """

    def __init__(self, folder: Path, modality: str, fingerprint: str) -> None:
        self.folder = folder / f"{modality}-{fingerprint[:16]}"
        self._fingerprint = fingerprint

    @classmethod
    def all_below(cls, folder: Path, modality: str) -> list[FeatureStore]:
        """The stores of every encoder of a modality that has ever written one."""
        places = sorted(place for place in folder.glob(f"{modality}-*") if place.is_dir())
        return [cls(folder, modality, place.name.removeprefix(f"{modality}-")) for place in places]

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
        if _is_whole(shard):
            return shard
        _logger.warning("feature shard %s is damaged: what it held is encoded again", path)
        return None

    def write(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Add rows, ``features`` of shape ``[len(keys), D]``, as one shard.

        Raises:
            ValueError: the features are not finite or not one row a key.
            StorageError: the shard cannot be written; the store is as it was.
        """
        if len(features) != len(keys) or not np.isfinite(features).all():
            raise ValueError(f"{len(keys)} rows of finite features expected, not {features.shape} with NaN or Inf")
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _KEY_BYTES)
        data = save({"keys": packed, "features": np.ascontiguousarray(features, dtype=np.float32)})
        self._write_file(f"{hashlib.sha256(data).hexdigest()}.safetensors", data)

    def keep_only(self, keys: Set[bytes]) -> list[Path]:
        """Drop the rows and refusals of all content but ``keys``, for good, and every shard that is damaged.

        Returns:
            The files that were deleted or written.

        Raises:
            StorageError: a file cannot be written; what it was to replace is as it was.
        """
        touched = []
        for path in sorted(self.folder.glob("*.safetensors")):
            shard = self._read_shard(path) or {"keys": np.zeros((0, _KEY_BYTES), np.uint8)}
            is_kept = np.array([key.tobytes() in keys for key in shard["keys"]], dtype=bool)
            if len(is_kept) and is_kept.all():
                continue
            if is_kept.any():
                self.write([key.tobytes() for key in shard["keys"][is_kept]], shard["features"][is_kept])
            path.unlink()
            touched.append(path)
        manifest = self.folder / "manifest.json"
        try:
            known = json.loads(manifest.read_text(encoding="utf-8"))
            refused = {key: reason for key, reason in known["refused"].items() if bytes.fromhex(key) in keys}
            if touched or refused.keys() != known["refused"].keys():
                shards = sorted(path.name for path in self.folder.glob("*.safetensors"))
                data = json.dumps({**known, "shards": shards, "refused": refused}, indent=1).encode()
                self._write_file(manifest.name, data)
                touched.append(manifest)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            manifest.unlink()  # damaged, so that nobody knows what it holds
            touched.append(manifest)
        return touched

    def _write_file(self, name: str, data: bytes) -> None:
        write_atomically(
            self.folder / name, lambda file: file.write(data), "set feature_cache to another folder for features"
        )

    def read_refusals(self, encoder: Mapping[str, Any]) -> dict[bytes, str]:
        """Content that could not be used, by key, with the reason: it need not be tried again.

        Unless ``encoder`` is described otherwise than in the manifest, as with a new version of a decoder.
        """
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            if manifest["encoder"] != encoder:
                return {}
            return {bytes.fromhex(key): str(reason) for key, reason in manifest["refused"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _logger.warning("%s is damaged: what was refused is tried again", self.folder / "manifest.json")
            return {}

    def write_manifest(self, encoder: Mapping[str, Any], refused: Mapping[bytes, str]) -> None:
        """Say what made the features.

        Args:
            encoder: its name, settings and the versions of its libraries.
            refused: what it could not use, by key, with the reasons.

        Raises:
            StorageError: the manifest cannot be written; the old one is as it was.
        """
        refused = {**self.read_refusals(encoder), **refused}  # another process may have added some
        manifest = {
            "encoder": dict(encoder),
            "fingerprint": self._fingerprint,
            "shards": sorted(path.name for path in self.folder.glob("*.safetensors")),
            "refused": {key.hex(): reason for key, reason in refused.items()},
        }
        self._write_file("manifest.json", json.dumps(manifest, indent=1).encode())

    def sweep_up(self) -> None:
        """Remove the files that killed writers left unfinished."""
        remove_abandoned(self.folder.glob(".*"))


def _is_whole(shard: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a shard holds one finite row of features for each key, whoever wrote it."""
    keys, features = shard.get("keys"), shard.get("features")
    if keys is None or features is None or keys.dtype != np.uint8 or features.dtype != np.float32:
        return False
    is_table = keys.ndim == features.ndim == 2 and keys.shape == (len(features), _KEY_BYTES)
    return is_table and bool(np.isfinite(features).all())
