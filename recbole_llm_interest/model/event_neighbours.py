"""Looks up which items are neighbours of events by their content."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_neighbours import EventNeighbours, ItemProfiles
from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS
from recbole_llm_interest.model.neighbour_bias import Neighbours


class EventNeighbourLookup(nn.Module):
    """Gives codes of the neighbours of events: in training those found without the history's user, else those of all.

    Args:
        neighbours: of the contents of the data set.

    Attributes:
        shape: M and K, the modalities of the content and the neighbours by each.

    Example:
        >>> profiles = ItemProfiles(torch.zeros(2), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> lookup = EventNeighbourLookup(EventNeighbours(torch.zeros(1, 1, 1, 2).int(), {"text": profiles}))
        >>> lookup.decode(lookup.encode({"text": torch.tensor([[3.0, 0.0]])}, {"text": torch.tensor([True])})).items
        tensor([[[1, 0]]])
    """

    def __init__(self, neighbours: EventNeighbours) -> None:
        super().__init__()
        self.modalities = list(neighbours.profiles)
        self.shape = (neighbours.codes.shape[2], neighbours.codes.shape[3])
        self.register_buffer("codes", neighbours.codes, persistent=False)
        for name, profiles in neighbours.profiles.items():
            self.register_buffer(f"{name}_mean", profiles.mean, persistent=False)
            self.register_buffer(f"{name}_items", profiles.items, persistent=False)

    def profiles(self, modality: str) -> ItemProfiles:
        """What the content of this modality at items' events was like."""
        return ItemProfiles(self.get_buffer(f"{modality}_mean"), self.get_buffer(f"{modality}_items"))

    def forward(self, rows: Tensor, user: Tensor | None = None) -> Tensor:
        """Codes for the contents of events, ``[B, L] -> [B, L, M, K]``, without the users ``[B]`` if they are given."""
        codes = self.get_buffer("codes")
        if user is None:
            return codes[-1][rows]
        return codes[(user % FOLDS)[:, None], rows]

    def encode(self, values: Mapping[str, Tensor], has_content: Mapping[str, Tensor]) -> Tensor:
        """Codes for contents that are not in the tables, ``[B, M, K]``.

        Args:
            values: features as encoded by modality, ``[B, F]`` each; those that are not there are missing.
            has_content: whether each is not missing, ``[B]`` by modality.
        """
        none = torch.zeros(self.shape[1], dtype=torch.long, device=self.get_buffer("codes").device)
        found = [
            self.profiles(name).nearest(values[name], self.shape[1]).where(has_content[name][:, None], none)
            if name in values
            else none.expand(len(next(iter(values.values()))), -1)
            for name in self.modalities
        ]
        return torch.stack(found, dim=1)

    def restored(self, numbers: Tensor) -> Tensor:
        """Codes from the numbers that a state has of events, ``[..., M K] -> [..., M, K]``; what is none becomes 0."""
        codes = numbers.long()
        rows = len(self.get_buffer(f"{self.modalities[0]}_items"))
        return codes.where((codes >= 0) & (codes < rows * STRENGTHS), 0).view(*codes.shape[:-1], *self.shape)

    @staticmethod
    def decode(codes: Tensor) -> Neighbours:
        """The neighbours that codes stand for, ``[..., M, K]``."""
        codes = codes.long()
        return Neighbours(codes // STRENGTHS, codes % STRENGTHS)
