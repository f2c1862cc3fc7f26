"""Encodes what is not in the feature store yet, and lines features up with a list of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from recbole_llm_interest.content.catalogue import Texts
from recbole_llm_interest.content.encoders import Encoder
from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.store import FeatureStore, content_key

#: rows a shard: what a kill can lose
SHARD_ROWS = 512


def encode_texts(
    texts: Texts, tokens: Sequence[str], encoder: Encoder, store: FeatureStore, description: str
) -> Features:
    """Features of ``tokens``, in that order, by way of the store; each distinct text is encoded once, ever.

    Args:
        texts: token -> text. A token that is not in it has no content.
        tokens: the rows of the result, ``N`` of them; at least one has content.
        encoder: encodes what the store does not hold.
        store: the encoder's store.
        description: what the progress bar says.

    Returns:
        Features of shape ``[N, D]``.
    """
    keys = {text: content_key(text) for text in (texts[token] for token in tokens if token in texts)}
    rows = store.read(list(keys.values()))
    # Texts of like length together: a batch is padded to its longest.
    missing = sorted((text for text, key in keys.items() if key not in rows), key=len)
    with tqdm(total=len(missing), desc=description, unit="text", disable=not missing) as bar:
        for start in range(0, len(missing), SHARD_ROWS):
            shard = missing[start : start + SHARD_ROWS]
            batches = []
            for first in range(0, len(shard), encoder.batch_size):
                batches.append(encoder.encode(shard[first : first + encoder.batch_size]))
                bar.update(len(batches[-1]))
            features = np.concatenate(batches)
            shard_keys = [keys[text] for text in shard]
            store.write(shard_keys, features)
            rows.update(zip(shard_keys, features, strict=True))
    width = len(next(iter(rows.values())))
    values = np.zeros((len(tokens), width), dtype=np.float32)
    present = np.zeros(len(tokens), dtype=bool)
    for index, token in enumerate(tokens):
        if token in texts:
            values[index], present[index] = rows[keys[texts[token]]], True
    return Features(torch.from_numpy(values), torch.from_numpy(present))
