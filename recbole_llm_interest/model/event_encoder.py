"""Represents an event: its item, the features of its time, and what was read, written, seen or heard at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.model.entity_encoder import EntityEncoder

#: the name of the content among what is known of an event; names of time features are those of ``TIME_FEATURES``
CONTENT = "content"


class ContentTerm(nn.Module):
    """Content of events as a term of a sum. It has no effect until training gives it one: its last layer is zero.

    Args:
        encoder: of the table of distinct contents, of which row 0 stands for none.
        size: width D of the sum.

    Example:
        >>> import torch
        >>> from recbole_llm_interest.content.features import Features
        >>> texts = Features(torch.randn(4, 8), torch.tensor([False, True, True, True]))
        >>> ContentTerm(EntityEncoder({"text": texts}, embedding_size=16), size=12)(torch.tensor([[3, 0, 3]])).shape
        torch.Size([1, 3, 12])
    """

    def __init__(self, encoder: EntityEncoder, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.project = nn.Linear(encoder.output_size, size, bias=False)
        nn.init.zeros_(self.project.weight)

    def encode(self, content: Content) -> Tensor:
        """The terms of events with contents that are not in the table, ``[B, D]``."""
        terms: Tensor = self.project(self.encoder.encode(content))
        return terms

    def forward(self, rows: Tensor) -> Tensor:
        """The terms of events with the contents in ``rows``, ``[...] -> [..., D]``. Each content is encoded once."""
        distinct, place = torch.unique(rows, return_inverse=True)
        terms: Tensor = self.project(self.encoder(distinct))
        return terms[place]


class EventEncoder(nn.Module):
    """Adds what is known of an event to the representation of its item.

    Features of time have no effect until training gives them one: their embeddings are zero at the start.

    Args:
        size: width D of a representation.
        time_features: names of ``TIME_FEATURES``.
        content: of events; None if none has any.

    Example:
        >>> import torch
        >>> encoder = EventEncoder(8, ["hour"], None)
        >>> encoder(torch.zeros(2, 5, 8), {"hour": torch.ones(2, 5, dtype=torch.long)}).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, size: int, time_features: Sequence[str], content: ContentTerm | None) -> None:
        super().__init__()
        self.times = nn.ModuleDict()
        for name in time_features:
            embedding = nn.Embedding(TIME_FEATURES[name], size, padding_idx=0)
            nn.init.zeros_(embedding.weight)
            self.times[name] = embedding
        self.content = content

    def forward(self, items: Tensor, details: Mapping[str, Tensor]) -> Tensor:
        """Representations of events, ``[..., D]``.

        Args:
            items: representations of their items, ``[..., D]``.
            details: what is known of them, ``[...]`` by name: features of their times, and the rows of their content.
        """
        content = None
        if self.content is not None:
            nothing = torch.zeros(items.shape[:-1], dtype=torch.long, device=items.device)
            content = self.content(details.get(CONTENT, nothing))
        return self.joined(items, details, content)

    def joined(self, items: Tensor, times: Mapping[str, Tensor], content: Tensor | None) -> Tensor:
        """The same with the terms of events' content, ``[..., D]``, which are not read if no event has content."""
        events = items
        for name, embedding in self.times.items():
            if name in times:
                events = events + embedding(times[name])
        return events if self.content is None or content is None else events + content
