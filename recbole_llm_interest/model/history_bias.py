"""The history's own bias on the logits: learned terms for the items in it, and for their neighbours by content."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: buckets of the lag (how many events ago), each twice as wide as the one before
_LAG_BUCKETS = 6
#: the same for neighbours, which are looked up only as far back as these buckets reach
_NEIGHBOUR_LAG_BUCKETS = 4
#: buckets of a neighbour's rank by similarity
_RANK_BUCKETS = 6


class ItemBias(NamedTuple):
    """A bias on a few items' scores, sparse over the catalog.

    Attributes:
        items: item ids, ``[T, K]``; 0 for none. The biases of an item that occurs twice add up.
        bias: ``[K]``, or ``[T, K]``; the entries of item 0 have no meaning. Cosine scores are divided by the
            temperature after it is added.

    Example:
        >>> bias = ItemBias(torch.tensor([[7, 3, 7]]), torch.tensor([0.5, 0.25, 1.0]))
        >>> bias.of(torch.tensor([7]))
        tensor([1.5000])
    """

    items: Tensor
    bias: Tensor

    def of(self, item: Tensor) -> Tensor:
        """The bias of one item for each history, ``[T] -> [T]``."""
        return self.bias.where(self.items == item[:, None], 0.0).sum(dim=1)


class RepeatBias(nn.Module):
    """Learned bias on the items of the history, by how many events ago they were chosen.

    RecBole's sequential evaluation ranks the items of the history among all others, and content alone would score
    them high, since they resemble themselves. The bias learns, once for all items, whether users repeat. The idea of a
    repeat mode is RepeatNet's (Ren et al., AAAI 2019).

    Example:
        >>> repeat = RepeatBias()
        >>> _ = repeat.bias.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        >>> repeat.after(torch.tensor([[8, 5, 9]])).bias.tolist()  # item 9 was the last, 5 and 8 are in the next bucket
        [2.0, 2.0, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(_LAG_BUCKETS))

    def forward(self, item_seq: Tensor, row: Tensor, position: Tensor) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each, of ``item_seq``, ``[B, L]``."""
        length = item_seq.shape[1]
        ends_at = F.pad(item_seq, (length - 1, 0)).unfold(1, length, 1)  # [B, L, L], one window an event
        return self.after(ends_at[row, position])

    def after(self, item_seq: Tensor) -> ItemBias:
        """The bias after the last events of ``item_seq``, ``[T, L]``, padded in front."""
        lag = torch.arange(item_seq.shape[1] - 1, -1, -1, device=item_seq.device)
        return ItemBias(item_seq, _take(self.bias[:, None], _bucket(lag, _LAG_BUCKETS)).squeeze(1))


class NeighbourBias(nn.Module):
    """Learned bias on the nearest neighbours of the history's items, by similarity rank and by lag.

    Neighbours are found on the frozen content, so that an item needs no training event to be one. The bias has a few
    dozen weights in all. For each bucket of older events, half as many neighbours count.

    Args:
        modalities: number of modalities M; each has weights of its own.
        count: neighbours of an item that are known in each modality, K.

    Attributes:
        reach: how many events back neighbours are looked up.

    Example:
        >>> neighbours = torch.tensor([[[[4, 6]]]])  # of one event in one modality: [T, R, M, K]
        >>> NeighbourBias(modalities=1, count=2).after(neighbours).items
        tensor([[4, 6]])
    """

    reach = 2**_NEIGHBOUR_LAG_BUCKETS - 1

    def __init__(self, modalities: int, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(modalities, _NEIGHBOUR_LAG_BUCKETS, _RANK_BUCKETS))
        lags = _bucket(torch.arange(self.reach), _NEIGHBOUR_LAG_BUCKETS)
        ranks = _bucket(torch.arange(count), _RANK_BUCKETS)
        counts = lags[:, None] + ranks < _RANK_BUCKETS  # [reach, K], of which each row is true up to some rank
        # as Python numbers: an exported program cannot branch on the content of a tensor
        self._counted: list[int] = counts.sum(dim=1).tolist()
        lag, rank = counts.nonzero(as_tuple=True)
        self.register_buffer("bucket", lags[lag] * _RANK_BUCKETS + ranks[rank], persistent=False)

    def forward(self, neighbours: Tensor, row: Tensor, position: Tensor) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each, of histories ``[B, L]``.

        Args:
            neighbours: the neighbours of each event's item, nearest first, ``[B, L, M, K]``; 0 for none.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
        """
        length = neighbours.shape[1]
        reach = min(self.reach, length)
        events = F.pad(neighbours, (0, 0, 0, 0, reach - 1, 0))  # none before the first of each history
        by_lag = [events[:, reach - 1 - lag :][:, :length] for lag in range(reach)]
        after_each = self._counted_neighbours(by_lag)  # [B, L, K']
        return self._item_bias(after_each.flatten(0, 1).index_select(0, row * length + position), reach)

    def after(self, neighbours: Tensor) -> ItemBias:
        """The bias after the last events of histories, from their neighbours ``[T, R, M, K]``, padded in front."""
        reach = min(self.reach, neighbours.shape[1])
        return self._item_bias(self._counted_neighbours([neighbours[:, -1 - lag] for lag in range(reach)]), reach)

    def _counted_neighbours(self, by_lag: list[Tensor]) -> Tensor:
        """Those of the neighbours at each lag, ``[..., M, K]`` each, that count: ``[..., K']``."""
        nearest = [neighbours[..., :count] for neighbours, count in zip(by_lag, self._counted, strict=False)]
        return torch.cat(nearest, dim=-1).flatten(-2)

    def _item_bias(self, items: Tensor, reach: int) -> ItemBias:
        bucket = self.get_buffer("bucket")[: sum(self._counted[:reach])]
        return ItemBias(items, _take(self.bias.flatten(1).T, bucket).T.flatten())


class HistoryBias(nn.Module):
    """The biases of a history, for training at every position and for scoring at its end.

    Args:
        repeat: bias on the history's items; None for none.
        neighbour: bias on their neighbours by content; None for none.

    Example:
        >>> history_bias = HistoryBias(RepeatBias(), None)
        >>> item_seq, last = torch.tensor([[5, 9, 0]]), torch.tensor([1])
        >>> history_bias.after(item_seq, last, neighbours_of=lambda items: items).items
        tensor([[0, 5, 9]])
    """

    def __init__(self, repeat: RepeatBias | None, neighbour: NeighbourBias | None) -> None:
        super().__init__()
        self.repeat = repeat
        self.neighbour = neighbour

    def forward(
        self, item_seq: Tensor, neighbours_of: Callable[[Tensor], Tensor], row: Tensor, position: Tensor
    ) -> ItemBias | None:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each; None if there is none.

        Args:
            item_seq: ``[B, L]``.
            neighbours_of: looks up the neighbours of items, ``[B, L] -> [B, L, M, K]``.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
        """
        parts = []
        if self.repeat is not None:
            parts.append(self.repeat(item_seq, row, position))
        if self.neighbour is not None:
            parts.append(self.neighbour(neighbours_of(item_seq), row, position))
        return _concatenated(parts)

    def after(self, item_seq: Tensor, last: Tensor, neighbours_of: Callable[[Tensor], Tensor]) -> ItemBias | None:
        """The bias after the events at ``last``, ``[B]``, of ``item_seq``, ``[B, L]``; None if there is none."""
        return _concatenated(list(self.parts(item_seq, last, neighbours_of).values()))

    def parts(self, item_seq: Tensor, last: Tensor, neighbours_of: Callable[[Tensor], Tensor]) -> dict[str, ItemBias]:
        """The biases after the events at ``last``, by what they are on: an explanation names them.

        Args:
            item_seq: ``[B, L]``.
            last: index of each history's last event, ``[B]``.
            neighbours_of: looks up the neighbours of items, ``[B, R] -> [B, R, M, K]``.
        """
        parts = {}
        if self.repeat is not None:
            parts["repeat"] = self.repeat.after(_last_events(item_seq, last, item_seq.shape[1]))
        if self.neighbour is not None:
            parts["neighbour"] = self.neighbour.after(neighbours_of(_last_events(item_seq, last, self.neighbour.reach)))
        return parts


def _concatenated(parts: list[ItemBias]) -> ItemBias | None:
    if not parts:
        return None
    items, bias = zip(*parts, strict=True)
    return ItemBias(torch.cat(items, dim=1), torch.cat(bias))


def _last_events(item_seq: Tensor, last: Tensor, count: int) -> Tensor:
    """The ``count`` events of ``item_seq``, ``[B, L]``, up to the one at ``last``, ``[B]``, padded in front."""
    place = last[:, None] - torch.arange(count - 1, -1, -1, device=last.device)
    return item_seq.gather(1, place.clamp(min=0)).where(place >= 0, 0)


def _take(weights: Tensor, bucket: Tensor) -> Tensor:
    """The weights of buckets, ``[buckets, M], [K] -> [K, M]``; the gradient, unlike that of an index, sorts nothing."""
    return F.embedding(bucket, weights)


def _bucket(distance: Tensor, buckets: int) -> Tensor:
    """The bucket of a distance: 0, 1 and 2, 3 to 6, 7 to 14, … up to the last bucket, which has no end."""
    starts = 2 ** torch.arange(1, buckets, device=distance.device)
    return (distance[..., None] + 1 >= starts).sum(dim=-1)
