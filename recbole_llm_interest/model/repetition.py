"""Whether users come back to an item: what their history holds weighs in its scores."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Repeats(NamedTuple):
    """What is added to the scores of items that stand in the history.

    Attributes:
        items: their ids, ``[T, L]``; 0 where there is none. An item that comes twice counts twice.
        bonus: what each adds to its item's score, ``[T, L]``; 0 where there is none.
    """

    items: Tensor
    bonus: Tensor


class RepeatBias(nn.Module):
    """A learnt bonus, or malus, by how many events ago an item was chosen.

    People buy the same glue again and watch no film twice. RecBole ranks the items of the history like all others,
    and content makes them look right by being like themselves; so that it is learnt, once for all items, what having
    had an item says. The idea of a repeat mode is RepeatNet's (Ren et al., AAAI 2019).

    Args:
        lags: bonuses; the first is for the last event, each further one for twice as long ago, the last for all
            before.
    """

    def __init__(self, lags: int = 6) -> None:
        super().__init__()
        self.bonus = nn.Parameter(torch.zeros(lags))

    def forward(self, item_seq: Tensor, position: Tensor) -> Repeats:
        """From histories ``[T, L]`` and the place of each one's last event, ``[T]``."""
        lag = position[:, None] - torch.arange(item_seq.shape[1], device=item_seq.device)
        is_past = (lag >= 0) & (item_seq > 0)
        bucket = (lag.clamp(min=0) + 1).float().log2().long().clamp(max=len(self.bonus) - 1)
        return Repeats(item_seq.where(is_past, 0), self.bonus[bucket].where(is_past, 0.0))
