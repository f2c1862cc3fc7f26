"""How well features rank the next item by themselves: what decides the best adapter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from recbole_llm_interest.errors import DivergedError
from recbole_llm_interest.model.scoring import logits

#: validation events that are looked at
_SAMPLE = 4000
#: weight of an event relative to the one after it
_DECAY = 0.5
_CUTOFF = 10
_BATCH = 256


def next_item_ndcg(
    table: Tensor, pairs: Sequence[tuple[NDArray[np.int64], int]], candidates: NDArray[np.int64]
) -> float:
    """NDCG@10 of next items by the cosine with a decayed mean of the history's features, seen items filtered.

    Nothing is trained for it, so that it measures the features alone. Items with equal scores share their ranks.

    Args:
        table: features of all items, ``[N, D]``.
        pairs: a history and the item that follows it, each with features; at least one.
        candidates: items with features.

    Raises:
        DivergedError: features are not finite.

    Example:
        >>> table = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> next_item_ndcg(table, [(np.array([0]), 1)], np.arange(3))
        1.0
    """
    if not torch.isfinite(table).all():
        raise DivergedError("features of the adapted encoder are not finite: lower adapt_learning_rate")
    sample = np.random.default_rng(0).permutation(len(pairs))[:_SAMPLE]
    directions = normalize(table, dim=-1)
    is_candidate = torch.zeros(len(table), dtype=torch.bool)
    is_candidate[torch.from_numpy(candidates)] = True
    gains: list[Tensor] = []
    for start in range(0, len(sample), _BATCH):
        chosen = [pairs[index] for index in sample[start : start + _BATCH]]
        interests = torch.stack([_mean(directions, history) for history, _ in chosen])
        scores = logits(interests, directions).masked_fill(~is_candidate.to(table.device), -torch.inf)
        targets = torch.tensor([target for _, target in chosen], device=table.device)
        own = scores.gather(1, targets[:, None])
        for row, (history, _) in enumerate(chosen):
            scores[row, torch.from_numpy(history).to(table.device)] = -torch.inf
        is_repeat = torch.tensor([target in history for history, target in chosen], device=table.device)
        rank = (scores > own).sum(dim=1) + ((scores == own).sum(dim=1) - 1) / 2
        gains.append((1 / torch.log2(rank + 2.0)).masked_fill((rank >= _CUTOFF) | is_repeat, 0.0))
    return float(torch.cat(gains).mean())


def _mean(directions: Tensor, history: NDArray[np.int64]) -> Tensor:
    """The decayed sum of a history's directions, ``[D]``."""
    weights = _DECAY ** torch.arange(len(history) - 1, -1, -1, dtype=directions.dtype, device=directions.device)
    return weights @ directions[torch.from_numpy(history).to(directions.device)]
