"""Represents an event: its item, the features of its time, and what else is known of it, some of it in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm_interest.content.event_fields import NEXT_SHOWN, EventField, EventKind, code_field, content_field
from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.shared_content import SharedContent


class FeatureSum(nn.Module):
    """Adds up what is known of events: codes of their columns, and their encoded content.

    It has no effect until training gives it one: its layers are zero at the start, unless the content starts as it is.

    Args:
        size: width D of the sum.
        content: encodes the content; None without content.
        fields: columns that are embedded.
        starts_as_content: whether the sum starts as the encoded content.

    Example:
        >>> import torch
        >>> device = EventField.fitted("device", ["phone", "desk"])
        >>> FeatureSum(8, None, [device])([torch.tensor([1, 2, 0])], None).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        size: int,
        content: EntityEncoder | SharedContent | None,
        fields: Sequence[EventField],
        *,
        starts_as_content: bool = False,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([_zero_embedding(field.size, size) for field in fields])
        self.from_content = None if content is None else nn.Linear(content.output_size, size, bias=False)
        if self.from_content is not None:
            (nn.init.eye_ if starts_as_content else nn.init.zeros_)(self.from_content.weight)

    def forward(self, codes: Sequence[Tensor], content: Tensor | None) -> Tensor:
        """The sum, ``[..., D]``, of the codes of each column, ``[...]``, and of encoded content, ``[..., C]``."""
        summands: list[Tensor] = [embedding(code) for embedding, code in zip(self.embeddings, codes, strict=True)]
        if content is not None and self.from_content is not None:
            summands.append(self.from_content(content))
        return torch.stack(summands).sum(dim=0)


class SideInformationEncoder(nn.Module):
    """Encodes the side information of events: what is known of them beside their items.

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
        >>> encoder = SideInformationEncoder("event", 12, EntityEncoder({"text": texts}, embedding_size=16), [])
        >>> encoder.names, encoder({"event_content": torch.tensor([[3, 0, 3]])}).shape
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
        self.kind = kind
        self.fields = list(fields)
        self.content = content
        # an interest in what a query names is one in items alike; a review tells less, and comes after the choice
        as_items = kind == "context" and isinstance(content, SharedContent)
        self.sum = FeatureSum(size, content, fields, starts_as_content=as_items)
        self._content_field = content_field(kind)
        self._code_fields = [code_field(kind, field.name) for field in fields]
        self.names = [*self._code_fields, *([self._content_field] if content is not None else [])]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """The sum, ``[..., D]``, from codes and rows of contents, ``[...]`` by field.

        Each distinct content is encoded once. Where there is none, it is zero.
        """
        encoded = None
        if self.content is not None:
            distinct, place = torch.unique(features[self._content_field], return_inverse=True)
            has_content = self.content.get_buffer("present")[distinct].any(dim=1, keepdim=True)
            encoded = self.content(distinct).where(has_content, 0.0)[place]
        total: Tensor = self.sum([features[name] for name in self._code_fields], encoded)
        return total

    def encode(self, values: Mapping[str, object], content: Content) -> Tensor:
        """The same of one event that is not in the tables, ``[D]``.

        Args:
            values: by column that is embedded; those that are not given are missing.
            content: its features by modality, ``[1, F]`` each; empty for none.
        """
        device = next(self.parameters()).device
        codes = [torch.tensor(field.code(values.get(field.name)), device=device) for field in self.fields]
        encoded = None
        if self.content is not None:
            encoded = (
                self.content.encode(content)[0] if content else torch.zeros(self.content.output_size, device=device)
            )
        total: Tensor = self.sum(codes, encoded)
        return total


class TimeEmbeddings(nn.ModuleDict):
    """Adds features of time to events. They have no effect until training gives them one: they are zero at the start.

    Args:
        names: of ``TIME_FEATURES``.
        size: width D of a representation.

    Example:
        >>> TimeEmbeddings(["hour"], 8)(torch.ones(2, 8), {"time_hour": torch.tensor([1, 0])}).shape
        torch.Size([2, 8])
    """

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__({name: _zero_embedding(TIME_FEATURES[name], size) for name in names})

    def forward(self, events: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Representations ``[..., D]`` with the features ``[...]`` by field; nothing where a field is missing."""
        for name, embedding in self.items():
            if f"time_{name}" in features:
                events = events + embedding(features[f"time_{name}"])
        return events


class EventEncoder(nn.Module):
    """Adds what is known of an event to the representation of its item.

    Args:
        size: width D of a representation.
        time_features: names of ``TIME_FEATURES``.
        side_information: encodes what else is known of events; None for nothing.

    Attributes:
        names: the fields that ``forward`` reads.

    Example:
        >>> import torch
        >>> encoder = EventEncoder(8, ["hour"], None)
        >>> encoder(torch.zeros(2, 5, 8), {"time_hour": torch.ones(2, 5, dtype=torch.long)}).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self, size: int, time_features: Sequence[str], side_information: SideInformationEncoder | None
    ) -> None:
        super().__init__()
        self.times = TimeEmbeddings(time_features, size)
        self.side_information = side_information
        self.names = [
            *(f"time_{name}" for name in time_features),
            *(side_information.names if side_information is not None else []),
        ]

    def forward(self, items: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Representations of events, ``[..., D]``.

        Args:
            items: representations of their items, ``[..., D]``.
            features: what is known of them, ``[...]`` by field; nothing where a field is missing.
        """
        if self.side_information is None:
            return self.joined(items, features, None)
        unknown = torch.zeros(items.shape[:-1], dtype=torch.long, device=items.device)
        return self.joined(
            items,
            features,
            self.side_information({name: features.get(name, unknown) for name in self.side_information.names}),
        )

    def of_batch(self, batch: Mapping[str, Tensor], suffix: str) -> dict[str, Tensor]:
        """What is known of a batch's events, ``[B, L]`` by field, which the batch has with a suffix."""
        return {name: batch[f"{name}{suffix}"] for name in self.names}

    def joined(self, items: Tensor, times: Mapping[str, Tensor], side_information: Tensor | None) -> Tensor:
        """The same with encoded side information, ``[..., D]``; None for none."""
        events: Tensor = self.times(items, times)
        return events if side_information is None else events + side_information


class ContextEncoder(nn.Module):
    """Adds to an interest what is known before the next choice, such as a query.

    Args:
        side_information: encodes that; None for nothing.

    Example:
        >>> import torch
        >>> ContextEncoder(None)(torch.ones(3, 8), {}).shape
        torch.Size([3, 8])
    """

    def __init__(self, side_information: SideInformationEncoder | None) -> None:
        super().__init__()
        self.side_information = side_information

    def forward(self, interest: Tensor, batch: Mapping[str, Tensor], form: str = "{}") -> Tensor:
        """Interest ``[..., D]`` given the context, ``[...]`` in each of the batch's fields that have this form."""
        if self.side_information is None:
            return interest
        known: Tensor = self.side_information({name: batch[form.format(name)] for name in self.side_information.names})
        return interest + known


def event_codes(*encoders: SideInformationEncoder | None) -> dict[str, list[dict[str, Any]]]:
    """The codes of embedded columns by kind, as plain values; see ``EventField.restored``.

    Example:
        >>> device = EventField.fitted("device", ["phone", "desk"])
        >>> event_codes(SideInformationEncoder("event", 8, None, [device]), None)
        {'event': [{'name': 'device', 'edges': None, 'values': ('desk', 'phone')}]}
    """
    return {one.kind: [asdict(field) for field in one.fields] for one in encoders if one is not None and one.fields}


def shown_items(interaction: Interaction) -> list[Tensor]:
    """The items of a batch that were shown and not chosen, ``[B, L, S]`` alone in a list; empty without any."""
    return [interaction[NEXT_SHOWN]] if NEXT_SHOWN in interaction else []


def _zero_embedding(rows: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(rows, size, padding_idx=0)
    nn.init.zeros_(embedding.weight)
    return embedding
