"""Which items are like an item, by their features alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: similarities that are held at once
_BLOCK = 2**24


def nearest_neighbours(values: Tensor, present: Tensor, count: int) -> Tensor:
    """The rows of greatest cosine to each row, the nearest first, ``[N, count]``, int32; found exactly, by blocks.

    Row 0, the padding, and rows that are not present have no neighbours and are none, nor is a row its own; 0 stands
    where there are fewer than ``count``.

    Args:
        values: features, ``[N, D]``.
        present: ``[N]``, bool; which rows have some.
        count: neighbours of each row.
    """
    found = torch.zeros(len(values), count, dtype=torch.int32, device=values.device)
    rows = present.nonzero().squeeze(1)
    rows = rows[rows > 0]
    count = min(count, len(rows) - 1)
    if count <= 0:
        return found
    unit = F.normalize(values[rows], dim=-1)
    place = torch.arange(len(rows), device=values.device)
    for block in torch.split(place, max(_BLOCK // len(rows), 1)):
        similarity = unit[block] @ unit.T
        similarity[torch.arange(len(block), device=values.device), block] = -torch.inf
        found[rows[block], :count] = rows[similarity.topk(count, dim=1).indices].int()
    return found
