"""Changed histories, as views of the same user: pure functions of tensors.

Those drawn at random take histories ``item_seq`` ``[B, L]``, padded behind their end with 0, their lengths
``item_seq_len`` ``[B]`` and a share of the events, and return changed histories and lengths of the same shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: a substitute is drawn from this many of the nearest items by each modality
_MOST_SIMILAR = 5


def crop(item_seq: Tensor, item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Keep a run of ``share`` of the events, at least one (CL4SRec, arXiv 2010.14395)."""
    start, kept = _run(item_seq_len, share)
    place = _places(item_seq)
    source = (start[:, None] + place).clamp(max=item_seq.shape[1] - 1)
    return item_seq.gather(1, source).where(place < kept[:, None], 0), kept


def mask(item_seq: Tensor, item_seq_len: Tensor, share: float, mask_id: int) -> tuple[Tensor, Tensor]:
    """Put ``mask_id`` in the place of each event with probability ``share`` (CL4SRec)."""
    return item_seq.where(~_chosen(item_seq, item_seq_len, share), mask_id), item_seq_len


def reorder(item_seq: Tensor, item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Shuffle a run of ``share`` of the events (CL4SRec)."""
    start, length = _run(item_seq_len, share)
    place = _places(item_seq).expand_as(item_seq)
    is_inside = (place >= start[:, None]) & (place < (start + length)[:, None])
    drawn = start[:, None] + torch.rand(item_seq.shape, device=item_seq.device) * length[:, None]
    order = torch.where(is_inside, drawn, place).argsort(dim=1)
    return item_seq.gather(1, order), item_seq_len


def substitute(item_seq: Tensor, item_seq_len: Tensor, share: float, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Put one of the nearest items by content in the place of each event with probability ``share``.

    So CoSeRec (arXiv 2108.06479), which goes by how items occur together.

    Args:
        item_seq: histories.
        item_seq_len: their lengths.
        share: the probability.
        neighbours: of each item, by modality, the nearest first, ``[N, M, K]``; 0 where there are none, and where one
            of those is drawn, the item stays.
    """
    nearest = neighbours[:, :, :_MOST_SIMILAR].flatten(1)
    drawn = torch.randint(nearest.shape[1], item_seq.shape, device=item_seq.device)
    substitutes = nearest[item_seq, drawn].long()
    return substitutes.where(_chosen(item_seq, item_seq_len, share) & (substitutes > 0), item_seq), item_seq_len


def reverse(item_seq: Tensor, next_items: Tensor, item_seq_len: Tensor) -> tuple[Tensor, Tensor]:
    """Histories read from their end, and what then follows each event, both ``[B, L]``.

    The last of ``next_items``, ``[B, L]``, comes first then, and the first of the history is the last to follow.
    """
    whole = torch.cat([item_seq[:, :1], next_items], dim=1)
    source = item_seq_len[:, None] - torch.arange(whole.shape[1], device=item_seq.device)
    backwards = whole.gather(1, source.clamp(min=0)).where(source >= 0, 0)
    return backwards[:, :-1], backwards[:, 1:]


def _run(item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Start and length of a random run of ``share`` of each history, ``[B]`` each."""
    length = (item_seq_len * share).long().clamp(min=1)
    start = (torch.rand(len(length), device=length.device) * (item_seq_len - length + 1)).long()
    return start, length


def _chosen(item_seq: Tensor, item_seq_len: Tensor, share: float) -> Tensor:
    """Events, each with probability ``share``, ``[B, L]``; none behind the end."""
    drawn = torch.rand(item_seq.shape, device=item_seq.device) < share
    return drawn & (_places(item_seq) < item_seq_len[:, None])


def _places(item_seq: Tensor) -> Tensor:
    return torch.arange(item_seq.shape[1], device=item_seq.device)
