"""Nearest neighbours by content that are kept up while items come in."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.recommender.growable_tensor import GrowableTensor

_BLOCK = 2**16


class Neighbourhood:
    """Each row's nearest neighbours by cosine, and the features by which they are that.

    Adding rows one by one ends where ``nearest_neighbours`` of the whole table would, and reads the features once a
    row.

    Args:
        values: features of one modality as the model sees them, ``[N, F]``.
        present: which rows have some, ``[N]``.
        neighbours: of each row, the nearest first, ``[N, K]``; 0 where there are none.
    """

    def __init__(self, values: Tensor, present: Tensor, neighbours: Tensor) -> None:
        self._values = GrowableTensor(values)
        self._present = GrowableTensor(present)
        self._neighbours = GrowableTensor(neighbours.clone())  # updates in place, and the model keeps its own

    @property
    def neighbours(self) -> Tensor:
        """Of each row, the nearest first, ``[N, K]``."""
        return self._neighbours.all

    @cached_property
    def _farthest(self) -> GrowableTensor:
        """Cosine of each row's last neighbour: inf where it takes none at all, -inf where there is room for more."""
        rows = torch.arange(len(self.neighbours), device=self.neighbours.device)
        last = torch.cat([self._cosines(part, self.neighbours[part, -1:]) for part in torch.split(rows, _BLOCK)])
        takes_none = ~self._present.all | (rows == 0)
        return GrowableTensor(last.squeeze(1).masked_fill(takes_none, torch.inf))

    def add(self, value: Tensor | None, apart: bool = False) -> None:
        """Add a row, ``[F]``; None for one that has no such features. One ``apart`` becomes nobody's neighbour."""
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
                self._stand_in_others(row, cosine)
        self._farthest.append(self._farthest.all.new_tensor([farthest]))
        self._values.append(self._values.all.new_zeros(1, self._values.all.shape[1]) if value is None else value[None])
        self._present.append(self._present.all.new_tensor([value is not None and not apart]))
        self._neighbours.append(own)

    def _stand_in_others(self, row: int, cosine: Tensor) -> None:
        """Put a new row among the neighbours of those that it is nearer to than their last one."""
        nearer = (cosine > self._farthest.all).nonzero().squeeze(1)
        their = self.neighbours[nearer]
        candidates = torch.cat([their, their.new_full((len(nearer), 1), row)], dim=1)
        cosines = torch.cat([self._cosines(nearer, their), cosine[nearer, None]], dim=1)
        best = cosines.sort(dim=1, descending=True, stable=True)
        count = their.shape[1]
        self.neighbours[nearer] = candidates.gather(1, best.indices[:, :count])
        self._farthest.all[nearer] = best.values[:, count - 1]

    def _cosines(self, rows: Tensor, neighbours: Tensor) -> Tensor:
        """Of rows ``[n]`` with some of theirs, ``[n, k]``; -inf where there are none."""
        values = self._values.all
        cosine = F.cosine_similarity(values[rows][:, None], values[neighbours.long()], dim=2)
        return cosine.where(neighbours > 0, -torch.inf)
