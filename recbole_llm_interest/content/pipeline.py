"""Collects the features of items or users: each piece of content is encoded once, ever, or features are imported."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm_interest.content.blobs import Blob
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.content.whitening import fit_conditioning
from recbole_llm_interest.errors import ContentError, DataError, EncoderError, is_out_of_memory
from recbole_llm_interest.io.pseudonyms import pseudonym
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality

#: a shard is closed when it has this many rows or is this old: that is all that a kill can lose
SHARD_ROWS = 512
SHARD_SECONDS = 30.0
#: one row of features, ``[D]``
Vector = NDArray[np.float32]
#: features by token
Vectors = dict[str, Vector]
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

    def shown(self, settings: ContentSettings) -> Summary:
        """The summary as it may be shown: users by pseudonyms, unless the settings want their ids."""
        if self.kind == "item" or settings.name_users:
            return self
        return replace(
            self,
            missing=[pseudonym(token) for token in self.missing],
            refused={pseudonym(token): reason for token, reason in self.refused.items()},
        )

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


def collect_content(
    catalogue: Catalogue, tokens: Sequence[str], cache: Path, settings: ContentSettings
) -> tuple[Content, list[Summary]]:
    """Features of ``tokens`` by modality, in that order, with their conditioning, and what became of each modality.

    A modality that no token has is left out.

    Args:
        catalogue: what is known of the items or users.
        tokens: the rows of the result; an empty string is a row that stands for nobody.
        cache: the data set's folder of encoded features.
        settings: which modalities, from where, by which encoder, how conditioned.

    Raises:
        EncoderError: an encoder that is needed cannot be had, or memory runs out.
        DataError: an imported file cannot be used, or the catalogue knows none of the tokens.
        StorageError: features cannot be written to the cache.
    """
    named = {token for token in tokens if token}
    if settings.modalities and catalogue.tokens and named and named.isdisjoint(catalogue.tokens):
        may_show = catalogue.kind == "item" or settings.name_users
        theirs, ours = (
            f" ({_first([*map(repr, words)], ', ')})" if may_show else "" for words in (catalogue.tokens, sorted(named))
        )
        raise DataError(
            f"the content in {catalogue.folder} is of {len(catalogue.tokens)} {catalogue.kind}s{theirs}, none of which "
            f"is among the {len(named)} of the interactions{ours}: rows are matched by {catalogue.id_field}"
        )
    content: Content = {}
    summaries = []
    for modality, rows, summary in collect_rows(catalogue, tokens, cache, settings):
        summaries.append(summary)
        if rows:
            features = align(tokens, rows)
            conditioning = fit_conditioning(
                features, settings.feature_conditioning, settings.conditioning_groups, settings.conditioning_size
            )
            content[modality] = replace(features, conditioning=conditioning)
    return content, summaries


def collect_rows(
    catalogue: Catalogue,
    tokens: Sequence[str],
    cache: Path,
    settings: ContentSettings,
    share: Share | None = None,
) -> list[tuple[Modality, Vectors, Summary]]:
    """Features of each modality as they are, by token. Arguments and errors are those of ``collect_content``.

    ``share`` is the part of what is to be encoded that this process does; the other parts have no rows.
    """
    named = [token for token in tokens if token]
    collected, jobs = [], []
    for modality in (modality for modality in MODALITIES if modality in settings.modalities):
        file: str | None = getattr(settings, f"{catalogue.kind}_{modality}_features")
        source = file if file is not None else str(getattr(settings, f"{modality}_encoder"))
        summary = Summary(catalogue.kind, modality, source, len(named))
        rows: Vectors = {}
        if file is not None:
            rows.update(
                read_features(catalogue.folder / file, named, catalogue.kind, catalogue.id_field, settings.name_users)
            )
            summary.cached = len(rows)
            summary.missing = [token for token in named if token not in rows]
        else:
            blobs = {token: piece for token in named if (piece := catalogue.blobs[modality].get(token)) is not None}
            summary.missing = [token for token in named if token not in blobs]
            if blobs:
                encoder = create_encoder(modality, settings)
                store = FeatureStore(cache, modality, encoder.fingerprint)
                jobs.append((EncodingJob(blobs, encoder, store, summary, share), rows))
        collected.append((modality, rows, summary))
    # What is missing for the last modality is said before hours go into the first.
    for job, _ in jobs:
        job.prepare()
    for job, rows in jobs:
        rows.update(job.run())
    return collected


def align(tokens: Sequence[str], rows: Mapping[str, Vector]) -> Features:
    """Features in the order of ``tokens``, ``[N, D]``; a token without a row is marked as missing."""
    width = len(next(iter(rows.values())))
    values = np.zeros((len(tokens), width), dtype=np.float32)
    present = np.zeros(len(tokens), dtype=bool)
    for index, token in enumerate(tokens):
        if token in rows:
            values[index], present[index] = rows[token], True
    return Features(torch.from_numpy(values), torch.from_numpy(present))


class EncodingJob:
    """Features of one modality by way of the store: each distinct content is encoded once, ever.

    Args:
        blobs: content by token.
        encoder: encodes what the store does not hold.
        store: the encoder's store.
        summary: what was encoded, cached and refused is noted in it; what is refused has no row.
        share: the part of the work that is this process'; None for all.
    """

    def __init__(
        self,
        blobs: Mapping[str, Blob],
        encoder: Encoder,
        store: FeatureStore,
        summary: Summary,
        share: Share | None = None,
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._summary = summary
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._is_quiet = share is not None and share.rank > 0
        self._description = {**encoder.description, "libraries": _versions()}
        self._unreadable: dict[str, str] = {}
        self._keys = self._keys_of(blobs)
        self._rows = store.read(list(self._keys.values()))
        self._refused = store.read_refusals(self._description)
        self._not_now: dict[bytes, str] = {}
        self._work: dict[bytes, Blob] = {}
        for token, key in self._keys.items():
            is_there = key in self._rows or key in self._refused
            if not is_there and (share is None or share.holds(key)):
                self._work[key] = blobs[token]

    def _keys_of(self, blobs: Mapping[str, Blob]) -> dict[str, bytes]:
        def key_of(piece: Blob) -> bytes | str:
            try:
                return piece.key()
            except ContentError as error:
                return str(error)

        title = f"Reading {self._summary.kind}s' {self._summary.modality}"
        # shown only where it takes a while
        with tqdm(self._pool.map(key_of, blobs.values()), title, len(blobs), unit="piece", delay=2) as results:
            found = dict(zip(blobs, results, strict=True))
        self._unreadable = {token: reason for token, reason in found.items() if isinstance(reason, str)}
        return {token: key for token, key in found.items() if isinstance(key, bytes)}

    def prepare(self) -> None:
        """Make sure that what there is to encode can be encoded.

        Raises:
            EncoderError: the encoder's weights or libraries are not there.
        """
        if self._work:
            self._encoder.prepare()

    def run(self) -> Vectors:
        """Encode what the store lacks, and return every row that there is, by token.

        Raises:
            EncoderError: the encoder does not load, or memory runs out; what was encoded by then is in the store.
            StorageError: features cannot be written.
        """
        started = time.perf_counter()
        if self._work:
            title = f"Encoding {self._summary.kind}s' {self._summary.modality}"
            with tqdm(total=len(self._work), desc=title, unit="piece", disable=self._is_quiet) as bar:
                for shard in self._shards(bar):
                    self._store.write(list(shard), np.stack(list(shard.values())))
                    self._rows.update(shard)
            self._store.write_manifest(self._description, self._refused)
        self._store.sweep_up()
        self._pool.shutdown()
        found = {token: self._rows[key] for token, key in self._keys.items() if key in self._rows}
        reasons = {**self._not_now, **self._refused}
        by_token = {token: reasons[key] for token, key in self._keys.items() if key in reasons} | self._unreadable
        self._summary.refused = dict(sorted(by_token.items()))
        self._summary.encoded = sum(self._keys[token] in self._work for token in found)
        self._summary.cached = len(found) - self._summary.encoded
        self._summary.seconds = time.perf_counter() - started
        return found

    def _shards(self, bar: Any) -> Iterator[dict[bytes, Vector]]:
        """Features by key, as soon as a shard is full or old."""
        shard: dict[bytes, Vector] = {}
        opened = time.monotonic()
        # a batch of texts is padded to its longest
        keys = sorted(self._work, key=lambda key: self._work[key].size)
        for start in range(0, len(keys), self._encoder.batch_size):
            batch = keys[start : start + self._encoder.batch_size]
            try:
                loaded = self._load(batch)
                features = self._encoder.encode(list(loaded.values())) if loaded else ()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if shard:
                    yield shard
                modality = self._summary.modality
                raise EncoderError(
                    f"memory ran out while {self._summary.kind}s' {modality} was encoded: lower {modality}_batch_size, "
                    f"which is {self._encoder.batch_size}, or name a smaller encoder; what was encoded so far is kept"
                ) from error
            for key, row in zip(loaded, features, strict=True):
                if np.isfinite(row).all():
                    shard[key] = row
                else:
                    self._refused[key] = "gives features that are not finite"
            bar.update(len(batch))
            if shard and (len(shard) >= SHARD_ROWS or time.monotonic() - opened > SHARD_SECONDS):
                yield shard
                shard, opened = {}, time.monotonic()
        if shard:
            yield shard

    def _load(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """What the encoder makes of each piece before it encodes them together, decoded side by side."""

        def load(key: bytes) -> Any:
            try:
                with self._work[key].open(key) as content:
                    return self._encoder.load(content)
            except ContentError as error:
                return error

        # The first one alone: what loads a model or a library on first use then does so once.
        results = dict(zip(keys, [load(keys[0]), *self._pool.map(load, keys[1:])], strict=True))
        for key, result in results.items():
            if isinstance(result, ContentError):
                (self._refused if result.is_lasting else self._not_now)[key] = str(result)
        return {key: result for key, result in results.items() if not isinstance(result, ContentError)}


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
