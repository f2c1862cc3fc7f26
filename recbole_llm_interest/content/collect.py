"""Collects the features of items or users: each piece of content is encoded once, ever, or features are imported."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.conditioning import fit_conditioning
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.content.imported import read_features
from recbole_llm_interest.content.pieces import Piece
from recbole_llm_interest.content.store import FeatureStore
from recbole_llm_interest.errors import ContentError
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality

#: a shard is closed when it has this many rows or is this old: that is all that a kill can lose
SHARD_ROWS = 512
SHARD_SECONDS = 30.0
_LIBRARIES = (
    *("torch", "transformers", "sentence-transformers", "open_clip_torch", "pillow"),
    *("librosa", "soundfile", "av", "scikit-learn"),
)


@dataclass
class Summary:
    """What became of one modality of the items or users.

    Attributes:
        kind: item or user.
        modality: text, image or audio.
        source: the encoder's name, or the file that features were imported from.
        tokens: how many items or users there are.
        encoded: tokens whose content was encoded now.
        cached: tokens whose features were there already, in the store or in the imported file.
        missing: tokens without this content.
        refused: tokens whose content cannot be used, with the reason.
        seconds: how long it took.
    """

    kind: str
    modality: Modality
    source: str
    tokens: int
    encoded: int = 0
    cached: int = 0
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_lacking(self) -> bool:
        """Whether there is something to mend. That users have no content of a kind at all is the common case."""
        is_used = self.kind == "item" or self.encoded + self.cached > 0
        return bool(self.refused) or (bool(self.missing) and is_used)

    def lines(self) -> list[str]:
        """What is lacking, in words; the first few tokens by name."""
        whose = f"of {self.tokens} {self.kind}s"
        lines = []
        if self.refused:
            named = _first([f"{token!r} {reason}" for token, reason in self.refused.items()], "; ")
            lines.append(f"{len(self.refused)} {whose} have {self.modality} content that cannot be used ({named})")
        if self.missing:
            named = _first([repr(token) for token in self.missing], ", ")
            lines.append(f"{len(self.missing)} {whose} have no {self.modality} ({named})")
        return lines


def _first(words: Sequence[str], separator: str, at_most: int = 5) -> str:
    return separator.join(words[:at_most]) + (f"{separator}…" if len(words) > at_most else "")


def collect_content(
    catalogue: Catalogue, tokens: Sequence[str], kind: str, folder: Path, cache: Path, settings: ContentSettings
) -> tuple[Content, list[Summary]]:
    """Conditioned features of ``tokens`` by modality, in that order, and what became of each modality.

    A modality that no token has is left out.

    Args:
        catalogue: what is known of the items or users.
        tokens: the rows of the result; an empty string is a row that stands for nobody.
        kind: item or user.
        folder: the data set's folder, which imported files are named relative to.
        cache: the data set's folder of encoded features.
        settings: which modalities, from where, by which encoder, how conditioned.

    Raises:
        EncoderError: an encoder that is needed cannot be had.
        DataError: an imported file cannot be used.
    """
    content: Content = {}
    summaries = []
    for modality in (modality for modality in MODALITIES if modality in settings.modalities):
        rows, summary = collect_rows(catalogue, tokens, kind, modality, folder, cache, settings)
        summaries.append(summary)
        if rows:
            features = line_up(tokens, rows)
            conditioning = fit_conditioning(
                features, settings.feature_conditioning, settings.conditioning_groups, settings.conditioning_size
            )
            content[modality] = conditioning.apply(features)
    return content, summaries


def collect_rows(
    catalogue: Catalogue,
    tokens: Sequence[str],
    kind: str,
    modality: Modality,
    folder: Path,
    cache: Path,
    settings: ContentSettings,
    share: Share | None = None,
) -> tuple[dict[str, NDArray[np.float32]], Summary]:
    """Features of one modality as they are, by token, each of shape ``[D]``.

    Arguments and errors are those of ``collect_content``; ``share`` is that of ``encode``.
    """
    started = time.perf_counter()
    named = [token for token in tokens if token]
    file: str | None = getattr(settings, f"{kind}_{modality}_features")
    if file is not None:
        rows = read_features(folder / file, named, kind)
        missing = [token for token in named if token not in rows]
        summary = Summary(kind, modality, file, len(named), cached=len(rows), missing=missing)
    else:
        pieces = {token: piece for token in named if (piece := catalogue.pieces[modality].get(token)) is not None}
        summary = Summary(kind, modality, str(getattr(settings, f"{modality}_encoder")), len(named))
        rows = {}
        if pieces:
            encoder = create_encoder(modality, settings)
            store = FeatureStore(cache, modality, encoder.fingerprint)
            rows = encode(pieces, encoder, store, summary, share)
        summary.missing = [token for token in named if token not in pieces]
    summary.seconds = time.perf_counter() - started
    return rows, summary


def line_up(tokens: Sequence[str], rows: Mapping[str, NDArray[np.float32]]) -> Features:
    """Features in the order of ``tokens``, ``[N, D]``; a token without a row is marked as missing."""
    width = len(next(iter(rows.values())))
    values = np.zeros((len(tokens), width), dtype=np.float32)
    present = np.zeros(len(tokens), dtype=bool)
    for index, token in enumerate(tokens):
        if token in rows:
            values[index], present[index] = rows[token], True
    return Features(torch.from_numpy(values), torch.from_numpy(present))


@dataclass(frozen=True)
class Share:
    """The part of the work that one of several processes does.

    Attributes:
        rank: the process' number, from 0.
        world_size: the number of processes.
    """

    rank: int
    world_size: int

    def holds(self, key: bytes) -> bool:
        """Whether the content is this process': told by its hash, so whatever the others have done already."""
        return int.from_bytes(key[:8]) % self.world_size == self.rank


def encode(
    pieces: Mapping[str, Piece],
    encoder: Encoder,
    store: FeatureStore,
    summary: Summary,
    share: Share | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Features by token, each of shape ``[D]``, by way of the store: each distinct content is encoded once, ever.

    Args:
        pieces: content by token.
        encoder: encodes what the store does not hold.
        store: the encoder's store.
        summary: what was encoded, cached and refused is noted in it; what is refused has no row.
        share: encode only this part of what is not there; other parts that are not there yet have no row.
    """
    keys, unreadable = _keys_of(pieces)
    description = {**encoder.description, "libraries": _versions()}
    refused = store.read_refusals(description)
    rows = store.read(list(keys.values()))
    work: dict[bytes, Piece] = {}
    for token, key in keys.items():
        if key not in rows and key not in refused and (share is None or share.holds(key)):
            work[key] = pieces[token]
    if work:
        title = f"Encoding {summary.kind}s' {summary.modality}"
        with tqdm(total=len(work), desc=title, unit="piece", disable=share is not None and share.rank > 0) as bar:
            for shard in _encode_in_shards(work, encoder, refused, bar):
                store.write(list(shard), np.stack(list(shard.values())))
                rows.update(shard)
        store.write_manifest(description, refused)
    found = {token: rows[key] for token, key in keys.items() if key in rows}
    summary.encoded = sum(keys[token] in work for token in found)
    summary.cached = len(found) - summary.encoded
    reasons = {**unreadable, **{token: refused[key] for token, key in keys.items() if key in refused}}
    summary.refused = {token: reasons[token] for token in pieces if token in reasons}
    return found


def _keys_of(pieces: Mapping[str, Piece]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Each token's key, and why those that have none cannot be read."""
    keys, unreadable = {}, {}
    for token, piece in pieces.items():
        try:
            keys[token] = piece.key()
        except ContentError as error:
            unreadable[token] = str(error)
    return keys, unreadable


def _encode_in_shards(
    work: Mapping[bytes, Piece], encoder: Encoder, refused: dict[bytes, str], bar: Any
) -> Iterator[dict[bytes, NDArray[np.float32]]]:
    """Shards of features by key, as soon as each is full or old."""
    shard: dict[bytes, NDArray[np.float32]] = {}
    opened = time.monotonic()
    keys = sorted(work, key=lambda key: work[key].size)  # a batch of texts is padded to its longest
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(keys), encoder.batch_size):
            batch = keys[start : start + encoder.batch_size]
            loaded = _load_all({key: work[key] for key in batch}, encoder, refused, pool)
            features = encoder.encode(list(loaded.values())) if loaded else ()
            for key, row in zip(loaded, features, strict=True):
                if np.isfinite(row).all():
                    shard[key] = row
                else:
                    refused[key] = "gives features that are not finite"
            bar.update(len(batch))
            if shard and (len(shard) >= SHARD_ROWS or time.monotonic() - opened > SHARD_SECONDS):
                yield shard
                shard, opened = {}, time.monotonic()
    if shard:
        yield shard


def _load_all(
    batch: Mapping[bytes, Piece], encoder: Encoder, refused: dict[bytes, str], pool: Executor
) -> dict[bytes, Any]:
    """What the encoder makes of each piece before it encodes them together, decoded side by side."""

    def load(piece: Piece) -> tuple[Any, str | None]:
        try:
            with piece.open() as content:
                return encoder.load(content), None
        except ContentError as error:
            return None, str(error)

    pieces = list(batch.values())
    # The first one alone: what loads a model or a library on first use then does so once.
    results = [load(pieces[0]), *pool.map(load, pieces[1:])]
    refused.update({key: reason for key, (_, reason) in zip(batch, results, strict=True) if reason is not None})
    return {key: loaded for key, (loaded, reason) in zip(batch, results, strict=True) if reason is None}


def _versions() -> dict[str, str]:
    """Those of the installed libraries that features depend on."""
    return {name: version for name in _LIBRARIES if (version := installed_version(name)) is not None}


@functools.cache
def installed_version(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
