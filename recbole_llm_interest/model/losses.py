"""Losses as pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: scores that a chunk of the next-item loss holds, about as many as stay in a processor's cache
_CHUNK_SCORES = 2**20
#: targets that a chunk has at least, however large the catalogue: fewer make thin, slow matrix products
_CHUNK_TARGETS = 64


def cosine_scores(interest: Tensor, items: Tensor, temperature: float) -> Tensor:
    """Cosine of each interest with each item, divided by the temperature: ``[B, D], [N, D] -> [B, N]``."""
    return F.normalize(interest, dim=-1) @ (F.normalize(items, dim=-1) / temperature).T


def next_item_loss(interest: Tensor, items: Tensor, next_items: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the next item over the whole catalogue, with cosine scores (UniSRec, arXiv 2206.05941).

    Worked off in chunks of targets, so that the scores of all targets never stand in memory at once.

    Args:
        interest: ``[T, D]``, one row a target.
        items: ``[N, D]``; row 0 is padding and no candidate.
        next_items: ``[T]``, ids from 1 to N - 1.
        temperature: divides the scores.
    """
    candidates = F.normalize(items[1:], dim=-1) / temperature
    chunks = nn.LinearCrossEntropyOptions(
        batch_chunk_size=max(_CHUNK_SCORES // len(candidates), _CHUNK_TARGETS), acc_policy="accurate"
    )
    return F.linear_cross_entropy(F.normalize(interest, dim=-1), candidates, next_items - 1, options=chunks)


def info_nce(view: Tensor, other_view: Tensor, group: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (arXiv 1807.03748): each row should find its other view among those of the batch.

    Args:
        view: ``[B, D]``.
        other_view: ``[B, D]``, row by row the same thing seen differently.
        group: ``[B]``; two rows of one group, such as two windows of one user, are no negatives of each other.
        temperature: divides the cosines.
    """
    scores = cosine_scores(view, other_view, temperature)
    false_negative = group[:, None] == group
    false_negative.fill_diagonal_(False)
    scores = scores.masked_fill(false_negative, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
