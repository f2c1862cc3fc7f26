"""Losses: cross-entropy of the next item, in chunks, and InfoNCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.scoring import ScoringRule, logits
from recbole_llm_interest.settings import ModelSettings

#: upper bound of the logits in a chunk of the next-item loss: in float32 128 MB; 512 MB on a GPU, where many small
#: chunks cost more to launch than to compute
_MAX_CHUNK_LOGITS = {"cpu": 2**25, "cuda": 2**27}
#: preferred number of logits in a chunk: as many as fit a processor's cache
_CHUNK_LOGITS = {"cpu": 2**18}
#: lower bound of the targets in a chunk of a large catalog: matrix products of fewer rows are slow
_MIN_CHUNK_TARGETS = 64


@dataclass(frozen=True)
class NextItemLoss:
    """The next-item loss at every position of a batch that is followed by an item.

    Attributes:
        rule: the scoring rule.
        horizon: number of next items that the interest after each event is to predict.
        decay: weight of a next item relative to the one before it.
        precision: of the matrix products.
        weight: of the loss over all candidates beside other objectives.

    Example:
        >>> loss = NextItemLoss(ScoringRule(None))
        >>> items = torch.eye(3)
        >>> pos_items = torch.tensor([[0, 1]])  # item 0 is the padding
        >>> float(loss(9 * torch.eye(3)[[1]], items, pos_items, pos_items.nonzero(as_tuple=True))) < 0.001
        True
    """

    rule: ScoringRule
    horizon: int = 1
    decay: float = 0.5
    precision: torch.dtype = torch.float32
    weight: float = 1.0

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> NextItemLoss:
        """Build it from the settings of scores, targets and the loss."""
        return cls(
            ScoringRule.from_settings(settings),
            settings.target_horizon,
            settings.target_decay,
            getattr(torch, settings.loss_precision),
            settings.next_item_weight,
        )

    def __call__(
        self,
        interest: Tensor,
        items: Tensor,
        pos_items: Tensor,
        at: tuple[Tensor, Tensor],
        bias: ItemBias | None = None,
        logit_correction: Tensor | None = None,
    ) -> Tensor:
        """The mean over targets, a scalar.

        Args:
            interest: after the event before each target, ``[T, D]``.
            items: representations of the candidates, ``[C, D]``.
            pos_items: index of the item that follows each event, ``[B, L]``; 0 for none.
            at: rows and positions of the targets, ``[T]`` each.
            bias: of the history at each target, see ``next_item_loss``.
            logit_correction: ``[C]``, see ``next_item_loss``.
        """
        target, weight = self.targets(pos_items, *at)
        return next_item_loss(interest, items, target, self.rule, bias, weight, logit_correction, self.precision)

    def among(
        self, interest: Tensor, items: Tensor, target: Tensor, others: Tensor, bias: ItemBias | None = None
    ) -> Tensor:
        """The mean cross-entropy of each target among itself and a few others, a scalar.

        Args:
            interest: before each target, ``[T, D]``.
            items: representations of the candidates, ``[C, D]``.
            target: index of each among them, ``[T]``.
            others: likewise, ``[T, S]``; 0 for none.
            bias: of the history at each target.
        """
        choices = torch.cat([target[:, None], others], dim=1)
        with torch.autocast(interest.device.type, enabled=False):
            query, factors = self.rule.query(_at_least_float(interest)), self.rule.item_factors(_at_least_float(items))
            scores = logits(query, factors[choices])
            if (scaled := self.rule.scaled(bias)) is not None:
                scores = scores + _bias_of(scaled, choices, len(items))
            scores = scores.masked_fill(choices == 0, -torch.inf)
            return F.cross_entropy(scores, torch.zeros_like(target))

    def targets(self, pos_items: Tensor, row: Tensor, position: Tensor) -> tuple[Tensor, Tensor | None]:
        """The items that follow each target event, and their weights, ``[T, K]`` both; ``[T]`` and None for one item.

        Behind the end of a history, the next item is repeated with weight 0.
        """
        if self.horizon == 1:
            return pos_items[row, position], None
        following = F.pad(pos_items, (0, self.horizon - 1)).unfold(1, self.horizon, 1)[row, position]
        weight = (following > 0) * self.decay ** torch.arange(self.horizon, device=following.device)
        return following.where(following > 0, following[:, :1]), weight / weight.sum(dim=1, keepdim=True)


def next_item_loss(
    seq_output: Tensor,
    items: Tensor,
    pos_items: Tensor,
    rule: ScoringRule,
    bias: ItemBias | None = None,
    target_weight: Tensor | None = None,
    logit_correction: Tensor | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Cross-entropy of the next item over all candidates (with cosine scores: UniSRec, arXiv 2206.05941).

    It is computed in chunks of targets, which bounds its memory, and in ``precision``, regardless of autocast.

    Args:
        seq_output: interest, ``[T, D]``, one row a target.
        items: representations of the candidates, ``[C, D]``.
        pos_items: index of the next item among the candidates, ``[T]``; or ``[T, K]``, several next items.
        rule: the scoring rule.
        bias: of the history, ``[T, K']`` items a row.
        target_weight: ``[T, K]``, weight of each of several next items; a row sums to 1.
        logit_correction: ``[C]``, added to a candidate's logit except where it is the target: logQ correction of a
            sampled negative, minus the log of its probability to be drawn (Bengio and Senécal, 2008); -inf for a
            candidate that is no negative.
        precision: of the matrix products and their results; softmax and loss are in float32 at least.

    Returns:
        The mean over targets, a scalar.
    """
    with torch.autocast(seq_output.device.type, enabled=False):
        query, items = rule.query(_at_least_float(seq_output)), _at_least_float(items)
        if target_weight is None:
            pos_items, target_weight = pos_items[:, None], query.new_ones(len(pos_items), 1)
        target_weight = target_weight.to(query.dtype)
        if bias is None:
            bias = ItemBias(pos_items[:, :0], query.new_zeros(0))
        scaled_bias = rule.scale_bias(_at_least_float(bias.bias))
        return _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            query, items, pos_items, target_weight, bias.items, scaled_bias, logit_correction, rule, precision
        )


def _bias_of(bias: ItemBias, choices: Tensor, classes: int) -> Tensor:
    """The bias of a few of the candidates at each target, ``[T, S] -> [T, S]``, in chunks of targets."""
    values = bias.bias.expand_as(bias.items)
    rows = _chunk_targets(classes, choices.device)
    chunks = zip(torch.split(bias.items, rows), torch.split(values, rows), torch.split(choices, rows), strict=True)
    return torch.cat(
        [value.new_zeros(len(value), classes).scatter_add(1, item, value).gather(1, of) for item, value, of in chunks]
    )


def _at_least_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _chunk_targets(classes: int, device: torch.device) -> int:
    at_most = _MAX_CHUNK_LOGITS.get(device.type, _MAX_CHUNK_LOGITS["cpu"])
    preferred = max(_CHUNK_LOGITS.get(device.type, at_most) // classes, _MIN_CHUNK_TARGETS)
    return max(min(preferred, at_most // classes), 1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``logits(query, factors of items, bias)``; gradients are computed during forward.

    A chunk's logits are then in memory, and are overwritten in place by their gradient. torch 2.13 has
    ``linear_cross_entropy`` for this; this function runs on older releases and is faster on a processor, since a chunk
    stays in its cache. Besides a chunk, two tables of the size of ``items`` are held: item factors and gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        items: Tensor,
        pos_items: Tensor,
        target_weight: Tensor,
        bias_items: Tensor,
        bias: Tensor,
        logit_correction: Tensor | None,
        rule: ScoringRule,
        precision: torch.dtype,
    ) -> Tensor:
        """Mean loss, from ``[T, D], [C, D], [T, K], [T, K], [T, K'], [K'] or [T, K'], [C]``."""
        loss = query.new_zeros(())
        query_grad = torch.empty_like(query)
        factors_grad, bias_grad = torch.zeros_like(items), query.new_empty(bias_items.shape)
        scale = rule.item_scale(items)
        factors = items if scale is None else items * scale
        is_low = precision != torch.float32 and query.dtype != torch.float64  # float64 stays float64
        query_low, factors_low = (query.to(precision), factors.to(precision)) if is_low else (query, factors)
        chunk = min(_chunk_targets(len(items), query.device), len(query))
        buffer = query.new_empty(chunk, len(items))
        by_target = (query_low, query_grad, pos_items, target_weight, bias_items, bias.expand_as(bias_items), bias_grad)
        chunks = zip(*(torch.split(values, chunk) for values in by_target), strict=True)
        for part, part_grad, target, weight, biased, part_bias, part_bias_grad in chunks:
            scores = logits(part, factors_low, ItemBias(biased, part_bias), out=buffer[: len(part)])
            part_loss, gradient = _loss_and_gradient(scores, target, weight, logit_correction)
            loss += part_loss
            torch.gather(gradient, 1, biased, out=part_bias_grad)
            if is_low:
                gradient = gradient.to(precision)
                part_grad.copy_(gradient @ factors_low)
                factors_grad += gradient.T @ part
            else:
                torch.mm(gradient, factors_low, out=part_grad)
                factors_grad.addmm_(gradient.T, part)
        items_grad = factors_grad if scale is None else _through_scale(factors_grad, factors, scale, rule)
        ctx.save_for_backward(query_grad, items_grad, _bias_gradient(bias_grad, chunk, bias))
        return loss / len(query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that forward computed, scaled."""
        query_grad, items_grad, bias_grad = ctx.saved_tensors
        scale = grad / len(query_grad)
        return query_grad * scale, items_grad * scale, None, None, None, bias_grad * scale, None, None, None


def _bias_gradient(by_target: Tensor, chunk: int, bias: Tensor) -> Tensor:
    """The gradient of a bias ``[T, K]``, as it is; or of ``[K]``, summed over targets in chunks."""
    if bias.dim() > 1:
        return by_target
    return sum((part.sum(dim=0) for part in torch.split(by_target, chunk)), torch.zeros_like(bias))


def _loss_and_gradient(
    scores: Tensor, target: Tensor, weight: Tensor, logit_correction: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of scores ``[t, C]``, and its gradient, which overwrites them."""
    target_score = scores.gather(1, target)
    if logit_correction is not None:
        scores.add_(logit_correction).scatter_(1, target, target_score)
    best = scores.amax(dim=1)
    probability = torch.softmax(scores, dim=1, out=scores)
    # log-sum-exp through the best class, whose probability cannot vanish
    log_sum_exp = best - probability.amax(dim=1).log()
    loss = (log_sum_exp - (weight * target_score).sum(dim=1)).sum()
    return loss, probability.scatter_add_(1, target, -weight)


def _through_scale(factors_grad: Tensor, factors: Tensor, scale: Tensor, rule: ScoringRule) -> Tensor:
    """The gradient of items from that of their factors, in place: only what is across an item changes its direction."""
    along = torch.einsum("cd,cd->c", factors, factors_grad) * (rule.temperature or 1.0) ** 2
    return factors_grad.addcmul_(factors, along[:, None], value=-1).mul_(scale)


def info_nce(view: Tensor, other_view: Tensor, false_negatives: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (arXiv 1807.03748): each row should find its other view among those of the batch.

    It is computed in float32, regardless of autocast.

    Args:
        view: ``[B, D]``.
        other_view: ``[B, D]``, row by row another view of the same thing.
        false_negatives: ``[B, B]``, bool; pairs that are no negatives, such as two windows of one user.
        temperature: divides the cosines.

    Returns:
        The mean over both directions, a scalar.
    """
    with torch.autocast(view.device.type, enabled=False):
        view, other_view = (F.normalize(_at_least_float(one), dim=-1) for one in (view, other_view))
        similarity = view @ (other_view / temperature).T
        is_other = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        similarity = similarity.masked_fill(false_negatives & is_other, -torch.inf)
        target = torch.arange(len(similarity), device=similarity.device)
        return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
