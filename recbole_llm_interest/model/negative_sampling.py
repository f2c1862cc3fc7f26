"""The candidates of a training step: all items of the training data, or those of the batch and sampled negatives."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Candidates(NamedTuple):
    """The items that a training step encodes and scores; within the step, an item is its index among them.

    Attributes:
        ids: item ids, ``[C]``; 0, the padding, comes first.
        logit_correction: added to each candidate's logit in the loss, ``[C]``; -inf for one that is not a negative.
        index_of: index of every item among the candidates, ``[N]``; 0 for the others. The next draw overwrites it.

    Example:
        >>> candidates = NegativeSampler(torch.tensor([0, 5, 0, 2]), draws=None)()
        >>> candidates.ids, candidates.index_of[3]  # item 2 has no training event
        (tensor([0, 1, 3]), tensor(2))
    """

    ids: Tensor
    logit_correction: Tensor
    index_of: Tensor


class NegativeSampler(nn.Module):
    """Samples negatives, which makes the cost of a step independent of the size of the catalog.

    Half of them are drawn by their number of training events, half uniformly (mixed negative sampling, Yang et al.,
    WWW 2020): popular negatives are the hard ones, and uniform draws cover the long tail and bound the weights. The
    logQ correction of a negative drawn with probability q is -log q, which makes the sum over negatives an unbiased
    estimate of the softmax's (Bengio and Senécal, 2008). Items of the batch are negatives only if they are drawn:
    those of a history would otherwise be in every draw, with a correction that says they are rare.

    Args:
        counts: training events of each item, ``[N]``; items without any are never drawn.
        draws: number of draws with repetition; None, or at least the number of items, for all items.

    Example:
        >>> sampler = NegativeSampler(torch.tensor([0, 5, 1, 2, 9]), draws=2)
        >>> candidates = sampler(torch.tensor([[1, 3]]))
        >>> {0, 1, 3} <= set(candidates.ids.tolist())
        True
    """

    def __init__(self, counts: Tensor, draws: int | None) -> None:
        super().__init__()
        trained = (counts > 0).nonzero().squeeze(1)
        self.draws = None if draws is None or draws >= len(trained) else draws
        index = torch.zeros_like(counts)
        self.register_buffer("trained", trained, persistent=False)
        self.register_buffer("index", index, persistent=False)
        if self.draws is None:
            ids = torch.cat([trained.new_zeros(1), trained])
            index[ids] = torch.arange(len(ids))
            self.register_buffer("ids", ids, persistent=False)
            self.register_buffer("logit_correction", torch.where(ids > 0, 0.0, -torch.inf), persistent=False)
            return
        self.register_buffer("ids", trained[:0], persistent=False)
        self.register_buffer("popularity", (counts / counts.sum()).double(), persistent=False)
        self.register_buffer("cumulative", self.get_buffer("popularity")[trained].cumsum(0), persistent=False)

    def forward(self, *batch_items: Tensor) -> Candidates:
        """The candidates of a step: the negatives, and the items ``batch_items`` of any shapes."""
        if self.draws is None:
            return Candidates(*(self.get_buffer(name) for name in ("ids", "logit_correction", "index")))
        drawn = self._draw()
        ids = torch.unique(torch.cat([drawn.new_zeros(1), drawn, *(items.flatten() for items in batch_items)]))
        index = self.get_buffer("index")
        index[self.get_buffer("ids")] = 0  # indices of the previous step
        index[ids] = torch.arange(len(ids), device=ids.device)
        self.ids = ids
        logit_correction = torch.full(ids.shape, -torch.inf, device=ids.device)
        logit_correction[index[drawn]] = -self.log_probability(drawn).to(logit_correction.dtype)
        return Candidates(ids, logit_correction, index)

    def log_probability(self, items: Tensor) -> Tensor:
        """Log of the probability that each of ``items`` is drawn at least once, ``[K] -> [K]``."""
        by_popularity, uniformly = self._halves()
        missed = by_popularity * torch.log1p(-self.get_buffer("popularity")[items])
        missed = missed + uniformly * math.log1p(-1 / len(self.get_buffer("trained")))
        return torch.log(-torch.expm1(missed))

    def _draw(self) -> Tensor:
        trained, cumulative = self.get_buffer("trained"), self.get_buffer("cumulative")
        by_popularity, uniformly = self._halves()
        point = torch.rand(by_popularity, dtype=torch.double, device=trained.device) * cumulative[-1]
        popular = torch.searchsorted(cumulative, point, right=True).clamp(max=len(trained) - 1)
        uniform = torch.randint(len(trained), (uniformly,), device=trained.device)
        return trained[torch.cat([popular, uniform])]

    def _halves(self) -> tuple[int, int]:
        draws = self.draws or 0
        return draws - draws // 2, draws // 2
