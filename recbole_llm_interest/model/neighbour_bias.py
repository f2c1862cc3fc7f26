"""Learned bias on the neighbours of a history's items, found by content or by transitions in training histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.content.transitions import FOLDS, Transitions
from recbole_llm_interest.model.item_bias import ItemBias, at_events, bucket_of, take

#: buckets of the lag of neighbours, which are looked up only as far back as these buckets reach
_LAG_BUCKETS = 4
#: buckets of a neighbour's rank
_RANK_BUCKETS = 6


class Neighbours(NamedTuple):
    """Neighbours of items by each of several sources, the nearest first.

    Attributes:
        items: ids of the neighbours, ``[..., M, K]``; 0 for none.
        strengths: bucket of each neighbour's strength, ``[..., M, K]``; None for sources that have ranks alone.

    Example:
        >>> nearest = Neighbours(torch.tensor([[[4, 6]]]))  # of one event by one source
        >>> nearest.each(lambda values: values[..., :1])
        (tensor([[[4]]]), None)
    """

    items: Tensor
    strengths: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """Both tables, ``[..., M, K]``, as ``change`` makes them."""
        return change(self.items), None if self.strengths is None else change(self.strengths)


class NeighbourBias(nn.Module):
    """Learned bias on the nearest neighbours of the history's items, by rank, by lag and, where known, by strength.

    Neighbours by content are found on frozen features, so that an item needs no training event to be one; those by
    transitions have a strength, which ranks alone lose. The bias has a few dozen weights in all. For each bucket of
    older events, half as many neighbours count.

    Args:
        sources: number of sources of neighbours M, such as modalities; each has weights of its own.
        count: neighbours of an item that are known from each source, K.
        strengths: number of buckets of strength; 0 for neighbours without.

    Attributes:
        reach: how many events back neighbours are looked up.

    Example:
        >>> neighbours = Neighbours(torch.tensor([[[[4, 6]]]]))  # of one event by one source: [T, R, M, K]
        >>> NeighbourBias(sources=1, count=2).after(neighbours).items
        tensor([[4, 6]])
    """

    reach = 2**_LAG_BUCKETS - 1

    def __init__(self, sources: int, count: int, strengths: int = 0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(sources, _LAG_BUCKETS, _RANK_BUCKETS))
        self.strength_bias = None
        if strengths:
            self.strength_bias = nn.Parameter(torch.zeros(sources, _LAG_BUCKETS, strengths))
        lags = bucket_of(torch.arange(self.reach), _LAG_BUCKETS)
        ranks = bucket_of(torch.arange(count), _RANK_BUCKETS)
        counts = lags[:, None] + ranks < _RANK_BUCKETS  # [reach, K], of which each row is true up to some rank
        # as Python numbers: an exported program cannot branch on the content of a tensor
        self._counted: list[int] = counts.sum(dim=1).tolist()
        lag, rank = counts.nonzero(as_tuple=True)
        self.register_buffer("bucket", lags[lag] * _RANK_BUCKETS + ranks[rank], persistent=False)
        # the first of the strengths' weights for each source and column, [M, K']
        lag_of_source = torch.arange(sources)[:, None] * _LAG_BUCKETS + lags[lag]
        self.register_buffer("first_strength", lag_of_source * strengths, persistent=False)

    def forward(self, neighbours: Neighbours, row: Tensor, position: Tensor) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each, of histories ``[B, L]``.

        Args:
            neighbours: of each event's item, ``[B, L, M, K]``.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
        """
        length = neighbours.items.shape[1]
        reach = min(self.reach, length)

        def at_targets(values: Tensor) -> Tensor:
            events = F.pad(values, (0, 0, 0, 0, reach - 1, 0))  # none before the first of each history
            by_lag = [events[:, reach - 1 - lag :][:, :length] for lag in range(reach)]
            after_each = self._counted_neighbours(by_lag)  # [B, L, M K']
            return at_events(after_each, row, position)

        return self._item_bias(*neighbours.each(at_targets), reach=reach)

    def after(self, neighbours: Neighbours) -> ItemBias:
        """The bias after the last events of histories, from their neighbours ``[T, R, M, K]``, padded in front."""
        reach = min(self.reach, neighbours.items.shape[1])

        def at_the_end(values: Tensor) -> Tensor:
            return self._counted_neighbours([values[:, -1 - lag] for lag in range(reach)])

        return self._item_bias(*neighbours.each(at_the_end), reach=reach)

    def _counted_neighbours(self, by_lag: list[Tensor]) -> Tensor:
        """Those of the neighbours at each lag, ``[..., M, K]`` each, that count: ``[..., M K']``."""
        nearest = [neighbours[..., :count] for neighbours, count in zip(by_lag, self._counted, strict=False)]
        return torch.cat(nearest, dim=-1).flatten(-2)

    def _item_bias(self, items: Tensor, strengths: Tensor | None, reach: int) -> ItemBias:
        columns = sum(self._counted[:reach])
        bias = take(self.bias.flatten(1).T, self.get_buffer("bucket")[:columns]).T.flatten()
        if self.strength_bias is not None and strengths is not None:
            bucket = self.get_buffer("first_strength")[:, :columns].flatten() + strengths
            bias = bias + take(self.strength_bias.flatten()[:, None], bucket).squeeze(-1)
        return ItemBias(items, bias)


class TransitionNeighbours(nn.Module):
    """Looks up neighbours by transitions: in training those counted without the history's user, else those of all.

    Args:
        transitions: counted; or, for a model that is not trained any more, only the table of all users.

    Example:
        >>> items, strengths = torch.zeros(1, 3, 1), torch.zeros(1, 3, 1)
        >>> items[0, 2] = 1
        >>> neighbours = TransitionNeighbours(Transitions(items.int(), strengths.byte()))
        >>> neighbours(torch.tensor([[2, 7]])).items.tolist()  # item 7 came after training
        [[[[1]], [[0]]]]
    """

    def __init__(self, transitions: Transitions) -> None:
        super().__init__()
        self.register_buffer("items", transitions.items, persistent=False)
        self.register_buffer("strengths", transitions.strengths, persistent=False)

    def forward(self, item_seq: Tensor, user: Tensor | None = None) -> Neighbours:
        """The neighbours of items, ``[B, L] -> [B, L, 1, K]``, counted without the users ``[B]`` if these are given."""
        tables = self.get_buffer("items"), self.get_buffer("strengths")
        rows = item_seq.where(item_seq < tables[0].shape[1], 0)
        if user is None:
            return Neighbours(*(table[-1][rows][..., None, :].long() for table in tables))
        fold = (user % FOLDS)[:, None]
        return Neighbours(*(table[fold, rows][..., None, :].long() for table in tables))
