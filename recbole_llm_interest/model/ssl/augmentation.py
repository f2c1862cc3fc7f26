"""Augmented histories, as views of the same user: pure functions of tensors.

The random ones take histories ``item_seq``, ``[B, L]``, padded behind their end with 0, their lengths
``item_seq_len``, ``[B]``, and a share of the events. They return changed histories and lengths of the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: a substitute is drawn from this many nearest neighbours by each modality
_NEAREST = 5
#: and the next step of a walk from this many
_NEAREST_OF_STEP = 10


def crop(item_seq: Tensor, item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Keep a run of ``share`` of the events, at least one, ``[B, L] -> [B, L]`` (CL4SRec, arXiv 2010.14395)."""
    start, length = _random_run(item_seq_len, share)
    position = _positions(item_seq)
    source = (start[:, None] + position).clamp(max=item_seq.shape[1] - 1)
    return item_seq.gather(1, source).where(position < length[:, None], 0), length


def mask(item_seq: Tensor, item_seq_len: Tensor, share: float, mask_id: int) -> tuple[Tensor, Tensor]:
    """Replace each event by ``mask_id`` with probability ``share``, ``[B, L] -> [B, L]`` (CL4SRec)."""
    return item_seq.where(~_drawn(item_seq, item_seq_len, share), mask_id), item_seq_len


def reorder(item_seq: Tensor, item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Shuffle a run of ``share`` of the events, ``[B, L] -> [B, L]`` (CL4SRec)."""
    start, length = _random_run(item_seq_len, share)
    position = _positions(item_seq).expand_as(item_seq)
    is_inside = (position >= start[:, None]) & (position < (start + length)[:, None])
    drawn = start[:, None] + torch.rand(item_seq.shape, device=item_seq.device) * length[:, None]
    order = torch.where(is_inside, drawn, position).argsort(dim=1)
    return item_seq.gather(1, order), item_seq_len


def substitute(item_seq: Tensor, item_seq_len: Tensor, share: float, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Replace each event by a nearest neighbour by content with probability ``share``, ``[B, L] -> [B, L]``.

    As in CoSeRec (arXiv 2108.06479), whose substitutes come from co-occurrence.

    Args:
        item_seq: histories, ``[B, L]``.
        item_seq_len: their lengths, ``[B]``.
        share: the probability.
        neighbours: of each item by modality, nearest first, ``[N, M, K]``; 0 for none. An item for which a 0 is drawn
            stays.
    """
    nearest = neighbours[:, :, :_NEAREST].flatten(1)
    drawn = torch.randint(nearest.shape[1], item_seq.shape, device=item_seq.device)
    substitutes = nearest[item_seq, drawn].long()
    return substitutes.where(_drawn(item_seq, item_seq_len, share) & (substitutes > 0), item_seq), item_seq_len


def reverse(item_seq: Tensor, pos_items: Tensor, item_seq_len: Tensor) -> tuple[Tensor, Tensor]:
    """Reversed histories and the item that then follows each event, ``[B, L]`` both.

    The last of ``pos_items``, ``[B, L]``, comes first, and the first item of a history is the last to follow.
    """
    whole = torch.cat([item_seq[:, :1], pos_items], dim=1)
    source = item_seq_len[:, None] - torch.arange(whole.shape[1], device=item_seq.device)
    reversed_seq = whole.gather(1, source.clamp(min=0)).where(source >= 0, 0)
    return reversed_seq[:, :-1], reversed_seq[:, 1:]


def walk(start: Tensor, steps: int, neighbours_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Random walks, each step to one of an item's nearest neighbours by content, ``[B] -> [B, steps + 1]``.

    Args:
        start: items that have neighbours, ``[B]``.
        steps: their number.
        neighbours_of: neighbours of items by modality, nearest first, ``[B] -> [B, M, K]``; 0 for none.
    """
    walked = [start]
    for _ in range(steps):
        nearest = neighbours_of(walked[-1])[:, :, :_NEAREST_OF_STEP].flatten(1)
        drawn = torch.rand(nearest.shape, device=start.device).masked_fill(nearest == 0, -1.0)
        walked.append(nearest.gather(1, drawn.argmax(dim=1, keepdim=True)).squeeze(1))
    return torch.stack(walked, dim=1)


def _random_run(item_seq_len: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Start and length of a random run of ``share`` of each history, ``[B]`` each."""
    length = (item_seq_len * share).long().clamp(min=1)
    start = (torch.rand(len(length), device=length.device) * (item_seq_len - length + 1)).long()
    return start, length


def _drawn(item_seq: Tensor, item_seq_len: Tensor, share: float) -> Tensor:
    """A mask of events, each drawn with probability ``share``, ``[B, L]``; False behind the end."""
    drawn = torch.rand(item_seq.shape, device=item_seq.device) < share
    return drawn & (_positions(item_seq) < item_seq_len[:, None])


def _positions(item_seq: Tensor) -> Tensor:
    return torch.arange(item_seq.shape[1], device=item_seq.device)
