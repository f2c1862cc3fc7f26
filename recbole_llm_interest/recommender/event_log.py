"""The events of users, stored once for all the states that grow out of each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: events for which a new log has room
_MIN_CAPACITY = 16


class EventLog:
    """Events of ``B`` users. Successive states share a log: each reads the first events, up to its own lengths.

    Appending takes constant time, because it writes behind the events that earlier states read. The log is copied where
    another state has already written there, or where its capacity is used up.

    Attributes:
        items: rows of the items in the catalog, ``[B, C]``; 0 where there is no event.
        times: times of the events, ``[B, C]``, float64; NaN where the time is unknown.

    Example:
        >>> log = EventLog.of(torch.tensor([[5, 6]]), torch.tensor([[1.0, 2.0]]), torch.tensor([2]))
        >>> log = log.append(torch.tensor([2]), torch.tensor([7]), torch.tensor([3.0]))
        >>> log.first(torch.tensor([3]))[0]
        tensor([[5, 6, 7]])
    """

    def __init__(self, items: Tensor, times: Tensor, written: Tensor) -> None:
        self.items = items
        self.times = times
        self._written = written
        self._lock = threading.Lock()

    @classmethod
    def of(cls, items: Tensor, times: Tensor, length: Tensor) -> EventLog:
        """A log of given events, with room for more.

        Args:
            items: rows of the items, ``[B, L]``.
            times: their times, ``[B, L]``.
            length: how many of them each user has, ``[B]``.
        """
        capacity = items.shape[1] + max(items.shape[1], _MIN_CAPACITY)
        log = cls(
            items.new_zeros(len(items), capacity), times.new_full((len(items), capacity), torch.nan), length.clone()
        )
        log.items[:, : items.shape[1]] = items
        log.times[:, : items.shape[1]] = times
        return log

    def append(self, length: Tensor, item: Tensor, time: Tensor) -> EventLog:
        """The log with one more event of each user.

        Args:
            length: events of each user before this one, ``[B]``.
            item: row of the item, ``[B]``.
            time: time of the event, ``[B]``.
        """
        with self._lock:
            is_free = torch.equal(self._written, length) and int(length.max()) < self.items.shape[1]
            log = self if is_free else EventLog.of(*self.first(length), length)
            position = length[:, None]
            log.items.scatter_(1, position, item[:, None])
            log.times.scatter_(1, position, time[:, None])
            log._written = length + 1
        return log

    def first(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Items and times of the first ``length`` events of each user, ``[B, max(length)]`` each."""
        longest = int(length.max())
        is_padding = torch.arange(longest) >= length[:, None]
        items, times = self.items[:, :longest], self.times[:, :longest]
        return items.masked_fill(is_padding, 0), times.masked_fill(is_padding, torch.nan)

    def last_time(self, length: Tensor) -> Tensor:
        """Time of event number ``length`` of each user, ``[B]``: NaN if unknown, -inf where ``length`` is 0."""
        last = self.times.gather(1, (length - 1).clamp(min=0)[:, None]).squeeze(1)
        return last.where(length > 0, -torch.inf)

    def select(self, users: Tensor, length: Tensor) -> EventLog:
        """A log of its own for some users, ``[b]``, with their first ``length`` events, ``[b]``."""
        view = EventLog(self.items[users], self.times[users], length)
        return EventLog.of(*view.first(length), length)

    @staticmethod
    def concat(logs: Sequence[EventLog], lengths: Sequence[Tensor]) -> EventLog:
        """One log of the users of several, with the first events of each, up to ``lengths``, ``[b]`` each."""
        length = torch.cat(list(lengths))
        longest = int(length.max())
        items, times = [], []
        for log, own_length in zip(logs, lengths, strict=True):
            own_items, own_times = log.first(own_length)
            padding = (0, longest - own_items.shape[1])
            items.append(F.pad(own_items, padding))
            times.append(F.pad(own_times, padding, value=torch.nan))
        return EventLog.of(torch.cat(items), torch.cat(times), length)
