"""What the history itself says of the next item, past the interest: of what it holds, and of what looks like that."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

#: weights differ by how long ago an event was: one for the last event, and each further one for twice as many
_LAGS = 6
#: the same for neighbours, which count as far back as these weights reach
_NEIGHBOUR_LAGS = 4
_RECENT = 2**_NEIGHBOUR_LAGS - 1
#: weights differ by how near a neighbour is in the same way
_RANKS = 6


class HistoryBonus(NamedTuple):
    """What is added to the cosines of a few items.

    Attributes:
        items: their ids, ``[T, K]``; 0 where there is none. An item that comes twice counts twice.
        bonus: what is added to each one's cosine, ``[T, K]``; 0 where there is none.
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

    def forward(self, item_seq: Tensor, position: Tensor) -> HistoryBonus:
        """From histories ``[T, L]`` and the place of each one's last event, ``[T]``."""
        lag = position[:, None] - torch.arange(item_seq.shape[1], device=item_seq.device)
        is_past = (lag >= 0) & (item_seq > 0)
        return HistoryBonus(item_seq.where(is_past, 0), self.bonus[_bucket(lag, _LAGS)].where(is_past, 0.0))


class NeighbourBias(nn.Module):
    """A learnt bonus for the nearest neighbours of what was chosen, by how near they are and how many events ago.

    Neighbours are those by frozen content, so that nothing which training saw of an item, or did not see, stands
    between it and the items that it is like. What being like them is worth is learnt, a few dozen numbers in all. With
    each bucket of older events, half as many of their neighbours count, since what is both old and far says little.

    Args:
        modalities: whose neighbours have weights of their own.

    Attributes:
        reach: how many events back it looks.
    """

    reach = _RECENT

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.bonus = nn.Parameter(torch.zeros(modalities, _NEIGHBOUR_LAGS, _RANKS))

    def forward(self, item_seq: Tensor, position: Tensor, neighbours: Tensor) -> HistoryBonus:
        """From histories ``[T, L]`` and the place of each one's last event, ``[T]``.

        ``neighbours`` are those of all items, ``[N, M, K]``, the nearest first; 0 where there are none.
        """
        lag = torch.arange(min(_RECENT, item_seq.shape[1]), device=item_seq.device)
        rank = torch.arange(neighbours.shape[-1], device=item_seq.device)
        place = position[:, None] - lag
        events = item_seq.gather(1, place.clamp(min=0)).where(place >= 0, 0)
        lag_bucket, rank_bucket = _bucket(lag, _NEIGHBOUR_LAGS), _bucket(rank, _RANKS)
        which_lag, which_rank = (lag_bucket[:, None] + rank_bucket < _RANKS).nonzero(as_tuple=True)  # [P] pairs
        items = neighbours[events[:, which_lag], :, which_rank].long()  # [T, P, M]
        bonus = self.bonus[:, lag_bucket[which_lag], rank_bucket[which_rank]].T
        return HistoryBonus(items.flatten(1), bonus.where(items > 0, 0.0).flatten(1))


def together(*parts: HistoryBonus) -> HistoryBonus:
    """All of several bonuses."""
    items, bonus = zip(*parts, strict=True)
    return HistoryBonus(torch.cat(items, dim=1), torch.cat(bonus, dim=1))


def _bucket(distance: Tensor, buckets: int) -> Tensor:
    """0, 1 and 2, 3 to 6, 7 to 14, … up to the last bucket, which has no end."""
    return (distance.clamp(min=0) + 1).float().log2().long().clamp(max=buckets - 1)
