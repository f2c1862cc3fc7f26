"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm_interest.model.history_bonus import HistoryBonus

#: scores that a chunk of the next-item loss holds, about as many as stay in a processor's cache
_CHUNK_SCORES = 2**20
#: targets that a chunk has at least, however large the catalogue: fewer make thin, slow matrix products
_CHUNK_TARGETS = 64


def item_scores(
    interest: Tensor, items: Tensor, temperature: float | None, history: HistoryBonus | None = None
) -> Tensor:
    """Score of each item for each interest, ``[B, D], [N, D] -> [B, N]``.

    It is their cosine, and what the history adds to that, divided by the temperature; their dot product, and what the
    history adds to that, where the temperature is None.
    """
    interest, items, history = _factors(interest, items, temperature, history)
    return (interest @ items.T).scatter_add_(1, *history)


def next_item_loss(
    interest: Tensor,
    candidates: Tensor,
    target: Tensor,
    temperature: float | None,
    history: HistoryBonus | None = None,
    share: Tensor | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Cross-entropy of the next item over all candidates, with cosine scores (UniSRec, arXiv 2206.05941).

    Worked off in chunks of targets, so that the scores of all targets never stand in memory at once, and in the
    precision that it is given, whatever the automatic mixed precision around it.

    Args:
        interest: ``[T, D]``, one row a target.
        candidates: ``[C, D]``.
        target: ``[T]``, which candidate comes next; or ``[T, K]``, several that do.
        temperature: divides the cosines; None for dot products instead of cosines.
        history: what is added to the cosines of a few candidates a row.
        share: ``[T, K]``, how much each of several targets counts, 1 in all for each row.
        precision: of the matrix products and what comes out of them; the softmax and the loss are float32 at least.
    """
    with torch.autocast(interest.device.type, enabled=False):
        interest, candidates = _at_least_float(interest), _at_least_float(candidates)
        interest, candidates, history = _factors(interest, candidates, temperature, history)
        chunk = max(_CHUNK_SCORES // len(candidates), _CHUNK_TARGETS)
        if share is None:
            target, share = target[:, None], interest.new_ones(len(target), 1)
        return _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            interest, candidates, target, share, *history, chunk, precision
        )


def _factors(
    interest: Tensor, items: Tensor, temperature: float | None, history: HistoryBonus | None
) -> tuple[Tensor, Tensor, HistoryBonus]:
    """Two matrices whose product is the scores, and what the history adds to that."""
    if history is None:
        nothing = interest.new_zeros(len(interest), 0)
        history = HistoryBonus(nothing.long(), nothing)
    if temperature is None:
        return interest, items, history
    interest, items = F.normalize(interest, dim=-1), F.normalize(items, dim=-1) / temperature
    return interest, items, history._replace(bonus=history.bonus / temperature)


def _at_least_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``rows @ classes.T``, which takes its gradient along while a chunk's scores are at hand.

    To the scores of ``few`` classes a row, ``bonus`` is added.

    torch has this from 2.13 on, as ``linear_cross_entropy``; this one runs on older releases and, by leaving the
    exponentials to one softmax kernel, in four fifths of the time on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        classes: Tensor,
        target: Tensor,
        share: Tensor,
        few: Tensor,
        bonus: Tensor,
        chunk: int,
        precision: torch.dtype,
    ) -> Tensor:
        """Mean loss, from ``[T, D], [C, D], [T, K], [T, K], [T, L], [T, L]``."""
        loss = rows.new_zeros(())
        rows_grad, classes_grad, bonus_grad = torch.empty_like(rows), torch.zeros_like(classes), torch.empty_like(bonus)
        exact = rows.dtype
        factor = exact if precision == torch.float32 else precision  # of the products; float64 stays what it is
        rows, classes = rows.to(factor), classes.to(factor)
        chunks = (torch.split(values, chunk) for values in (rows, rows_grad, target, share, few, bonus, bonus_grad))
        for part, part_grad, wanted, wanted_share, chosen, added, added_grad in zip(*chunks, strict=True):
            scores = (part @ classes.T).to(exact)
            scores.scatter_add_(1, chosen, added)
            probability = torch.softmax(scores, dim=1)
            # log-sum-exp by way of the best class, whose probability cannot vanish
            log_sum_exp = scores.amax(dim=1) - probability.amax(dim=1).log()
            loss += (log_sum_exp - (wanted_share * scores.gather(1, wanted)).sum(dim=1)).sum()
            probability.scatter_add_(1, wanted, -wanted_share)  # now d loss / d scores
            torch.gather(probability, 1, chosen, out=added_grad)
            difference = probability.to(factor)
            part_grad.copy_(difference @ classes)
            classes_grad += difference.T @ part
        ctx.save_for_backward(rows_grad, classes_grad, bonus_grad)
        return loss / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, Tensor, None, None]:
        """The gradients that forward took along, scaled."""
        rows_grad, classes_grad, bonus_grad = ctx.saved_tensors
        scale = grad / len(rows_grad)
        return rows_grad * scale, classes_grad * scale, None, None, None, bonus_grad * scale, None, None


def info_nce(view: Tensor, other_view: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (arXiv 1807.03748): each row should find its other view among those of the batch.

    In float32, whatever the automatic mixed precision around it.

    Args:
        view: ``[B, D]``.
        other_view: ``[B, D]``, row by row the same thing seen differently.
        alike: ``[B, B]``, bool; rows that are no negatives of each other, such as two windows of one user.
        temperature: divides the cosines.
    """
    with torch.autocast(view.device.type, enabled=False):
        scores = item_scores(_at_least_float(view), _at_least_float(other_view), temperature)
        is_other = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(alike & is_other, -torch.inf)
        target = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
