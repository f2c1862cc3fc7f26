"""What the history itself says of the next item, past the interest: of what it holds, and of what looks like that."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: weights differ by how long ago an event was: one for the last event, and each further one for twice as many
_LAGS = 6
#: the same for neighbours, which count as far back as these weights reach
_NEIGHBOUR_LAGS = 4
#: weights differ by how near a neighbour is in the same way; the older the event, the fewer of its neighbours count
_RANKS = 6


class HistoryBias(NamedTuple):
    """What is added to the cosines of a few items.

    Attributes:
        items: which ones, ``[T, K]``; 0 where there is none. An item that comes twice counts twice.
        bonus: what is added to the cosine of each column's item, ``[K]``. What is added to 0 has no meaning.
    """

    items: Tensor
    bonus: Tensor


class RepeatBias(nn.Module):
    """A learnt bonus, or malus, by how many events ago an item was chosen.

    People buy the same glue again and watch no film twice. RecBole ranks the items of the history like all others,
    and content makes them look right by being like themselves; so that it is learnt, once for all items, what having
    had an item says. The idea of a repeat mode is RepeatNet's (Ren et al., AAAI 2019).
    """

    def __init__(self) -> None:
        super().__init__()
        self.bonus = nn.Parameter(torch.zeros(_LAGS))

    def forward(self, item_seq: Tensor, row: Tensor, position: Tensor) -> HistoryBias:
        """After the events at ``position`` of the rows ``row``, ``[T]`` each, of histories ``[B, L]``."""
        length = item_seq.shape[1]
        ends_at = F.pad(item_seq, (length - 1, 0)).unfold(1, length, 1)  # [B, L, L], one window an event
        return self.after(ends_at[row, position])

    def after(self, item_seq: Tensor) -> HistoryBias:
        """After the last events of histories ``[T, L]``, with 0 in front of the shorter ones."""
        lag = torch.arange(item_seq.shape[1] - 1, -1, -1, device=item_seq.device)
        return HistoryBias(item_seq, _of_buckets(self.bonus[:, None], _bucket(lag, _LAGS)).squeeze(1))


class NeighbourBias(nn.Module):
    """A learnt bonus for the nearest neighbours of what was chosen, by how near they are and how many events ago.

    Neighbours are those by frozen content, so that nothing which training saw of an item, or did not see, stands
    between it and the items that it is like. What being like them is worth is learnt, a few dozen numbers in all. With
    each bucket of older events, half as many of their neighbours count, since what is both old and far says little.

    Args:
        modalities: whose neighbours have weights of their own.
        count: how many neighbours of an item are known in each, K.

    Attributes:
        reach: how many events back it looks.
    """

    reach = 2**_NEIGHBOUR_LAGS - 1

    def __init__(self, modalities: int, count: int) -> None:
        super().__init__()
        self.bonus = nn.Parameter(torch.zeros(modalities, _NEIGHBOUR_LAGS, _RANKS))
        lags = _bucket(torch.arange(self.reach), _NEIGHBOUR_LAGS)
        ranks = _bucket(torch.arange(count), _RANKS)
        counts = lags[:, None] + ranks < _RANKS  # [reach, K], of which each row is true up to some rank
        # in Python's numbers, since an exported program cannot decide by what stands in a tensor
        self._counted: list[int] = counts.sum(dim=1).tolist()
        lag, rank = counts.nonzero(as_tuple=True)
        self.register_buffer("bucket", lags[lag] * _RANKS + ranks[rank], persistent=False)

    def forward(self, neighbours: Tensor, row: Tensor, position: Tensor) -> HistoryBias:
        """After the events at ``position`` of the rows ``row``, ``[T]`` each, of histories ``[B, L]``.

        ``neighbours`` are those of each event, ``[B, L, M, K]``, the nearest first; 0 where there are none.
        """
        length = neighbours.shape[1]
        reach = min(self.reach, length)
        events = F.pad(neighbours, (0, 0, 0, 0, reach - 1, 0))  # none before the first of each history
        by_lag = [events[:, reach - 1 - lag :][:, :length] for lag in range(reach)]
        after_each = self._of_all_lags(by_lag)  # [B, L, K']
        return self._bonus(after_each.flatten(0, 1).index_select(0, row * length + position), reach)

    def after(self, neighbours: Tensor) -> HistoryBias:
        """After the last events of histories, ``[T, R, M, K]``, with 0 in front of the shorter ones."""
        reach = min(self.reach, neighbours.shape[1])
        return self._bonus(self._of_all_lags([neighbours[:, -1 - lag] for lag in range(reach)]), reach)

    def _of_all_lags(self, by_lag: list[Tensor]) -> Tensor:
        """Of the neighbours of the event so many events ago, ``[..., M, K]`` each, those that count: ``[..., K']``."""
        nearest = [neighbours[..., :count] for neighbours, count in zip(by_lag, self._counted, strict=False)]
        return torch.cat(nearest, dim=-1).flatten(-2)

    def _bonus(self, items: Tensor, reach: int) -> HistoryBias:
        bucket = self.get_buffer("bucket")[: sum(self._counted[:reach])]
        return HistoryBias(items, _of_buckets(self.bonus.flatten(1).T, bucket).T.flatten())


def together(*parts: HistoryBias | None) -> HistoryBias | None:
    """All of several bonuses; None where there is none."""
    some = [part for part in parts if part is not None]
    if not some:
        return None
    items, bonus = zip(*some, strict=True)
    return HistoryBias(torch.cat(items, dim=1), torch.cat(bonus))


def until(item_seq: Tensor, last: Tensor, events: int) -> Tensor:
    """So many events of histories ``[B, L]`` up to the one at ``last``, ``[B]``, which stands in the last column."""
    place = last[:, None] - torch.arange(events - 1, -1, -1, device=last.device)
    return item_seq.gather(1, place.clamp(min=0)).where(place >= 0, 0)


def _of_buckets(weights: Tensor, bucket: Tensor) -> Tensor:
    """The weights of buckets, ``[buckets, M], [K] -> [K, M]``; the gradient, unlike that of an index, sorts nothing."""
    return F.embedding(bucket, weights)


def _bucket(distance: Tensor, buckets: int) -> Tensor:
    """0, 1 and 2, 3 to 6, 7 to 14, … up to the last bucket, which has no end."""
    starts = 2 ** torch.arange(1, buckets, device=distance.device)
    return (distance[..., None] + 1 >= starts).sum(dim=-1)
