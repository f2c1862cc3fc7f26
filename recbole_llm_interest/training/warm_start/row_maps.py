"""Which rows of a trained model's weights belong to which rows of another model's: items, modalities, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_llm_interest.content.event_fields import EventField
from recbole_llm_interest.model.entity_encoder import ID, EntityEncoder
from recbole_llm_interest.model.event_encoder import SideInformationEncoder

#: weights of an encoder with a row for each modality
_BY_MODALITY = ("missing", "combine.gate", "combine.gate_bias")
_ID_EMBEDDING = "item_encoder.id_embedding.weight"
_NEIGHBOUR_BIAS = "history_bias.neighbour.bias"


class GivenValues(NamedTuple):
    """What another tensor gives to one of a model's.

    Attributes:
        values: of the other tensor, ``[R, ...]``.
        rows: its row for each of the model's, ``[S]``; -1 for a new one. None for the same rows.

    Example:
        >>> given = GivenValues(torch.tensor([5.0, 6.0]), torch.tensor([1, -1, 0]))
        >>> given.over(torch.zeros(3))
        tensor([6., 0., 5.])
    """

    values: Tensor
    rows: Tensor | None

    def fits(self, own: Tensor) -> bool:
        """Whether the values have the shape of the model's tensor, ``[S, ...]``, but for the number of rows."""
        if self.rows is None:
            return self.values.shape == own.shape
        is_known = not len(self.rows) or int(self.rows.max()) < len(self.values)
        return is_known and self.values.dim() == own.dim() and self.values.shape[1:] == own.shape[1:]

    def over(self, own: Tensor) -> Tensor:
        """The model's tensor, ``[S, ...]``, with what is given in place of its own."""
        if self.rows is None:
            return self.values.to(own)
        rows = self.rows.to(own.device)
        is_given = (rows >= 0).view(-1, *[1] * (own.dim() - 1))
        return torch.where(is_given, self.values.to(own)[rows.clamp(min=0)], own)


@dataclass(frozen=True)
class RowMap:
    """The rows by the names of weights.

    Attributes:
        items: the other model's row of each item, ``[N]``; -1 for a new one.
        rows: by name, the other model's name of the weight, and its row for each of this model's, ``[S]``.
    """

    items: Tensor
    rows: Mapping[str, tuple[str, Tensor]]

    def source_of(self, name: str) -> str:
        """Return the other model's name of a weight."""
        return self.rows.get(name, (name, None))[0]

    def of(self, name: str, values: Mapping[str, Tensor]) -> GivenValues | None:
        """What ``values``, tensors ``[...]`` by name, give to a weight; None for nothing."""
        other, rows = self.rows.get(name, (name, None))
        return GivenValues(values[other], rows) if other in values else None


def row_maps(
    model: Any, weights: Mapping[str, Tensor], items: Tensor, event_fields: Mapping[str, Sequence[EventField]]
) -> RowMap:
    """Find the rows of a model's weights in those of another one.

    Args:
        model: the model that is given weights.
        weights: the other's, ``[...]`` by name.
        items: row of each item in the other model, ``[N]``; -1 for a new one.
        event_fields: codes of the other's columns of events, by kind.
    """
    rows = {_ID_EMBEDDING: (_ID_EMBEDDING, items)}
    for name, module in model.named_modules():
        if isinstance(module, EntityEncoder):
            rows |= _of_modalities(name, module, encoder_modalities(name, weights))
        elif isinstance(module, SideInformationEncoder):
            rows |= _of_columns(name, module, event_fields.get(module.kind, ()))
    found = _places(
        _without_id(model.item_encoder.modalities), _without_id(encoder_modalities("item_encoder", weights))
    )
    rows[_NEIGHBOUR_BIAS] = (_NEIGHBOUR_BIAS, found)
    return RowMap(items, rows)


def encoder_modalities(encoder: str, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the modalities of the encoder of this name in a model's weights, in its order; none without it.

    Args:
        encoder: such as ``item_encoder``.
        weights: ``[...]`` by name.
    """
    start = f"{encoder}.projections."
    known = sorted({name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)})
    return [*known, *([ID] if f"{encoder}.id_embedding.weight" in weights else [])]


def _without_id(modalities: Sequence[str]) -> list[str]:
    return [name for name in modalities if name != ID]


def _of_modalities(name: str, encoder: EntityEncoder, others: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
    """The rows of the weights that an encoder has for each modality."""
    found = _places(encoder.modalities, others)
    return {f"{name}.{weight}": (f"{name}.{weight}", found) for weight in _BY_MODALITY}


def _places(names: Sequence[str], others: Sequence[str]) -> Tensor:
    places = {name: place for place, name in enumerate(others)}
    return torch.tensor([places.get(name, -1) for name in names], dtype=torch.long)


def _of_columns(
    name: str, module: SideInformationEncoder, others: Sequence[EventField]
) -> dict[str, tuple[str, Tensor]]:
    """The rows of the embeddings of columns: those of equal values; of buckets, if they have the same edges."""
    places = {field.name: place for place, field in enumerate(others)}
    rows = {}
    for place, field in enumerate(module.fields):
        weight = f"{name}.sum.embeddings.{{}}.weight"
        if field.name not in places:
            rows[weight.format(place)] = ("", torch.full((field.size,), -1))  # no weight has this name
            continue
        former = others[places[field.name]]
        if field.edges is None and former.edges is None:
            found = _places(["", *field.values], ["", *former.values])  # the first code is that of a missing value
        else:
            found = torch.arange(field.size) if field.edges == former.edges else torch.full((field.size,), -1)
        rows[weight.format(place)] = (weight.format(places[field.name]), found)
    return rows
