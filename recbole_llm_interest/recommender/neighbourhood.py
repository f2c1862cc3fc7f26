"""Nearest neighbours by content, updated as items are added."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.recommender.growable_tensor import GrowableTensor

_BLOCK = 2**16


class Neighbourhood:
    """Each item's nearest neighbours by the cosine of features of one modality.

    Adding items one by one gives the same neighbours as ``nearest_neighbours`` of the whole table. Each addition reads
    the features once.

    Args:
        values: conditioned features, ``[N, F]``.
        present: which items have features, ``[N]``.
        neighbours: rows of each item's neighbours, the nearest first, ``[N, K]``; 0 for none.

    Example:
        >>> values, present = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([False, True])
        >>> near = Neighbourhood(values, present, torch.zeros(2, 1, dtype=torch.int32))
        >>> near.add(torch.tensor([0.9, 0.1]))
        >>> near.neighbours.tolist()
        [[0], [2], [1]]
    """

    def __init__(self, values: Tensor, present: Tensor, neighbours: Tensor) -> None:
        self._values = GrowableTensor(values)
        self._present = GrowableTensor(present)
        self._neighbours = GrowableTensor(neighbours.clone())  # updates in place, and the model keeps its own

    @property
    def neighbours(self) -> Tensor:
        """Rows of each item's neighbours, the nearest first, ``[N, K]``; 0 for none."""
        return self._neighbours.all

    @cached_property
    def _farthest(self) -> GrowableTensor:
        """Cosine of each item's last neighbour, ``[N]``: inf for items without features, -inf if more fit in."""
        rows = torch.arange(len(self.neighbours), device=self.neighbours.device)
        last = torch.cat([self._cosines(part, self.neighbours[part, -1:]) for part in torch.split(rows, _BLOCK)])
        takes_none = ~self._present.all | (rows == 0)
        return GrowableTensor(last.squeeze(1).masked_fill(takes_none, torch.inf))

    def add(self, value: Tensor | None, apart: bool = False) -> None:
        """Add an item.

        Args:
            value: its features, ``[F]``; None if it has none.
            apart: whether it is no other item's neighbour.
        """
        row, count = self.neighbours.shape
        own, farthest = self.neighbours.new_zeros(1, count), torch.inf
        if value is not None:
            cosine = F.cosine_similarity(self._values.all, value[None], dim=1)
            cosine[~self._present.all] = -torch.inf
            cosine[0] = -torch.inf
            best = cosine.topk(min(count, row))
            near = best.indices[best.values > -torch.inf]
            own[0, : len(near)] = near.to(own.dtype)
            farthest = float(best.values[-1]) if len(near) == count else -torch.inf
            if not apart:
                self._insert(row, cosine)
        self._farthest.append(self._farthest.all.new_tensor([farthest]))
        self._values.append(self._values.all.new_zeros(1, self._values.all.shape[1]) if value is None else value[None])
        self._present.append(self._present.all.new_tensor([value is not None and not apart]))
        self._neighbours.append(own)

    def _insert(self, row: int, cosine: Tensor) -> None:
        """Make a new item a neighbour of the items that it is nearer to than their last neighbour; cosines ``[N]``."""
        nearer = (cosine > self._farthest.all).nonzero().squeeze(1)
        former = self.neighbours[nearer]
        candidates = torch.cat([former, former.new_full((len(nearer), 1), row)], dim=1)
        cosines = torch.cat([self._cosines(nearer, former), cosine[nearer, None]], dim=1)
        best = cosines.sort(dim=1, descending=True, stable=True)
        count = former.shape[1]
        self.neighbours[nearer] = candidates.gather(1, best.indices[:, :count])
        self._farthest.all[nearer] = best.values[:, count - 1]

    def _cosines(self, rows: Tensor, neighbours: Tensor) -> Tensor:
        """Cosines of items, ``[n]``, with neighbours of theirs, ``[n, k]``; -inf for none."""
        values = self._values.all
        cosine = F.cosine_similarity(values[rows][:, None], values[neighbours.long()], dim=2)
        return cosine.where(neighbours > 0, -torch.inf)
