"""Encodes the content of single items or users that are new to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.errors import ContentError, EncoderError, RequestError
from recbole_llm_interest.recommender.known_columns import KnownColumns
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality


@dataclass(frozen=True)
class Encoded:
    """The encoded content of one item or user.

    Attributes:
        content: features by modality, ``[1, F]`` each.
        text: its text.
        label: its title: the first column, or else the text.

    Example:
        >>> Encoded({}, text="title: Bread", label="Bread").label
        'Bread'
    """

    content: Content
    text: str
    label: str


class ContentReader:
    """Encodes items or users with the encoders that the model was trained with.

    Args:
        kind: item or user.
        settings: of the encoders.
        write_text: makes a text from columns as in training.
        columns: that texts of training have.
        widths: of the model's features, by modality.
        fingerprints: of the encoders of training, by modality, where they are known.

    Example:
        >>> reader = recommender._trained.item_reader
        >>> encoded = reader.read({"title": "A film about tides"})
        >>> encoded.content["text"].present
        tensor([True])
    """

    def __init__(
        self,
        kind: str,
        settings: ContentSettings,
        write_text: Callable[[dict[str, Any]], str],
        columns: KnownColumns,
        widths: Mapping[str, int],
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.fingerprints = dict(fingerprints or {})
        self._kind = kind
        self._settings = settings
        self._write_text = write_text
        self._columns = columns
        self._widths = widths
        self._encoder: Callable[[Modality], Encoder] = cache(lambda modality: create_encoder(modality, settings))

    def read(self, content: Mapping[str, Any]) -> Encoded:
        """Encode one item or user.

        Args:
            content: ``text``, paths of ``image`` and ``audio`` files, which may also be named by the columns of
                ``content/*.jsonl``, or arrays of features, ``[F]``, instead of them; other keys are columns from which
                the text is made as in training. So is ``text`` if texts of training have a column of that name.

        Raises:
            RequestError: it is no mapping, has a column that no text of training has, has no modality that the model
                uses, or a part of it cannot be used.
            EncoderError: an encoder cannot be loaded.
        """
        given, columns = self._split(content)
        if columns and "text" not in given:
            self._columns.check(self._kind, columns)
            if text := self._write_text(self._columns.in_order(columns)):
                given["text"] = text
        encoded: Content = {name: self._features(name, given[name]) for name in MODALITIES if name in given}
        if not encoded:
            raise RequestError(f"the {self._kind}'s content is empty: give text, image or audio")
        text = given["text"] if isinstance(given.get("text"), str) else ""
        return Encoded(encoded, text, next(map(str, columns.values()), text))

    def known(self, columns: Iterable[str]) -> list[str]:
        """Those of some columns that are parts of texts of training. Files and whole texts are not among them."""
        reserved = {*MODALITIES, *MEDIA_COLUMNS.values()} - ({"text"} if self._columns.has_text else set())
        return [name for name in columns if name not in reserved and self._columns.has(name)]

    def _split(self, content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is given of each modality, and the columns of a text."""
        if not hasattr(content, "keys"):  # a row of a DataFrame has them, too
            raise RequestError(
                f"the {self._kind}'s content is a {type(content).__name__}, no mapping: did you mean {{'text': …}}?"
            )
        renamed = {key: content[key] for key in content.keys() if key != self._columns.id_field}  # noqa: SIM118
        for modality, column in MEDIA_COLUMNS.items():
            if column in renamed:
                renamed[modality] = renamed.pop(column)
        whole = {*MODALITIES}
        if isinstance(renamed.get("text"), str) and self._columns.has_text:
            whole.remove("text")
        return renamed, {key: renamed.pop(key) for key in list(renamed) if key not in whole}

    def find_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the encoders, by modality: those of training, or else of the encoders on this machine."""
        fingerprints = dict(self.fingerprints)
        for modality in MODALITIES:
            is_encoded = modality in self._widths and self._precomputed(modality) is None
            if is_encoded and modality not in fingerprints:
                with suppress(EncoderError):
                    fingerprints[modality] = self._encoder(modality).fingerprint
        return fingerprints

    def _precomputed(self, modality: Modality) -> str | None:
        """The file of the precomputed features; None if an encoder made them."""
        path: str | None = getattr(self._settings, f"{self._kind}_{modality}_features", None)  # events have none
        return path

    def _features(self, modality: Modality, value: Any) -> Features:
        if modality not in self._widths:
            known = ", ".join(self._widths) or "none"
            raise RequestError(
                f"the model has no {modality} of {self._kind}s (it has {known}): leave it out, or train with it"
            )
        row = self._encode(modality, value) if isinstance(value, (str, Path)) else self._numbers(modality, value)
        if row.shape != (self._widths[modality],) or not np.isfinite(row).all():
            raise RequestError(
                f"the {self._kind}'s {modality} features must be {self._widths[modality]} finite numbers, and have "
                f"shape {row.shape}"
            )
        return Features(torch.from_numpy(row)[None], torch.ones(1, dtype=torch.bool))

    def _numbers(self, modality: Modality, value: Any) -> NDArray[np.float32]:
        try:
            return np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise RequestError(f"the {self._kind}'s {modality} {value!r:.80} is neither text nor numbers") from error

    def _encode(self, modality: Modality, value: str | Path) -> np.ndarray[Any, Any]:
        if (file := self._precomputed(modality)) is not None:
            raise RequestError(
                f"the model was trained with precomputed {modality} features of {self._kind}s from {file}: give an "
                f"array of {self._widths[modality]} numbers for {modality}"
            )
        path = Path(value)
        blob: Blob = Text(str(value)) if modality == "text" else MediaFile(path.absolute().parent, path.name)
        encoder = self._encoder(modality)
        encoder.prepare()
        if modality in self.fingerprints and encoder.fingerprint != self.fingerprints[modality]:
            raise RequestError(
                f"the {modality} encoder on this machine is not the one that the model was trained with: its weights "
                f"or settings differ; name that one by {modality}_encoder"
            )
        try:
            with blob.open(blob.key()) as opened:
                return encoder.encode([encoder.load(opened)])[0]
        except ContentError as error:
            raise RequestError(f"the {self._kind}'s {modality} {str(value)[:80]!r} cannot be used: {error}") from error
