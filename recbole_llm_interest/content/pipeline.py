"""Collects the features of items or users: precomputed, cached, or encoded now.

One job per modality: all jobs are prepared before the first one runs, so that missing weights of the last modality are
reported before hours of encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.encoding_job import EncodingJob, Partition, Vector
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.content.summary import EncodingSummary, first_words
from recbole_llm_interest.content.whitening import fit_conditioning
from recbole_llm_interest.errors import DataError
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


def collect_content(
    catalogue: Catalogue, tokens: Sequence[str], cache: Path, settings: ContentSettings
) -> tuple[Content, list[EncodingSummary]]:
    """Collect the features of ``tokens`` by modality, with their conditioning.

    Args:
        catalogue: the content of items or users.
        tokens: in the order of the features' rows; the row of an empty string is padding.
        cache: the data set's folder of encoded features.
        settings: modalities, sources, encoders and conditioning.

    Returns:
        Features by modality, each ``[N, D]``, without modalities that no token has; and the summary of each modality.

    Raises:
        EncoderError: a required encoder is not available, or memory runs out.
        DataError: a file of precomputed features cannot be used, or the catalogue has none of the tokens.
        StorageError: features cannot be written to the cache.
    """
    _check_overlap(catalogue, tokens, settings)
    content: Content = {}
    collected = collect_features(catalogue, tokens, cache, settings)
    for one in collected:
        if one.vectors:
            features = align(tokens, one.vectors)
            conditioning = fit_conditioning(
                features, settings.feature_conditioning, settings.conditioning_groups, settings.conditioning_size
            )
            content[one.summary.modality] = replace(features, conditioning=conditioning)
    return content, [one.summary for one in collected]


def _check_overlap(catalogue: Catalogue, tokens: Sequence[str], settings: ContentSettings) -> None:
    """Check that the catalogue has content of at least one token.

    Raises:
        DataError: it has content of other tokens only.
    """
    known = {token for token in tokens if token}
    if not settings.modalities or not catalogue.tokens or not known or not known.isdisjoint(catalogue.tokens):
        return
    may_show = catalogue.kind == "item" or settings.name_users
    in_catalogue, in_interactions = (
        f" ({first_words([*map(repr, words)])})" if may_show else "" for words in (catalogue.tokens, sorted(known))
    )
    raise DataError(
        f"the content in {catalogue.folder} is of {len(catalogue.tokens)} {catalogue.kind}s{in_catalogue}, none of "
        f"which is among the {len(known)} of the interactions{in_interactions}: content is matched by "
        f"{catalogue.id_field}"
    )


def collect_features(
    catalogue: Catalogue,
    tokens: Sequence[str],
    cache: Path,
    settings: ContentSettings,
    partition: Partition | None = None,
) -> list[CollectedFeatures]:
    """Collect the features of ``tokens`` for each modality, without conditioning.

    Args:
        catalogue: as for ``collect_content``.
        tokens: as for ``collect_content``.
        cache: as for ``collect_content``.
        settings: as for ``collect_content``.
        partition: what this process encodes; content of other processes has no features here. None for all.

    Raises:
        EncoderError: as for ``collect_content``.
        DataError: as for ``collect_content``.
        StorageError: as for ``collect_content``.
    """
    known = [token for token in tokens if token]
    modalities = [modality for modality in MODALITIES if modality in settings.modalities]
    jobs = [_create_job(modality, catalogue, known, cache, settings, partition) for modality in modalities]
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
) -> _Job:
    file: str | None = getattr(settings, f"{catalogue.kind}_{modality}_features")
    source = file if file is not None else str(getattr(settings, f"{modality}_encoder"))
    summary = EncodingSummary(catalogue.kind, modality, source, len(tokens))
    if file is not None:
        path = catalogue.folder / file
        vectors = read_features(path, tokens, catalogue.kind, catalogue.id_field, settings.name_users)
        summary.cached = len(vectors)
        summary.missing = [token for token in tokens if token not in vectors]
        return _FinishedJob(summary, vectors)
    by_token = catalogue.blobs[modality]
    blobs = {token: by_token[token] for token in tokens if token in by_token}
    summary.missing = [token for token in tokens if token not in blobs]
    if not blobs:
        return _FinishedJob(summary, {})
    encoder = create_encoder(modality, settings)
    return EncodingJob(blobs, encoder, FeatureStore(cache, modality, encoder.fingerprint), summary, partition)


def align(tokens: Sequence[str], vectors: Mapping[str, Vector]) -> Features:
    """Return features in the order of ``tokens``, ``[N, D]``; tokens without a vector are marked as missing.

    Args:
        tokens: one for each row.
        vectors: by token, each ``[D]``; at least one.
    """
    width = len(next(iter(vectors.values())))
    values = np.zeros((len(tokens), width), dtype=np.float32)
    present = np.zeros(len(tokens), dtype=bool)
    for index, token in enumerate(tokens):
        if token in vectors:
            values[index], present[index] = vectors[token], True
    return Features(torch.from_numpy(values), torch.from_numpy(present))
