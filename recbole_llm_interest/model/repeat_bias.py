"""Learned bias on the items of a history: whether users choose an item again."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.item_bias import ItemBias, at_events, bucket_of, take

#: buckets of the lag: how many events ago an item was chosen
_LAG_BUCKETS = 6


class RepeatBias(nn.Module):
    """Learned bias on the items of the history, by how many events ago they were chosen and, optionally, by context.

    RecBole's sequential evaluation ranks the items of the history among all others, and content alone would score
    them high, since they resemble themselves. The bias learns whether users repeat. The idea of a repeat mode is
    RepeatNet's (Ren et al., AAAI 2019).

    Args:
        size: width of the interest and of items' representations, D, for a context; None for lags alone.

    Example:
        >>> repeat = RepeatBias()
        >>> _ = repeat.bias.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        >>> item_seq = torch.tensor([[8, 5, 9]])  # item 9 was the last, 5 and 8 are in the next bucket
        >>> repeat.after(item_seq, lambda: torch.randn(1, 3, 4), torch.randn(1, 4)).bias.tolist()
        [2.0, 2.0, 1.0]
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(_LAG_BUCKETS))
        self.context = None if size is None else RepeatContext(size)

    def forward(
        self, item_seq: Tensor, events: Callable[[], Tensor], interest: Tensor, row: Tensor, position: Tensor
    ) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each.

        Args:
            item_seq: ``[B, L]``.
            events: looks up the representations of its items, ``[B, L, D]``; only a context needs them.
            interest: after each of those events, ``[T, D]``.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
        """
        bias = self._by_lag(item_seq)
        if self.context is not None:
            of_items = at_events(_ending_at_each(self.context.of_items(events())), row, position)
            of_repeats = at_events(self.context.of_repeats(item_seq), row, position)
            bias = bias + of_items + (of_repeats + self.context.of_interest(interest))[:, None]
        return ItemBias(_ending_at_each(item_seq)[row, position], bias)

    def after(self, item_seq: Tensor, events: Callable[[], Tensor], interest: Tensor) -> ItemBias:
        """The bias after the last events of ``item_seq``, ``[T, L]``, padded in front; for the others, see above."""
        bias = self._by_lag(item_seq)
        if self.context is not None:
            of_history = self.context.of_repeats(item_seq)[:, -1] + self.context.of_interest(interest)
            bias = bias + self.context.of_items(events()) + of_history[:, None]
        return ItemBias(item_seq, bias)

    def _by_lag(self, item_seq: Tensor) -> Tensor:
        """The bias of the last ``L`` events, ``[L]``."""
        lag = torch.arange(item_seq.shape[1] - 1, -1, -1, device=item_seq.device)
        return take(self.bias[:, None], bucket_of(lag, _LAG_BUCKETS)).squeeze(1)


class RepeatContext(nn.Module):
    """What the bias on a history's items adds by context: the item, the interest, and the user's repeats so far.

    Some things are chosen again and others are not, some users choose things again and others do not.

    Args:
        size: width of the interest and of items' representations, D, of which the direction counts.

    Example:
        >>> context = RepeatContext(size=4)
        >>> context.of_items(torch.randn(2, 3, 4)).shape, context.of_interest(torch.randn(2, 4)).shape
        (torch.Size([2, 3]), torch.Size([2]))
        >>> context.repeats(torch.tensor([[5, 9, 5, 9, 7]])).tolist()
        [[0, 0, 1, 2, 2]]
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.item = nn.Parameter(torch.zeros(size))
        self.interest = nn.Parameter(torch.zeros(size))
        self.history = nn.Parameter(torch.zeros(2))

    def of_items(self, items: Tensor) -> Tensor:
        """The term of each item, ``[..., D] -> [...]``."""
        return (F.normalize(items, dim=-1) * self.item).sum(dim=-1)

    def of_interest(self, interest: Tensor) -> Tensor:
        """The term of each interest, ``[..., D] -> [...]``."""
        return (F.normalize(interest, dim=-1) * self.interest).sum(dim=-1)

    def of_repeats(self, item_seq: Tensor) -> Tensor:
        """The term of each history so far, ``[B, L] -> [B, L]``, linear in the logs of its events and its repeats."""
        counts = torch.stack([(item_seq > 0).cumsum(dim=1), self.repeats(item_seq)], dim=-1)
        return (counts.to(self.history.dtype).log1p() * self.history).sum(dim=-1)

    @staticmethod
    def repeats(item_seq: Tensor) -> Tensor:
        """How many events up to each one repeat an item, ``[B, L] -> [B, L]``."""
        length = item_seq.shape[1]
        place = torch.arange(length, device=item_seq.device)
        by_item = (item_seq * length + place).sort(dim=1).values  # in their order, which ONNX cannot keep by itself
        items = by_item // length
        is_repeat = (items == items.index_select(1, (place - 1).clamp(min=0))) & (place > 0) & (items > 0)
        return torch.zeros_like(item_seq).scatter(1, by_item - items * length, is_repeat.long()).cumsum(dim=1)


def _ending_at_each(values: Tensor) -> Tensor:
    """For each event, the values up to it, padded in front, ``[B, L] -> [B, L, L]``, a view."""
    length = values.shape[1]
    return F.pad(values, (length - 1, 0)).unfold(1, length, 1)
