"""Which items a training step is about: all that training knows, or those of its batch and some drawn at random."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Candidates(NamedTuple):
    """The items that a training step represents, reads and scores; within it, an item is its place among them.

    Attributes:
        ids: the items, ``[C]``; 0, the padding, comes first.
        logit_correction: what is added to each one's score in the loss, ``[C]``; -inf for one that is no rival.
        places: of all items among the candidates, ``[N]``; 0 for those that are none. The next draw overwrites it.
    """

    ids: Tensor
    logit_correction: Tensor
    places: Tensor


class NegativeSampler(nn.Module):
    """Draws the next item's rivals, so that a step costs no more the larger the catalogue is.

    Half are drawn by how often they occur in training, half uniformly (mixed negative sampling, Yang et al., WWW
    2020): the rivals that matter are the popular ones, which a uniform draw hardly meets, while by popularity alone
    the long tail would hardly ever be one. The mixture also bounds the weights. An item that was drawn with
    probability pi stands for 1 / pi like it, so that the sum over all items, and with it the softmax, is met on
    average (Bengio and Senécal, 2008). Items of the batch are no rivals unless they are drawn, too: those of one's own
    history would be in each draw, at weights that say they seldom are.

    Args:
        counts: training events of each item, ``[N]``; those without any are never drawn.
        draws: how many are drawn, with repetition; None, or as many as there are items, for all of them.
    """

    def __init__(self, counts: Tensor, draws: int | None) -> None:
        super().__init__()
        trained = (counts > 0).nonzero().squeeze(1)
        self.draws = None if draws is None or draws >= len(trained) else draws
        places = torch.zeros_like(counts)
        self.register_buffer("trained", trained, persistent=False)
        self.register_buffer("places", places, persistent=False)
        if self.draws is None:
            ids = torch.cat([trained.new_zeros(1), trained])
            places[ids] = torch.arange(len(ids))
            self.register_buffer("ids", ids, persistent=False)
            self.register_buffer("logit_correction", torch.where(ids > 0, 0.0, -torch.inf), persistent=False)
            return
        self.register_buffer("ids", trained[:0], persistent=False)
        self.register_buffer("popularity", (counts / counts.sum()).double(), persistent=False)
        self.register_buffer("cumulative", self.get_buffer("popularity")[trained].cumsum(0), persistent=False)

    def forward(self, *needed: Tensor) -> Candidates:
        """The candidates of a step whose batch needs the items ``needed``, of any shapes."""
        if self.draws is None:
            return Candidates(*(self.get_buffer(name) for name in ("ids", "logit_correction", "places")))
        drawn = self._draw()
        ids = torch.unique(torch.cat([drawn.new_zeros(1), drawn, *(items.flatten() for items in needed)]))
        places = self.get_buffer("places")
        places[self.get_buffer("ids")] = 0  # those of the step before
        places[ids] = torch.arange(len(ids), device=ids.device)
        self.ids = ids
        logit_correction = torch.full(ids.shape, -torch.inf, device=ids.device)
        logit_correction[places[drawn]] = -self.log_probability(drawn).to(logit_correction.dtype)
        return Candidates(ids, logit_correction, places)

    def _draw(self) -> Tensor:
        trained, cumulative = self.get_buffer("trained"), self.get_buffer("cumulative")
        by_popularity, uniformly = self._halves()
        point = torch.rand(by_popularity, dtype=torch.double, device=trained.device) * cumulative[-1]
        popular = torch.searchsorted(cumulative, point, right=True).clamp(max=len(trained) - 1)
        any_one = torch.randint(len(trained), (uniformly,), device=trained.device)
        return trained[torch.cat([popular, any_one])]

    def log_probability(self, items: Tensor) -> Tensor:
        """The log of the probability that each of ``items``, ``[K]``, is among those drawn."""
        by_popularity, uniformly = self._halves()
        missed = by_popularity * torch.log1p(-self.get_buffer("popularity")[items])
        missed = missed + uniformly * math.log1p(-1 / len(self.get_buffer("trained")))
        return torch.log(-torch.expm1(missed))

    def _halves(self) -> tuple[int, int]:
        draws = self.draws or 0
        return draws - draws // 2, draws // 2
