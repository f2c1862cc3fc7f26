"""Lists of items that differ from each other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def select_diverse(representations: Tensor, k: int, min_diversity: float) -> list[int]:
    """Positions of the first ``k`` items that differ enough from every item selected before them.

    Args:
        representations: of the items, the best first, ``[n, D]``.
        k: number of items to select. There may be fewer.
        min_diversity: the least 1 - cosine between any two selected items, from 0 to 2.

    Example:
        >>> items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> select_diverse(items, k=2, min_diversity=0.5)
        [0, 2]
    """
    unit = F.normalize(representations, dim=-1)
    is_too_close = (unit @ unit.T > 1 - min_diversity).tolist()
    selected: list[int] = []
    for position in range(len(unit)):
        if len(selected) == k:
            break
        if not any(is_too_close[position][other] for other in selected):
            selected.append(position)
    return selected
