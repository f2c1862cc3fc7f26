"""A bias on a few items' scores, and what the biases of a history have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ItemBias(NamedTuple):
    """A bias on a few items' scores, sparse over the catalog.

    Attributes:
        items: item ids, ``[T, K]``; 0 for none. The biases of an item that occurs twice add up.
        bias: ``[K]``, or ``[T, K]``; the entries of item 0 have no meaning. Cosine scores are divided by the
            temperature after it is added.

    Example:
        >>> bias = ItemBias(torch.tensor([[7, 3, 7]]), torch.tensor([0.5, 0.25, 1.0]))
        >>> bias.of(torch.tensor([7]))
        tensor([1.5000])
    """

    items: Tensor
    bias: Tensor

    def of(self, item: Tensor) -> Tensor:
        """The bias of one item for each history, ``[T] -> [T]``."""
        return self.bias.where(self.items == item[:, None], 0.0).sum(dim=1)

    def renumbered(self, index_of: Tensor) -> ItemBias:
        """The bias with each item's index among candidates, ``[N]``, in place of its id."""
        return self._replace(items=index_of[self.items])


def concatenated(parts: Sequence[ItemBias]) -> ItemBias | None:
    """The sum of several biases; None for none."""
    if not parts:
        return None
    items, bias = zip(*parts, strict=True)
    if any(part.dim() > 1 for part in bias):
        bias = tuple(part.bias.expand_as(part.items) for part in parts)
    return ItemBias(torch.cat(items, dim=1), torch.cat(bias, dim=-1))


def at_events(values: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """The values at the events at ``position`` of the rows ``row``, ``[B, L, ...], [T], [T] -> [T, ...]``.

    Each event is selected once, so that its gradient is written and not, as indexing's, sorted and summed.
    """
    return values.flatten(0, 1).index_select(0, row * values.shape[1] + position)


def last_events(values: Tensor, last: Tensor, count: int) -> Tensor:
    """The ``count`` values of ``[B, L, ...]`` up to the one at ``last``, ``[B]``, padded in front with 0."""
    place = last[:, None] - torch.arange(count - 1, -1, -1, device=last.device)
    chosen = values[torch.arange(values.shape[0], device=last.device)[:, None], place.clamp(min=0)]
    return chosen.where((place >= 0).view(*place.shape, *[1] * (values.dim() - 2)), 0)


def take(weights: Tensor, bucket: Tensor) -> Tensor:
    """The weights of buckets, ``[buckets, M], [K] -> [K, M]``; the gradient, unlike that of an index, sorts nothing."""
    return F.embedding(bucket, weights)


def bucket_of(distance: Tensor, buckets: int) -> Tensor:
    """The bucket of a distance, ``[...]``: 0, 1 and 2, 3 to 6, 7 to 14, … up to the last bucket, which has no end."""
    starts = 2 ** torch.arange(1, buckets, device=distance.device)
    return (distance[..., None] + 1 >= starts).sum(dim=-1)
