"""What every item is, computed once for all histories that are scored against it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.history_bias import HistoryBias


class ItemTable(NamedTuple):
    """All items, ready to be scored. It may be in use elsewhere, so that nobody may write to it.

    Attributes:
        representations: ``I`` of every item, ``[N, D]``.
        factors: what interest is multiplied with, ``[N, D]``: the representations, at unit length and divided by the
            temperature where scores are cosines.
        temperature: of cosine scores; None where scores are dot products.
    """

    representations: Tensor
    factors: Tensor
    temperature: float | None

    @classmethod
    def of(cls, items: Tensor, temperature: float | None) -> ItemTable:
        """The table of items' representations ``[N, D]``."""
        return cls(items, items if temperature is None else F.normalize(items, dim=-1) / temperature, temperature)

    def scores(self, interest: Tensor, history: HistoryBias | None) -> Tensor:
        """Score of every item for interests ``[B, D]``, with what their histories add: ``[B, N]``, newly made.

        That of 0, the padding, is -inf.
        """
        interest, history = self._factor(interest, history)
        scores = interest @ self.factors.T
        if history is not None:
            scores.scatter_add_(1, history.items, history.bonus.expand_as(history.items))
        scores[:, 0] = -torch.inf
        return scores

    def scores_of(self, item: Tensor, interest: Tensor, history: HistoryBias | None) -> Tensor:
        """Score of one item, ``[B]``, for each interest, ``[B, D]``, with what its history adds: ``[B]``."""
        interest, history = self._factor(interest, history)
        scores = (interest * self.factors[item]).sum(dim=-1)
        if history is None:
            return scores
        return scores + history.bonus.where(history.items == item[:, None], 0.0).sum(dim=1)

    def _factor(self, interest: Tensor, history: HistoryBias | None) -> tuple[Tensor, HistoryBias | None]:
        if self.temperature is None:
            return interest, history
        scaled = None if history is None else history._replace(bonus=history.bonus / self.temperature)
        return F.normalize(interest, dim=-1), scaled


def parameter_versions(module: nn.Module) -> tuple[tuple[int, int, int], ...]:
    """Equal for as long as no parameter or buffer is written to or replaced.

    torch counts the writes to each tensor, but those of fused optimisers and those by way of ``.data``.
    """
    return tuple(
        (id(tensor), tensor.data_ptr(), tensor._version) for tensor in (*module.parameters(), *module.buffers())
    )
