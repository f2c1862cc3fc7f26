"""The scoring rule: the logits of items for an interest, and the table of items that they are computed from.

Every caller uses it: the training loss, evaluation, live use and its search, explanations and exported programs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.settings import ModelSettings

#: lower bound of the length by which an item is divided
_EPSILON = 1e-12


class ScoringRule(NamedTuple):
    r"""How interest and items are compared: :math:`(\cos(z, I) + b) / \tau`, or :math:`z \cdot I + b`.

    A score is one product of a query, made of the interest, and an item factor, made of the item's representation.
    B is the batch, N the number of items, D ``embedding_size``.

    Attributes:
        temperature: :math:`\tau`, by which cosine scores are divided; None for dot products.

    Example:
        >>> import torch
        >>> rule = ScoringRule(temperature=0.5)
        >>> factors = rule.item_factors(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
        >>> interest = torch.tensor([[3.0, 0.0]])
        >>> rule.scores(interest, factors)
        tensor([[-inf, 2., 0.]])
        >>> rule.scores(interest, factors, ItemBias(torch.tensor([[2]]), torch.tensor([0.1])))
        tensor([[  -inf, 2.0000, 0.2000]])
    """

    temperature: float | None

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> ScoringRule:
        """The rule of the settings ``score`` and ``temperature``."""
        return cls(settings.temperature if settings.score == "cosine" else None)

    def query(self, interest: Tensor) -> Tensor:
        """What is multiplied with item factors, ``[B, D] -> [B, D]``: the interest, at unit length for cosines."""
        return interest if self.temperature is None else F.normalize(interest, dim=-1)

    def item_scale(self, items: Tensor) -> Tensor | None:
        """What turns representations into item factors, ``[N, D] -> [N, 1]``; None if they are the same."""
        if self.temperature is None:
            return None
        return 1 / (torch.linalg.vector_norm(items, dim=-1, keepdim=True).clamp(min=_EPSILON) * self.temperature)

    def item_factors(self, items: Tensor) -> Tensor:
        """Item factors of representations, ``[N, D] -> [N, D]``."""
        scale = self.item_scale(items)
        return items if scale is None else items * scale

    def scale_bias(self, bias: Tensor) -> Tensor:
        """The values of a bias in the units of logits, ``[...] -> [...]``."""
        return bias if self.temperature is None else bias / self.temperature

    def scaled(self, bias: ItemBias | None) -> ItemBias | None:
        """A history's bias in the units of logits; None for none."""
        return None if bias is None else bias._replace(bias=self.scale_bias(bias.bias))

    def scores(self, interest: Tensor, factors: Tensor, bias: ItemBias | None = None) -> Tensor:
        """Scores of every item, ``[B, D], [N, D] -> [B, N]``; -inf for item 0, the padding."""
        scores = logits(self.query(interest), factors, self.scaled(bias))
        scores[:, 0] = -torch.inf
        return scores


def logits(query: Tensor, factors: Tensor, bias: ItemBias | None = None, *, out: Tensor | None = None) -> Tensor:
    """Scores of items, ``[B, N]``, from what a ``ScoringRule`` makes of interest, items and bias.

    Args:
        query: ``[B, D]``.
        factors: ``[N, D]``; or ``[B, N, D]``, different items for each query.
        bias: in the units of logits; its ``items`` are columns of the result.
        out: is written to, ``[B, N]``; it may be of higher precision than the factors.
    """
    if factors.dim() == 3:
        scores = (factors @ query[..., None]).squeeze(-1)
    elif out is None:
        scores = query @ factors.T
    elif out.dtype == query.dtype:
        scores = torch.mm(query, factors.T, out=out)
    else:
        scores = out.copy_(query @ factors.T)
    if bias is not None:
        scores.scatter_add_(1, bias.items, bias.bias.expand_as(bias.items))
    return scores


def paired_logits(query: Tensor, factors: Tensor, item: Tensor, bias: ItemBias | None = None) -> Tensor:
    """Score of one item for each query, ``[B]``.

    Args:
        query: ``[B, D]``.
        factors: of these items, ``[B, D]``.
        item: their ids, as the bias names them, ``[B]``.
        bias: in the units of logits.
    """
    scores = logits(query, factors[:, None]).squeeze(1)
    return scores if bias is None else scores + bias.of(item)


class ItemTable(NamedTuple):
    """Every item, ready to be scored. It is shared: nobody may write to it.

    Attributes:
        representations: ``I`` of every item, ``[N, D]``; row 0 is the padding.
        factors: its item factors, ``[N, D]``.
        rule: the scoring rule.

    Example:
        >>> table = ItemTable.of(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), ScoringRule(None))
        >>> table.scores(torch.tensor([[3.0, 1.0]]))
        tensor([[-inf, 3., 2.]])
        >>> table.scores_of(torch.tensor([2]), torch.tensor([[3.0, 1.0]]))
        tensor([2.])
    """

    representations: Tensor
    factors: Tensor
    rule: ScoringRule

    @classmethod
    def of(cls, items: Tensor, rule: ScoringRule) -> ItemTable:
        """The table of items' representations ``[N, D]``."""
        return cls(items, rule.item_factors(items), rule)

    def scores(self, interest: Tensor, bias: ItemBias | None = None) -> Tensor:
        """Scores of every item for interests ``[B, D]``, a new ``[B, N]``; -inf for the padding."""
        return self.rule.scores(interest, self.factors, bias)

    def scores_of(self, item: Tensor, interest: Tensor, bias: ItemBias | None = None) -> Tensor:
        """Score of one item, ``[B]``, for each interest, ``[B, D]``: ``[B]``."""
        return paired_logits(self.rule.query(interest), self.factors[item], item, self.rule.scaled(bias))


class ItemTableCache(nn.Module):
    """Keeps the item table in evaluation, for as long as nothing is written to that it is computed from.

    Example:
        >>> encoder = EntityEncoder({}, embedding_size=4, with_id=torch.tensor([False, True, True])).eval()
        >>> cache = ItemTableCache()
        >>> with torch.no_grad():
        ...     cache.get(encoder, ScoringRule(0.1)) is cache.get(encoder, ScoringRule(0.1))
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._key: object = None
        self._table: ItemTable | None = None

    def get(self, encoder: EntityEncoder, rule: ScoringRule) -> ItemTable:
        """The table of all of the encoder's items, computed again if the encoder or the rule has changed."""
        key = rule, _versions(encoder)
        if self._table is None or self._key != key:
            self._key, self._table = key, ItemTable.of(encoder.table(), rule)
        return self._table

    def clear(self) -> None:
        """Drop the table: an optimiser's step may follow, and the writes of fused optimisers are not counted."""
        self._key = self._table = None

    def train(self, mode: bool = True) -> ItemTableCache:
        """Drop the table if training begins."""
        if mode:
            self.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ItemTableCache:
        self.clear()  # it would stay on the old device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _versions(module: nn.Module) -> tuple[tuple[int, int, int], ...]:
    """Equal for as long as no parameter or buffer is written to or replaced.

    torch counts the writes to each tensor, except those of fused optimisers and those through ``.data``.
    """
    return tuple(
        (id(tensor), tensor.data_ptr(), tensor._version) for tensor in (*module.parameters(), *module.buffers())
    )
