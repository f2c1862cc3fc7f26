"""Represents an event: its item, the features of its time, and what else is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_fields import EventField, EventKind, code_field, content_field
from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.shared_content import SharedContent


class EventTerms(nn.Module):
    """What is known of events as terms of a sum.

    They have no effect until training gives them one: their last layers are zero at the start. Contents that are
    encoded as items are enter the sum as they are, so that an interest in them is one in items alike.

    Args:
        kind: of the fields: ``event``, or ``context`` for what is known before the item is chosen.
        size: width D of the sum.
        content: encodes the table of distinct contents, of which row 0 stands for none; None without content.
        fields: columns that are embedded.

    Attributes:
        names: the fields that ``forward`` reads.

    Example:
        >>> import torch
        >>> from recbole_llm_interest.content.features import Features
        >>> texts = Features(torch.randn(4, 8), torch.tensor([False, True, True, True]))
        >>> terms = EventTerms("event", 12, EntityEncoder({"text": texts}, embedding_size=16), [])
        >>> terms.names, terms({"event_content": torch.tensor([[3, 0, 3]])}).shape
        (['event_content'], torch.Size([1, 3, 12]))
    """

    def __init__(
        self,
        kind: EventKind,
        size: int,
        content: EntityEncoder | SharedContent | None,
        fields: Sequence[EventField],
    ) -> None:
        super().__init__()
        self.fields = list(fields)
        self.embeddings = nn.ModuleList([_zero_embedding(field.size, size) for field in fields])
        self.content, self.from_content = content, None
        if content is not None:
            self.from_content = nn.Linear(content.output_size, size, bias=False)
            (nn.init.eye_ if isinstance(content, SharedContent) else nn.init.zeros_)(self.from_content.weight)
        self._content_field = content_field(kind)
        self._code_fields = [code_field(kind, field.name) for field in fields]
        self.names = [*self._code_fields, *([self._content_field] if content is not None else [])]

    def forward(self, details: Mapping[str, Tensor]) -> Tensor:
        """The sum of the terms, ``[..., D]``, from codes and rows of contents, ``[...]`` by field.

        Each distinct content is encoded once.
        """
        terms: list[Tensor] = [
            embedding(details[name]) for name, embedding in zip(self._code_fields, self.embeddings, strict=True)
        ]
        if self.content is not None and self.from_content is not None:
            distinct, place = torch.unique(details[self._content_field], return_inverse=True)
            terms.append(self.from_content(self.content(distinct))[place])
        return torch.stack(terms).sum(dim=0)

    def encode(self, values: Mapping[str, object], content: Content) -> Tensor:
        """The same of one event that is not in the tables, ``[D]``.

        Args:
            values: by column that is embedded; those that are not given are missing.
            content: its features by modality, ``[1, F]`` each; empty for none.
        """
        device = next(self.parameters()).device
        codes = [torch.tensor(field.code(values.get(field.name)), device=device) for field in self.fields]
        terms: list[Tensor] = [embedding(code) for embedding, code in zip(self.embeddings, codes, strict=True)]
        if self.content is not None and self.from_content is not None:
            encoded = self.content.encode(content) if content else self.content(torch.zeros(1, dtype=torch.long))
            terms.append(self.from_content(encoded)[0])
        return torch.stack(terms).sum(dim=0)


class EventEncoder(nn.Module):
    """Adds what is known of an event to the representation of its item.

    Features of time have no effect until training gives them one: their embeddings are zero at the start.

    Args:
        size: width D of a representation.
        time_features: names of ``TIME_FEATURES``.
        terms: what else is known of events; None for nothing.

    Attributes:
        names: the fields that ``forward`` reads.

    Example:
        >>> import torch
        >>> encoder = EventEncoder(8, ["hour"], None)
        >>> encoder(torch.zeros(2, 5, 8), {"time_hour": torch.ones(2, 5, dtype=torch.long)}).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, size: int, time_features: Sequence[str], terms: EventTerms | None) -> None:
        super().__init__()
        self.times = nn.ModuleDict({name: _zero_embedding(TIME_FEATURES[name], size) for name in time_features})
        self.terms = terms
        self.names = [*(f"time_{name}" for name in time_features), *(terms.names if terms is not None else [])]

    def forward(self, items: Tensor, details: Mapping[str, Tensor]) -> Tensor:
        """Representations of events, ``[..., D]``.

        Args:
            items: representations of their items, ``[..., D]``.
            details: what is known of them, ``[...]`` by field; nothing where a field is missing.
        """
        if self.terms is None:
            return self.joined(items, details, None)
        unknown = torch.zeros(items.shape[:-1], dtype=torch.long, device=items.device)
        return self.joined(items, details, self.terms({name: details.get(name, unknown) for name in self.terms.names}))

    def joined(self, items: Tensor, times: Mapping[str, Tensor], terms: Tensor | None) -> Tensor:
        """The same with the sums of the terms, ``[..., D]``; None for none."""
        events = items
        for name, embedding in self.times.items():
            if f"time_{name}" in times:
                events = events + embedding(times[f"time_{name}"])
        return events if terms is None else events + terms


def _zero_embedding(rows: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(rows, size, padding_idx=0)
    nn.init.zeros_(embedding.weight)
    return embedding
