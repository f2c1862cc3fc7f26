"""Reads what is given of live events, or before a choice, as the numbers that the model reads of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_llm_interest.content.event_catalogue import EventCatalogue, EventKey
from recbole_llm_interest.content.event_fields import code_field, content_field
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.content.text_template import as_text, without_point
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.model.event_encoder import SideInformationEncoder
from recbole_llm_interest.model.event_neighbours import EventNeighbourLookup
from recbole_llm_interest.recommender.encoding import ContentReader


class EventReader:
    """Reads columns of events as the model was trained with them. Callers turn gradients off.

    Args:
        encoder: of the model's side information.
        content: encodes new content; None if the model reads no content of events.
        recorded: of the data set; None without a data set.
        neighbours: looks up the neighbours of events by their content, whose codes follow the side information; None
            for none.

    Example:
        >>> from recbole_llm_interest.content.event_fields import EventField
        >>> device = EventField.fitted("device", ["phone", "desk"])
        >>> EventReader(SideInformationEncoder("event", 8, None, [device]), None).read({"device": "phone"}).shape
        torch.Size([8])
    """

    def __init__(
        self,
        encoder: SideInformationEncoder,
        content: ContentReader | None,
        recorded: EventCatalogue | None = None,
        neighbours: EventNeighbourLookup | None = None,
    ) -> None:
        self._encoder = encoder
        self._content = content
        self._recorded = recorded
        self._neighbours = neighbours

    def find_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the encoders, by modality; see ``ContentReader``."""
        return {} if self._content is None else self._content.find_fingerprints()

    def known(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some columns that the model reads, with their values."""
        names = {field.name for field in self._encoder.fields}
        names.update(() if self._content is None else self._content.known(columns))
        return {name: value for name, value in columns.items() if name in names}

    def read(self, columns: Mapping[str, Any] | None) -> Tensor:
        """What is read of one event, ``[W]``; zeros where nothing is known. Empty values are no content.

        Raises:
            RequestError: a column is none of those of training, or content cannot be used.
        """
        given = {name: without_point(value) for name, value in (columns or {}).items() if _is_given(value)}
        values = {field.name: given.pop(field.name) for field in self._encoder.fields if field.name in given}
        content = self._read_content(given) if given else {}
        total = self._encoder.encode(values, content)
        return total if self._neighbours is None else torch.cat([total, self._codes(self._neighbours, content)])

    @staticmethod
    def _codes(neighbours: EventNeighbourLookup, content: Content) -> Tensor:
        """Codes of the neighbours of one event by its content, one after another, ``[M K]``."""
        device = neighbours.get_buffer("codes").device
        if not content:
            return torch.zeros(neighbours.shape, device=device).flatten()
        features = {name: one.values.to(device) for name, one in content.items()}
        return neighbours.encode(features, {name: one.present.to(device) for name, one in content.items()}).flatten()

    def _read_content(self, given: Mapping[str, Any]) -> Content:
        if self._content is None:
            known = ", ".join(field.name for field in self._encoder.fields)
            raise RequestError(f"the model reads no {', '.join(given)} of events: it reads {known}")
        return self._content.read(given).content

    def recorded(self, user: str, items: Sequence[str], times: Sequence[float]) -> Tensor:
        """What is read of a user's events in the data set, ``[L, W]``."""
        keys = [EventKey(user, item, time) for item, time in zip(items, times, strict=True)]
        if self._recorded is None:
            return torch.stack([self.read(None) for _ in keys]) if keys else self.read(None)[None][:0]
        device = next(self._encoder.parameters()).device
        rows = torch.from_numpy(self._recorded.rows_of(keys)).to(device)
        features = {content_field(self._encoder.kind): rows}
        for field in self._encoder.fields:
            values = self._recorded.values_of(field.name, keys)
            codes = torch.tensor([field.code(value) for value in values], dtype=torch.long, device=device)
            features[code_field(self._encoder.kind, field.name)] = codes
        total = self._encoder(features)
        if self._neighbours is None:
            return total
        return torch.cat([total, self._neighbours(rows[None])[0].flatten(1)], dim=1)


def _is_given(value: Any) -> bool:
    """Whether a value is not empty; features of a modality are an array."""
    return isinstance(value, np.ndarray | Tensor) or bool(as_text(value))
