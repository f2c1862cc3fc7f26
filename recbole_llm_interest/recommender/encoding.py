"""Content of one new item or user, as it comes in, to features as the model knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.errors import ContentError, EncoderError, RequestError
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality


@dataclass(frozen=True)
class Encoded:
    """What the content of one item or user says.

    Attributes:
        content: features by modality, one row each.
        text: its words.
        label: the same at its shortest: the first column.
    """

    content: Content
    text: str
    label: str


class ContentReader:
    """Encodes what one item or user is, by the encoders that the model was trained with.

    Args:
        kind: item or user.
        settings: of the encoders.
        write_text: makes a text of columns, as it was done for the data set.
        widths: of the features that the model knows, by modality.
        fingerprints: of the encoders that made those, by modality, where they are known.
    """

    def __init__(
        self,
        kind: str,
        settings: ContentSettings,
        write_text: Callable[[dict[str, Any]], str],
        widths: Mapping[str, int],
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.fingerprints = dict(fingerprints or {})
        self._kind = kind
        self._settings = settings
        self._write_text = write_text
        self._widths = widths
        self._encoder: Callable[[Modality], Encoder] = cache(lambda modality: create_encoder(modality, settings))

    def read(self, content: Mapping[str, Any]) -> Encoded:
        """Features of one item or user.

        Args:
            content: ``text``, and the path of an ``image`` and of an ``audio`` file; or an array of features, ``[F]``,
                in the place of any; other keys are columns, of which the text is made as it was for the data set.

        Raises:
            RequestError: there is nothing in it that the model knows, or something cannot be used.
            EncoderError: an encoder cannot be had.
        """
        given = dict(content)
        columns = {key: given.pop(key) for key in list(given) if key not in MODALITIES}
        if columns and "text" not in given and (text := self._write_text(columns)):
            given["text"] = text
        found: Content = {name: self._features(name, given[name]) for name in MODALITIES if name in given}
        if not found:
            raise RequestError(f"there is nothing in the {self._kind}'s content: give it text, image or audio")
        text = given["text"] if isinstance(given.get("text"), str) else ""
        return Encoded(found, text, next(map(str, columns.values()), text))

    def find_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the encoders, by modality, as far as these are on this machine and not named by the data."""
        found = dict(self.fingerprints)
        for modality in MODALITIES:
            is_encoded = modality in self._widths and self._imported(modality) is None
            if is_encoded and modality not in found:
                with suppress(EncoderError):
                    found[modality] = self._encoder(modality).fingerprint
        return found

    def _imported(self, modality: Modality) -> str | None:
        """The file that the features came from, made elsewhere; None where an encoder made them."""
        path: str | None = getattr(self._settings, f"{self._kind}_{modality}_features")
        return path

    def _features(self, modality: Modality, value: Any) -> Features:
        if modality not in self._widths:
            known = ", ".join(self._widths) or "none"
            raise RequestError(
                f"the model knows no {modality} of {self._kind}s (it knows {known}): leave it out, or train with it"
            )
        row = self._encode(modality, value) if isinstance(value, (str, Path)) else np.asarray(value, dtype=np.float32)
        if row.shape != (self._widths[modality],) or not np.isfinite(row).all():
            raise RequestError(
                f"the {self._kind}'s {modality} features have to be {self._widths[modality]} finite numbers, not of "
                f"shape {row.shape}"
            )
        return Features(torch.from_numpy(row)[None], torch.ones(1, dtype=torch.bool))

    def _encode(self, modality: Modality, value: str | Path) -> np.ndarray[Any, Any]:
        if (imported := self._imported(modality)) is not None:
            raise RequestError(
                f"{self._kind}s' {modality} features came from {imported}, made elsewhere: give an array of "
                f"{self._widths[modality]} numbers for {modality}"
            )
        path = Path(value)
        piece: Blob = Text(str(value)) if modality == "text" else MediaFile(path.absolute().parent, path.name)
        encoder = self._encoder(modality)
        encoder.prepare()
        if modality in self.fingerprints and encoder.fingerprint != self.fingerprints[modality]:
            raise RequestError(
                f"the {modality} encoder on this machine is not the one that the model was trained with: its weights, "
                f"or the settings by which it is used, differ; name the right one by {modality}_encoder"
            )
        try:
            with piece.open(piece.key()) as opened:
                return encoder.encode([encoder.load(opened)])[0]
        except ContentError as error:
            raise RequestError(f"the {self._kind}'s {modality} {str(value)[:80]!r} cannot be used: {error}") from error
