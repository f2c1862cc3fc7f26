"""Encodes the content that the feature store lacks, and writes the features in shards."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_llm_interest.cluster import Executor
from recbole_llm_interest.cluster.local import LocalExecutor
from recbole_llm_interest.content.batch_encoder import BatchEncoder, EncodedBatch, Vector
from recbole_llm_interest.content.blobs import Blob
from recbole_llm_interest.content.encoders import Encoder
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.media import READER_VERSION
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.errors import ContentError, EncoderError, is_out_of_memory

#: limits at which a shard is written; a kill loses at most one shard
SHARD_ROWS = 512
SHARD_SECONDS = 30.0
#: packages whose versions every manifest states, beside those of its encoder; rejected content is tried again when a
#: version changes, and manifests of earlier releases have this list
_LIBRARIES = (
    *("torch", "transformers", "sentence-transformers", "open_clip_torch", "pillow"),
    *("librosa", "soundfile", "av", "scikit-learn"),
)


@dataclass(frozen=True)
class Partition:
    """The part of the content that one of several processes encodes.

    Attributes:
        rank: number of the process, from 0.
        world_size: number of processes.
    """

    rank: int
    world_size: int

    def contains(self, key: bytes) -> bool:
        """Whether content with this key belongs to the process. It does not depend on what others have done."""
        return int.from_bytes(key[:8]) % self.world_size == self.rank


class EncodingJob:
    """Reads features of one modality from the store, and encodes content that is not in it.

    Contents are identified by their hash, so equal contents are encoded once.

    Args:
        blobs: content by token.
        encoder: encodes what the store lacks.
        store: of the encoder's features.
        summary: gets the counts and the reasons of rejections. Rejected content has no features.
        partition: the part that this process encodes; None for all.
        executor: encodes batches; None for this process.
        make_worker: makes what encodes them, for an executor; None for ``encoder`` in this process.
    """

    def __init__(
        self,
        blobs: Mapping[str, Blob],
        encoder: Encoder,
        store: FeatureStore,
        summary: EncodingSummary,
        partition: Partition | None = None,
        executor: Executor | None = None,
        make_worker: Callable[[], BatchEncoder] | None = None,
    ) -> None:
        self.summary = summary
        self._encoder = encoder
        self._store = store
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._executor = LocalExecutor() if executor is None else executor
        self._make_worker = make_worker or functools.partial(BatchEncoder, encoder, self._pool)
        self._hides_progress = partition is not None and partition.rank > 0
        self._description = {**encoder.description, "libraries": _versions(tuple(encoder.packages))}
        self._keys, self._unreadable = self._read_keys(blobs)
        self._vectors = store.read(list(self._keys.values()))
        self._rejected = store.read_rejections(self._description)
        #: by key, reasons that may not apply in another run
        self._failed: dict[bytes, str] = {}
        self._pending = {
            key: blobs[token]
            for token, key in self._keys.items()
            if key not in self._vectors and key not in self._rejected
            if partition is None or partition.contains(key)
        }

    def _read_keys(self, blobs: Mapping[str, Blob]) -> tuple[dict[str, bytes], dict[str, str]]:
        """Return the keys of readable content, and the reasons for content that cannot be read, by token."""

        def read_key(blob: Blob) -> bytes | str:
            try:
                return blob.key()
            except ContentError as error:
                return str(error)

        title = f"Reading {self.summary.kind}s' {self.summary.modality}"
        # The delay hides the bar of a short task.
        with tqdm(self._pool.map(read_key, blobs.values()), title, len(blobs), unit="item", delay=2) as progress:
            results = dict(zip(blobs, progress, strict=True))
        keys = {token: key for token, key in results.items() if isinstance(key, bytes)}
        return keys, {token: reason for token, reason in results.items() if isinstance(reason, str)}

    def prepare(self) -> None:
        """Check that the encoder can run, if there is content to encode.

        Raises:
            EncoderError: its weights or packages are missing.
        """
        if self._pending:
            self._encoder.prepare()

    def run(self) -> dict[str, Vector]:
        """Encode what the store lacks.

        Returns:
            Features by token, each ``[D]``.

        Raises:
            EncoderError: the encoder does not load, or memory runs out; what was encoded before is in the store.
            StorageError: features cannot be written.
        """
        started = time.perf_counter()
        if self._pending:
            title = f"Encoding {self.summary.kind}s' {self.summary.modality}"
            with tqdm(total=len(self._pending), desc=title, unit="item", disable=self._hides_progress) as progress:
                for shard in self._encode_shards(progress):
                    self._store.write(list(shard), np.stack(list(shard.values())))
                    self._vectors.update(shard)
            self._store.write_manifest(self._description, self._rejected)
        self._store.remove_unfinished()
        self._pool.shutdown()
        vectors = {token: self._vectors[key] for token, key in self._keys.items() if key in self._vectors}
        self._summarize(vectors, time.perf_counter() - started)
        return vectors

    def _summarize(self, vectors: Mapping[str, Vector], seconds: float) -> None:
        reasons = {**self._failed, **self._rejected}
        by_token = {token: reasons[key] for token, key in self._keys.items() if key in reasons} | self._unreadable
        self.summary.refused = dict(sorted(by_token.items()))
        self.summary.encoded = sum(self._keys[token] in self._pending for token in vectors)
        self.summary.cached = len(vectors) - self.summary.encoded
        self.summary.seconds = seconds

    def _encode_shards(self, progress: Any) -> Iterator[dict[bytes, Vector]]:
        """Yield features by key, whenever a shard reaches a limit.

        Raises:
            EncoderError: memory runs out; the features of earlier batches are yielded before.
        """
        shard: dict[bytes, Vector] = {}
        opened = time.monotonic()
        try:
            for batch in self._encode_batches():
                self._rejected.update(batch.rejected)
                self._failed.update(batch.failed)
                shard.update(batch.features)
                progress.update(len(batch))
                if shard and (len(shard) >= SHARD_ROWS or time.monotonic() - opened > SHARD_SECONDS):
                    yield shard
                    shard, opened = {}, time.monotonic()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if shard:
                yield shard
            raise self._out_of_memory_error() from error
        if shard:
            yield shard

    def _encode_batches(self) -> Iterator[EncodedBatch]:
        """Encode pending content in batches of similar sizes, because texts are padded to the longest."""
        keys = sorted(self._pending, key=lambda key: self._pending[key].size)
        size = self._encoder.batch_size
        batches = (
            {key: self._pending[key] for key in keys[start : start + size]} for start in range(0, len(keys), size)
        )
        return self._executor.map(self._make_worker, batches, uses_gpu=self._encoder.needs_weights, ahead=1)

    def _out_of_memory_error(self) -> EncoderError:
        kind, modality = self.summary.kind, self.summary.modality
        return EncoderError(
            f"out of memory while encoding {kind}s' {modality}: lower {modality}_batch_size, which is "
            f"{self._encoder.batch_size}, or use a smaller encoder; what was encoded so far is kept"
        )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of installed packages, and of this one's reader of media, that features depend on."""
    versions = {name: installed_version(name) for name in (*_LIBRARIES, *packages)}
    return {name: version for name, version in versions.items() if version is not None} | {"media": READER_VERSION}


@functools.cache
def installed_version(package: str) -> str | None:
    """Return a package's version; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
