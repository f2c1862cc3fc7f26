"""The building blocks of exported programs: content, events and scores, from tensors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.content.event_fields import EVENT_KINDS, code_field
from recbole_llm_interest.content.event_neighbours import EventNeighbours
from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.event_encoder import SideInformationEncoder
from recbole_llm_interest.model.event_neighbours import EventNeighbourLookup
from recbole_llm_interest.model.history_bias import Histories
from recbole_llm_interest.model.item_bias import last_events
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.shared_content import SharedContent

Tensors = dict[str, Tensor]
#: as of ``Histories``
RecentCodes = Callable[[Tensor, int], Tensor]

_TIMES = {
    "gap": "time since the event before, in the data set's unit: 0 not known, 1 first event, 2 under one unit, else "
    "3 + floor(log2 of it), at most 49",
    "hour": "hour of the day in UTC, 1 to 24; 0 not known",
    "weekday": "1 for Monday to 7 for Sunday, in UTC; 0 not known",
}


@dataclass(frozen=True)
class Field:
    """An input tensor of a program.

    Attributes:
        shape: its sizes; a name for a size that may vary.
        meaning: in words.
        dtype: of its numbers.
        values: for whole numbers, how many values there are, from 0 on.
    """

    shape: tuple[str | int, ...]
    meaning: str
    dtype: torch.dtype = torch.float32
    values: int = 2

    def draw(self, sizes: Mapping[str, int]) -> Tensor:
        """Random values of this kind, ``[...]`` of the shape that ``sizes`` gives."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        return torch.randn(shape) if self.dtype.is_floating_point else torch.randint(self.values, shape).to(self.dtype)


class EncodedContent(nn.Module):
    """Encodes content from its features, any of which may be missing.

    Args:
        kind: whose content it is: a user's, an event's or a context's.
        encoder: of the content. Its table of features is not exported.
        shape: of the inputs, by the names of the sizes.
    """

    def __init__(self, kind: str, encoder: EntityEncoder | SharedContent, shape: tuple[str, ...] = ("batch",)) -> None:
        super().__init__()
        self.kind, self.is_of_events = kind, kind in EVENT_KINDS
        layers = encoder.encoder if isinstance(encoder, SharedContent) else encoder
        self.modalities, self.combine, self.missing = layers.modalities, layers.combine, layers.missing
        self.projections = nn.ModuleDict({name: layers.projections[name] for name in encoder.encoded_sizes})
        self.conditionings = nn.ModuleDict({name: _Conditioning(layers, name) for name in encoder.encoded_sizes})
        self.fields = {}
        for name, width in encoder.encoded_sizes.items():
            self.fields[f"{kind}_{name}"] = Field((*shape, width), f"{kind}s' {name} features, as encoded")
            self.fields[f"has_{kind}_{name}"] = Field(
                shape, f"whether there is {name} of the {kind}; without, it is not read", torch.bool
            )

    def forward(self, inputs: Tensors) -> Tensor:
        """Representations, ``[..., U]``."""
        names = list(self.conditionings)
        masks = {name: inputs[f"has_{self.kind}_{name}"] for name in names}
        shape = masks[names[0]].shape
        conditioned = {name: self.conditionings[name](inputs[f"{self.kind}_{name}"]) for name in names}
        encoded = {name: self.projections[name](values.flatten(0, -2)) for name, values in conditioned.items()}
        nothing, nowhere = torch.zeros_like(encoded[names[0]]), torch.zeros_like(masks[names[0]].flatten())
        parts = torch.stack([encoded.get(name, nothing) for name in self.modalities], dim=1)
        present = torch.stack([masks[name].flatten() if name in masks else nowhere for name in self.modalities], dim=1)
        representation: Tensor = self.combine(torch.where(present[..., None], parts, self.missing))[0]
        if self.is_of_events:  # whose content is zero where there is none; users have learned vectors
            representation = representation.where(present.any(dim=1, keepdim=True), 0.0)
        return representation.view(*shape, self.combine.output_size)


class SideInformationLayer(nn.Module):
    """What is known of events beside items and times, or before a choice.

    Args:
        encoder: of the model's side information. Its table of contents is not exported.
        shape: of the inputs, by the names of the sizes.
    """

    def __init__(self, encoder: SideInformationEncoder, shape: tuple[str, ...]) -> None:
        super().__init__()
        self.sum = encoder.sum
        self.codes = [code_field(encoder.kind, field.name) for field in encoder.fields]
        self.content = None if encoder.content is None else EncodedContent(encoder.kind, encoder.content, shape)
        self.fields = {
            code: Field(shape, f"{field.name} as coded by event_fields of config.json", torch.int64, field.size)
            for code, field in zip(self.codes, encoder.fields, strict=True)
        }
        self.fields |= {} if self.content is None else self.content.fields

    def forward(self, inputs: Tensors) -> Tensor:
        """Their sum, ``[..., D]``."""
        content = None if self.content is None else self.content(inputs)
        total: Tensor = self.sum([inputs[name] for name in self.codes], content)
        return total


class EventNeighboursLayer(nn.Module):
    """Finds codes of the neighbours of events by their content.

    Args:
        lookup: of the model. Its table of contents is not exported.
    """

    def __init__(self, lookup: EventNeighbourLookup) -> None:
        super().__init__()
        profiles = {name: lookup.profiles(name) for name in lookup.modalities}
        self.lookup = EventNeighbourLookup(EventNeighbours.of_profiles(profiles, lookup.shape[1]))

    def forward(self, inputs: Tensors) -> Tensor:
        """Codes, ``[..., M, K]``, from what is given of events, ``[...]``."""
        names = self.lookup.modalities
        has_content = {name: inputs[f"has_event_{name}"] for name in names}
        codes = self.lookup.encode(
            {name: inputs[f"event_{name}"].flatten(0, -2) for name in names},
            {name: mask.flatten() for name, mask in has_content.items()},
        )
        return codes.view(*has_content[names[0]].shape, *self.lookup.shape)

    def recent(self, inputs: Tensors, last: Tensor, count: int) -> Tensor:
        """Codes of the events up to those at ``last``, ``[B]``, of histories ``[B, L]``: ``[B, count, M, K]``."""
        read = {}
        for name in self.lookup.modalities:
            read[f"event_{name}"] = last_events(inputs[f"event_{name}"], last, count)
            read[f"has_event_{name}"] = last_events(inputs[f"has_event_{name}"].long(), last, count) > 0
        codes: Tensor = self(read)
        return codes


class _Conditioning(nn.Module):
    """Conditions features as encoded, ``[B, K] -> [B, K']``, in double precision as in training."""

    def __init__(self, encoder: EntityEncoder, modality: str) -> None:
        super().__init__()
        fitted = encoder.content[modality].conditioning
        self.is_fitted = fitted is not None
        if fitted is not None:
            self.register_buffer("mean", fitted.mean)
            self.register_buffer("weight", fitted.weight)

    def forward(self, values: Tensor) -> Tensor:
        if not self.is_fitted:
            return values
        mean, weight = self.get_buffer("mean").double(), self.get_buffer("weight").double()
        return ((values.double() - mean) @ weight).float()


class Reader(nn.Module):
    """Embeds events: items, the features of their times, and what else is known of them.

    Args:
        model: trained.
        shape: of the inputs, by the names of the sizes.
    """

    def __init__(self, model: LLMInterest, shape: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("representations", model.item_table().representations)
        self.times, encoder = model.event_encoder.times, model.event_encoder.side_information
        self.side_information = None if encoder is None else SideInformationLayer(encoder, shape)
        self.fields = {
            f"time_{name}": Field(shape, _TIMES[name], torch.int64, TIME_FEATURES[name]) for name in self.times
        }
        self.fields |= {} if self.side_information is None else self.side_information.fields

    def forward(self, items: Tensor, inputs: Tensors) -> Tensor:
        """Representations of events, ``[...] -> [..., D]``."""
        events: Tensor = self.times(self.get_buffer("representations")[items], inputs)
        return events if self.side_information is None else events + self.side_information(inputs)


class Scorer(nn.Module):
    """Scores all items, or the best ``k`` of them, by the model's scoring rule, given what is known before the choice.

    Args:
        model: trained.
        k: how many; None for all items.
    """

    def __init__(self, model: LLMInterest, k: int | None) -> None:
        super().__init__()
        self.k = k
        context = model.context.side_information
        self.context = None if context is None else SideInformationLayer(context, ("batch",))
        self.fields = {} if self.context is None else self.context.fields
        self.rule, self.neighbours_of = model.scoring_rule, model.item_encoder.neighbours_of
        self.bias_after = model.history_bias.after
        self.register_buffer("factors", model.item_table().factors)
        if k is None:
            self.meanings = {"scores": "of every item, [batch, items]; that of row 0, which is no item, is -inf"}
        else:
            self.meanings = {
                "scores": f"of the best {k} items, the best first, [batch, {k}]",
                "items": f"their rows in the vocabulary, [batch, {k}]",
            }

    def forward(
        self, interest: Tensor, item_seq: Tensor, last: Tensor, inputs: Tensors, recent_codes: RecentCodes | None
    ) -> Tensors:
        """Scores from interests ``[B, D]`` after the events at ``last``, ``[B]``, of histories ``[B, L]``.

        ``recent_codes`` is as for ``Histories``; None for a model without neighbours of events.
        """
        interest = interest if self.context is None else interest + self.context(inputs)
        factors = self.get_buffer("factors")  # of the directions of the items' representations
        histories = Histories(
            item_seq, lambda: F.embedding(item_seq, factors), self.neighbours_of, recent_codes=recent_codes
        )
        scores = self.rule.scores(interest, factors, self.bias_after(histories, last, interest))
        if self.k is None:
            return {"scores": scores}
        best = scores.topk(self.k, dim=1)
        return {"scores": best.values, "items": best.indices}
