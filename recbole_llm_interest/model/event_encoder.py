"""Represents an event: its item, the features of its time, and what was read, written, seen or heard at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.model.entity_encoder import EntityEncoder

#: the name of the content among what is known of an event; names of time features are those of ``TIME_FEATURES``
CONTENT = "content"


class EventEncoder(nn.Module):
    """Adds what is known of an event to the representation of its item.

    Time and content have no effect until training gives them one: their last layers are zero at the start.

    Args:
        size: width D of a representation.
        time_features: names of ``TIME_FEATURES``.
        content: encodes the content of events by its row, of which 0 stands for none; None if no event has content.

    Example:
        >>> import torch
        >>> encoder = EventEncoder(8, ["hour"], None)
        >>> encoder(torch.zeros(2, 5, 8), {"hour": torch.ones(2, 5, dtype=torch.long)}).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, size: int, time_features: Sequence[str], content: EntityEncoder | None) -> None:
        super().__init__()
        self.times = nn.ModuleDict()
        for name in time_features:
            embedding = nn.Embedding(TIME_FEATURES[name], size, padding_idx=0)
            nn.init.zeros_(embedding.weight)
            self.times[name] = embedding
        self.content = content
        self.from_content = None
        if content is not None:
            self.from_content = nn.Linear(content.output_size, size, bias=False)
            nn.init.zeros_(self.from_content.weight)

    def forward(self, items: Tensor, details: Mapping[str, Tensor]) -> Tensor:
        """Representations of events, ``[..., D]``.

        Args:
            items: representations of their items, ``[..., D]``.
            details: what is known of them, ``[...]`` by name: features of their times, and the rows of their content.
        """
        events = items
        for name, embedding in self.times.items():
            if name in details:
                events = events + embedding(details[name])
        if self.content is not None and self.from_content is not None:
            rows = details.get(CONTENT, torch.zeros(items.shape[:-1], dtype=torch.long, device=items.device))
            distinct, place = torch.unique(rows, return_inverse=True)
            events = events + self.from_content(self.content(distinct))[place]
        return events
