"""The features of a model's items or users, with their conditioning, from what ``collection`` collects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.content.batch_encoder import Vector
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.collection import collect_features
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.content.summary import EncodingSummary, first_words
from recbole_llm_interest.content.whitening import fit_conditioning
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import ContentSettings

_logger = logging.getLogger(__name__)


def collect_content(
    catalogue: Catalogue,
    tokens: Sequence[str],
    cache: Path,
    settings: ContentSettings,
    fitted: NDArray[np.bool_] | None = None,
) -> tuple[Content, list[EncodingSummary]]:
    """Collect the features of ``tokens`` by modality, with their conditioning.

    Args:
        catalogue: the content of items or users.
        tokens: in the order of the features' rows; the row of an empty string is padding.
        cache: the data set's folder of encoded features.
        settings: modalities, sources, encoders and conditioning.
        fitted: the rows that the conditioning is fitted on, ``[N]``; None for all.

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
            known = features
            if fitted is not None:
                known = replace(features, present=features.present & torch.from_numpy(fitted))
            if not known.present.any():
                _logger.warning("no %s of training has %s: it is not read", catalogue.kind, one.summary.modality)
                continue
            kind, groups, size = settings.feature_conditioning, settings.conditioning_groups, settings.conditioning_size
            conditioning = fit_conditioning(known, kind, groups, size)
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
