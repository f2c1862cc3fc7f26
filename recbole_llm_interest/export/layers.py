"""The building blocks of exported programs: profiles, events and scores, from tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.llm_interest import LLMInterest

Tensors = dict[str, Tensor]

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


class Profile(nn.Module):
    """Encodes users from the features of their content, any of which may be missing.

    Args:
        encoder: of users. Its table of users' features is not exported.
    """

    def __init__(self, encoder: EntityEncoder) -> None:
        super().__init__()
        self.projections, self.combine, self.missing = encoder.projections, encoder.combine, encoder.missing
        self.conditionings = nn.ModuleDict({name: _Conditioning(encoder, name) for name in encoder.modalities})
        self.fields = {}
        for name, width in encoder.encoded_sizes.items():
            self.fields[f"user_{name}"] = Field(("batch", width), f"users' {name} features, as encoded")
            self.fields[f"has_user_{name}"] = Field(
                ("batch",), f"whether a user has {name}; without, it is not read", torch.bool
            )

    def forward(self, inputs: Tensors) -> Tensor:
        """Representations of the users, ``[B, U]``."""
        names = list(self.conditionings)
        parts = [self.projections[name](self.conditionings[name](inputs[f"user_{name}"])) for name in names]
        present = torch.stack([inputs[f"has_user_{name}"] for name in names], dim=1)
        representation: Tensor = self.combine(torch.where(present[..., None], torch.stack(parts, dim=1), self.missing))[
            0
        ]
        return representation


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
    """Embeds events: items, and the features of their times.

    Args:
        model: trained.
        shape: of the inputs, by the names of the sizes.
    """

    def __init__(self, model: LLMInterest, shape: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("representations", model.item_table().representations)
        self.event_encoder = model.event_encoder
        self.fields = {
            f"time_{name}": Field(shape, _TIMES[name], torch.int64, TIME_FEATURES[name])
            for name in model.event_encoder.times
        }

    def forward(self, items: Tensor, inputs: Tensors) -> Tensor:
        """Representations of events, ``[...] -> [..., D]``."""
        details = {name: inputs[name] for name in self.event_encoder.names}
        events: Tensor = self.event_encoder(self.get_buffer("representations")[items], details)
        return events


class Scorer(nn.Module):
    """Scores all items, or the best ``k`` of them, by the model's scoring rule.

    Args:
        model: trained.
        k: how many; None for all items.
    """

    def __init__(self, model: LLMInterest, k: int | None) -> None:
        super().__init__()
        self.k = k
        self.rule, self.bias_after = model.scoring_rule, model.bias_after
        self.register_buffer("factors", model.item_table().factors)
        if k is None:
            self.meanings = {"scores": "of every item, [batch, items]; that of row 0, which is no item, is -inf"}
        else:
            self.meanings = {
                "scores": f"of the best {k} items, the best first, [batch, {k}]",
                "items": f"their rows in the vocabulary, [batch, {k}]",
            }

    def forward(self, interest: Tensor, item_seq: Tensor, last: Tensor) -> Tensors:
        """Scores from interests ``[B, D]`` after the events at ``last``, ``[B]``, of histories ``[B, L]``."""
        factors = self.get_buffer("factors")  # of the directions of the items' representations
        scores = self.rule.scores(interest, factors, self.bias_after(item_seq, last, interest, factors))
        if self.k is None:
            return {"scores": scores}
        best = scores.topk(self.k, dim=1)
        return {"scores": best.values, "items": best.indices}
