"""Collects the features of items or users: precomputed, cached, or encoded now. Without torch, unless it is needed.

One job per modality: all jobs are prepared before the first one runs, so that missing weights of the last modality are
reported before hours of encoding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recbole_llm_interest.cluster import Executor
from recbole_llm_interest.content.batch_encoder import BatchEncoder, Vector, create_batch_encoder
from recbole_llm_interest.content.blobs import Blob, MediaFile
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.content.encoders.vocabulary import warn_of_unread_letters
from recbole_llm_interest.content.encoding_job import EncodingJob, Partition
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality


@dataclass(frozen=True)
class CollectedFeatures:
    """Features of one modality, without conditioning.

    Attributes:
        vectors: by token, each ``[D]``; empty if no token has any.
        summary: the counts.
    """

    vectors: Mapping[str, Vector]
    summary: EncodingSummary


class _Job(Protocol):
    """Provides the features of one modality."""

    summary: EncodingSummary

    def prepare(self) -> None: ...

    def run(self) -> Mapping[str, Vector]: ...


@dataclass
class _FinishedJob:
    """Features that need no encoding."""

    summary: EncodingSummary
    vectors: Mapping[str, Vector]

    def prepare(self) -> None:
        pass

    def run(self) -> Mapping[str, Vector]:
        return self.vectors


def collect_features(
    catalogue: Catalogue,
    tokens: Sequence[str],
    cache: Path,
    settings: ContentSettings,
    partition: Partition | None = None,
    executor: Executor | None = None,
) -> list[CollectedFeatures]:
    """Collect the features of ``tokens`` for each modality, without conditioning.

    Args:
        catalogue: as for ``collect_content``.
        tokens: as for ``collect_content``.
        cache: as for ``collect_content``.
        settings: as for ``collect_content``.
        partition: what this process encodes; content of other processes has no features here. None for all.
        executor: encodes what the cache lacks; None for this process.

    Raises:
        EncoderError: as for ``collect_content``.
        DataError: as for ``collect_content``.
        StorageError: as for ``collect_content``.
        ProcessError: workers of the executor were killed again and again; what was encoded before is in the cache.
    """
    known = [token for token in tokens if token]
    modalities = [modality for modality in MODALITIES if modality in settings.modalities]
    jobs = [_create_job(modality, catalogue, known, cache, settings, partition, executor) for modality in modalities]
    for job in jobs:
        job.prepare()
    return [CollectedFeatures(job.run(), job.summary) for job in jobs]


def _create_job(
    modality: Modality,
    catalogue: Catalogue,
    tokens: Sequence[str],
    cache: Path,
    settings: ContentSettings,
    partition: Partition | None,
    executor: Executor | None,
) -> _Job:
    file: str | None = getattr(settings, f"{catalogue.kind}_{modality}_features", None)  # events have none
    source = file if file is not None else str(getattr(settings, f"{modality}_encoder"))
    summary = EncodingSummary(catalogue.kind, modality, source, len(tokens))
    if file is not None:
        return _read_precomputed(catalogue, tokens, file, settings, summary)
    by_token = catalogue.blobs[modality]
    blobs = {token: by_token[token] for token in tokens if token in by_token}
    summary.missing = [token for token in tokens if token not in blobs]
    if not blobs:
        return _FinishedJob(summary, {})
    encoder = create_encoder(modality, settings)
    warn_of_unread_letters(encoder, blobs.values(), f"{catalogue.kind}s")
    store = FeatureStore(cache, modality, encoder.fingerprint)
    is_remote = executor is not None and executor.is_remote
    make_worker = _remote_encoder(modality, settings, encoder, blobs.values()) if is_remote else None
    return EncodingJob(blobs, encoder, store, summary, partition, executor, make_worker)


def _read_precomputed(
    catalogue: Catalogue, tokens: Sequence[str], file: str, settings: ContentSettings, summary: EncodingSummary
) -> _FinishedJob:
    # imported here because formats of features need torch, which takes seconds
    from recbole_llm_interest.content.precomputed import read_features

    path = catalogue.folder / file
    vectors = read_features(path, tokens, catalogue.kind, catalogue.id_field, settings.name_users)
    summary.cached = len(vectors)
    summary.missing = [token for token in tokens if token not in vectors]
    return _FinishedJob(summary, vectors)


def _remote_encoder(
    modality: Modality, settings: ContentSettings, encoder: Encoder, blobs: Iterable[Blob]
) -> Callable[[], BatchEncoder]:
    """Return what makes the same encoder in another process, which loads its weights there."""
    folders = {blob.root for blob in blobs if isinstance(blob, MediaFile)}
    return functools.partial(create_batch_encoder, modality, settings, encoder.fingerprint, folders)
