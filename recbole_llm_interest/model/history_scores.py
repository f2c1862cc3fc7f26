"""What the history itself says of the next item, past the interest: what it holds, and what looks like it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: by how long ago an event was, weights differ: the last event, the one before it and then ever twice as many
_LAGS = 6


class Repeats(NamedTuple):
    """What is added to the cosines of items that stand in the history.

    Attributes:
        items: their ids, ``[T, L]``; 0 where there is none. An item that comes twice counts twice.
        bonus: what each adds to its item's cosine, ``[T, L]``; 0 where there is none.
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

    def forward(self, item_seq: Tensor, position: Tensor) -> Repeats:
        """From histories ``[T, L]`` and the place of each one's last event, ``[T]``."""
        lag = position[:, None] - torch.arange(item_seq.shape[1], device=item_seq.device)
        is_past = (lag >= 0) & (item_seq > 0)
        return Repeats(item_seq.where(is_past, 0), self.bonus[_bucket(lag)].where(is_past, 0.0))


class Match(NamedTuple):
    """What is added to the cosine of each item for looking like the history, ``query @ looks.T``.

    Attributes:
        query: what the histories look like, ``[T, K]``.
        looks: what the items look like, ``[N, K]``.
    """

    query: Tensor
    looks: Tensor


class ContentMatch(nn.Module):
    r"""Nearest neighbours of the history by content, weighed against the interest.

    .. math:: \sum_m \sum_j a_m(\mathrm{lag}_j) \cos(c^m_j, c^m_i)

    over modalities :math:`m` and events :math:`j`. The features :math:`c` are the frozen, conditioned ones, so that
    nothing which training saw of an item stands between it and an item that training never saw; learnt is only what
    likeness is worth.

    Args:
        sizes: width of each modality's features, in the order in which they stand side by side.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.zeros(len(sizes), _LAGS))

    def forward(self, item_seq: Tensor, looks: Tensor) -> Tensor:
        """What histories ``[B, L]`` look like after each event, ``[B, L, K]``; from the items' looks ``[N, K]``."""
        position = torch.arange(item_seq.shape[1], device=item_seq.device)
        lag = position[:, None] - position
        weights = self.weight[:, _bucket(lag)].where(lag >= 0, 0.0)  # [M, L, L]
        events = torch.split(F.embedding(item_seq, looks), self.sizes, dim=-1)
        return torch.cat([weight @ event for weight, event in zip(weights, events, strict=True)], dim=-1)


def _bucket(lag: Tensor) -> Tensor:
    """Which weight belongs to an event that is ``lag`` events before the last one."""
    return (lag.clamp(min=0) + 1).float().log2().long().clamp(max=_LAGS - 1)
