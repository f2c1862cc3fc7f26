"""Other views of a history, for contrastive learning (CL4SRec, arXiv 2010.14395)."""

from __future__ import annotations

import torch
from torch import Tensor


def crop(item_seq: Tensor, item_seq_len: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """A random stretch of each history that keeps ``ratio`` of its events, at least one.

    Args:
        item_seq: ``[B, L]``, 0 behind the end.
        item_seq_len: ``[B]``.
        ratio: from 0 to 1.

    Returns:
        The stretch, moved to the front of ``[B, L]``, and its length ``[B]``.
    """
    length = (item_seq_len * ratio).long().clamp(min=1)
    start = (torch.rand(len(item_seq), device=item_seq.device) * (item_seq_len - length + 1)).long()
    offset = torch.arange(item_seq.shape[1], device=item_seq.device)
    inside = offset < length[:, None]
    return item_seq.gather(1, (start[:, None] + offset).where(inside, 0)).where(inside, 0), length


def mask(item_seq: Tensor, item_seq_len: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Each history with about ``ratio`` of its events hidden: id 0, which the model reads as nothing.

    Args and returns are those of :func:`crop`; the length does not change.
    """
    hidden = torch.rand(item_seq.shape, device=item_seq.device) < ratio
    return item_seq.masked_fill(hidden, 0), item_seq_len


def random_view(
    item_seq: Tensor, item_seq_len: Tensor, crop_ratio: float, mask_ratio: float
) -> tuple[Tensor, Tensor]:
    """Each history either cropped or masked, with equal chance. Args and returns are those of :func:`crop`."""
    cropped, cropped_len = crop(item_seq, item_seq_len, crop_ratio)
    masked, masked_len = mask(item_seq, item_seq_len, mask_ratio)
    take_cropped = torch.rand(len(item_seq), device=item_seq.device) < 0.5
    return torch.where(take_cropped[:, None], cropped, masked), torch.where(take_cropped, cropped_len, masked_len)
