"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm_interest.model.history_bias import HistoryBias

#: the least length by which a class is divided
_EPSILON = 1e-12
#: scores that a chunk of the next-item loss never exceeds, whatever the catalogue: in float32 128 MB; 512 MB on a GPU,
#: for which starting many chunks takes longer than computing them
_CHUNK_SCORES_AT_MOST = {"cpu": 2**25, "cuda": 2**27}
#: scores that it holds on a processor, as many as stay in its cache
_CHUNK_SCORES = {"cpu": 2**18}
#: targets that a chunk has at least where the catalogue is large: fewer make thin, slow matrix products
_CHUNK_TARGETS = 64


def item_scores(interest: Tensor, items: Tensor, temperature: float | None) -> Tensor:
    """Score of each item for each interest, ``[B, D], [N, D] -> [B, N]``.

    It is their cosine, divided by the temperature; their dot product where the temperature is None.
    """
    if temperature is not None:
        interest, items = F.normalize(interest, dim=-1), F.normalize(items, dim=-1) / temperature
    return interest @ items.T


def next_item_loss(
    interest: Tensor,
    candidates: Tensor,
    target: Tensor,
    temperature: float | None,
    history: HistoryBias | None = None,
    share: Tensor | None = None,
    logit_correction: Tensor | None = None,
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
        logit_correction: ``[C]``, what is added to a candidate's score wherever it is not the target: for one that was
            drawn, minus the log of the probability of that (Bengio and Senécal, 2008); -inf for one that is none. So
            no target is its own rival, however it was drawn.
        precision: of the matrix products and what comes out of them; the softmax and the loss are float32 at least.
    """
    with torch.autocast(interest.device.type, enabled=False):
        interest, candidates = _at_least_float(interest), _at_least_float(candidates)
        if temperature is not None:
            interest = F.normalize(interest, dim=-1)
        if share is None:
            target, share = target[:, None], interest.new_ones(len(target), 1)
        share = share.to(interest.dtype)
        if history is None:
            history = HistoryBias(target[:, :0], interest.new_zeros(0))
        few, bonus = history.items, _at_least_float(history.bonus) / (temperature or 1.0)
        return _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            interest, candidates, target, share, few, bonus, logit_correction, temperature, precision
        )


def _at_least_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _chunk_targets(classes: int, device: torch.device) -> int:
    at_most = _CHUNK_SCORES_AT_MOST.get(device.type, _CHUNK_SCORES_AT_MOST["cpu"])
    at_once = max(_CHUNK_SCORES.get(device.type, at_most) // classes, _CHUNK_TARGETS)
    return max(min(at_once, at_most // classes), 1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``rows @ classes.T``, which takes its gradient along while a chunk's scores are at hand.

    Classes count by their direction alone, divided by the temperature, if there is one. To the scores of ``few``
    classes a row, ``bonus`` is added, and to all but the targets' ``logit_correction``.

    torch has this from 2.13 on, as ``linear_cross_entropy``; this one runs on older releases and, by working in place
    on what stays in a processor's cache, in less time. Past a chunk's scores, two tables as large as the classes are
    held: their gradient, and their directions.
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
        logit_correction: Tensor | None,
        temperature: float | None,
        precision: torch.dtype,
    ) -> Tensor:
        """Mean loss, from ``[T, D], [C, D], [T, K], [T, K], [T, L], [L], [C]``."""
        loss = rows.new_zeros(())
        rows_grad, classes_grad, bonus_grad = torch.empty_like(rows), torch.zeros_like(classes), torch.zeros_like(bonus)
        if temperature is not None:
            scale = 1 / (torch.linalg.vector_norm(classes, dim=1, keepdim=True).clamp(min=_EPSILON) * temperature)
            classes = classes * scale
        is_low = precision != torch.float32 and rows.dtype != torch.float64  # float64 stays what it is
        row_factor, class_factor = (rows.to(precision), classes.to(precision)) if is_low else (rows, classes)
        chunk = min(_chunk_targets(len(classes), rows.device), len(rows))
        scores_of_chunk, few_of_chunk = rows.new_empty(chunk, len(classes)), rows.new_empty(chunk, few.shape[1])
        chunks = (torch.split(values, chunk) for values in (row_factor, rows_grad, target, share, few))
        for part, part_grad, wanted, wanted_share, chosen in zip(*chunks, strict=True):
            scores, added = scores_of_chunk[: len(part)], few_of_chunk[: len(part)]
            if is_low:
                scores.copy_(part @ class_factor.T)
            else:
                torch.mm(part, class_factor.T, out=scores)
            scores.scatter_add_(1, chosen, bonus.expand_as(chosen))
            wanted_score = scores.gather(1, wanted)
            if logit_correction is not None:
                scores.add_(logit_correction).scatter_(1, wanted, wanted_score)
            best = scores.amax(dim=1)
            probability = torch.softmax(scores, dim=1, out=scores)
            # log-sum-exp by way of the best class, whose probability cannot vanish
            log_sum_exp = best - probability.amax(dim=1).log()
            loss += (log_sum_exp - (wanted_share * wanted_score).sum(dim=1)).sum()
            probability.scatter_add_(1, wanted, -wanted_share)  # now d loss / d scores
            bonus_grad += torch.gather(probability, 1, chosen, out=added).sum(dim=0)
            if is_low:
                difference = probability.to(precision)
                part_grad.copy_(difference @ class_factor)
                classes_grad += difference.T @ part
            else:
                torch.mm(probability, class_factor, out=part_grad)
                classes_grad.addmm_(probability.T, part)
        if temperature is not None:  # only what is across a class changes its direction
            along = torch.einsum("cd,cd->c", classes, classes_grad) * temperature**2
            classes_grad.addcmul_(classes, along[:, None], value=-1).mul_(scale)
        ctx.save_for_backward(rows_grad, classes_grad, bonus_grad)
        return loss / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that forward took along, scaled."""
        rows_grad, classes_grad, bonus_grad = ctx.saved_tensors
        scale = grad / len(rows_grad)
        return rows_grad * scale, classes_grad * scale, None, None, None, bonus_grad * scale, None, None, None


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
