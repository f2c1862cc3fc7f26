"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm_interest.model.history_scores import Match, Repeats

#: scores that a chunk of the next-item loss holds, about as many as stay in a processor's cache
_CHUNK_SCORES = 2**20
#: targets that a chunk has at least, however large the catalogue: fewer make thin, slow matrix products
_CHUNK_TARGETS = 64


def item_scores(
    interest: Tensor,
    items: Tensor,
    temperature: float | None,
    repeats: Repeats | None = None,
    match: Match | None = None,
) -> Tensor:
    """Score of each item for each interest, ``[B, D], [N, D] -> [B, N]``.

    It is their cosine, and what the history adds to that, divided by the temperature; their dot product where that
    is None.
    """
    interest, items, repeats, match = _factors(interest, items, temperature, repeats, match)
    scores = interest @ items.T + match.query @ match.looks.T
    return scores.scatter_add(1, *repeats)


def next_item_loss(
    interest: Tensor,
    candidates: Tensor,
    target: Tensor,
    temperature: float | None,
    repeats: Repeats | None = None,
    match: Match | None = None,
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
        repeats: what is added to the cosines of candidates that stand in the history, ``[T, L]``.
        match: what is added to the cosines of candidates that look like the history. Their looks get no gradient.
        share: ``[T, K]``, how much each of several targets counts, 1 in all for each row.
        precision: of the matrix products; scores are added up and compared in float32 at least.
    """
    with torch.autocast(interest.device.type, enabled=False):
        interest, candidates = _at_least_float(interest), _at_least_float(candidates)
        interest, candidates, repeats, match = _factors(interest, candidates, temperature, repeats, match)
        chunk = max(_CHUNK_SCORES // len(candidates), _CHUNK_TARGETS)
        if share is None:
            target, share = target[:, None], interest.new_ones(len(target), 1)
        return _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            interest, candidates, *match, target, share, *repeats, chunk, precision
        )


def _factors(
    interest: Tensor, items: Tensor, temperature: float | None, repeats: Repeats | None, match: Match | None
) -> tuple[Tensor, Tensor, Repeats, Match]:
    """Matrices whose products are the scores, with what the history adds, nothing where it adds nothing."""
    if temperature is not None:
        interest, items = F.normalize(interest, dim=-1) / temperature, F.normalize(items, dim=-1)
    scale = 1.0 if temperature is None else 1 / temperature
    if repeats is None:
        repeats = Repeats(torch.zeros(len(interest), 0, dtype=torch.long, device=interest.device), interest[:, :0])
    if match is None:
        match = Match(interest[:, :0], items[:, :0])
    return interest, items, repeats._replace(bonus=repeats.bonus * scale), match._replace(query=match.query * scale)


def _at_least_float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``rows @ classes.T``, which takes its gradient along while a chunk's scores are at hand.

    To the scores, ``query @ looks.T`` is added; and to those of ``few`` classes a row, ``bonus``.

    torch has this from 2.13 on, as ``linear_cross_entropy``; this one runs on older releases and, by leaving the
    exponentials to one softmax kernel, in four fifths of the time on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        classes: Tensor,
        query: Tensor,
        looks: Tensor,
        target: Tensor,
        share: Tensor,
        few: Tensor,
        bonus: Tensor,
        chunk: int,
        precision: torch.dtype,
    ) -> Tensor:
        """Mean loss, from ``[T, D], [C, D], [T, F], [C, F], [T, K], [T, K], [T, L], [T, L]``."""
        loss = rows.new_zeros(())
        exact, width = rows.dtype, rows.shape[1]
        classes_grad = torch.zeros_like(classes)
        rows, classes = torch.cat([rows, query], dim=1), torch.cat([classes, looks], dim=1)
        rows_grad, bonus_grad = torch.empty_like(rows), torch.empty_like(bonus)
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
            classes_grad += difference.T @ part[:, :width]
        ctx.save_for_backward(rows_grad[:, :width], classes_grad, rows_grad[:, width:], bonus_grad)
        return loss / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that forward took along, scaled."""
        rows_grad, classes_grad, query_grad, bonus_grad = ctx.saved_tensors
        scale = grad / len(rows_grad)
        trained = rows_grad * scale, classes_grad * scale, query_grad * scale, None
        return *trained, None, None, None, bonus_grad * scale, None, None


def info_nce(view: Tensor, other_view: Tensor, group: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (arXiv 1807.03748): each row should find its other view among those of the batch.

    Args:
        view: ``[B, D]``.
        other_view: ``[B, D]``, row by row the same thing seen differently.
        group: ``[B]``; two rows of one group, such as two windows of one user, are no negatives of each other.
        temperature: divides the cosines.
    """
    scores = item_scores(view, other_view, temperature)
    false_negative = group[:, None] == group
    false_negative.fill_diagonal_(False)
    scores = scores.masked_fill(false_negative, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
