"""The events of users, stored once for all the states that grow out of each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

#: events for which a new log has room
_MIN_CAPACITY = 16


@dataclass(frozen=True)
class LoggedEvents:
    """Events of ``B`` users, in chronological order.

    Attributes:
        items: rows of the items in the catalog, ``[B, L]``; 0 where there is no event.
        times: times of the events, ``[B, L]``, float64; NaN where the time is unknown.
        content: what the model reads of their content, ``[B, L, W]``: what it adds to the items' representations, and
            codes of neighbours by it; zeros where there is none, and W is 0 if the model reads none.

    Example:
        >>> events = LoggedEvents(torch.tensor([[5, 6]]), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2, 0))
        >>> events.part(1, 2).items
        tensor([[6]])
    """

    items: Tensor
    times: Tensor
    content: Tensor

    @property
    def count(self) -> int:
        """Number of events of each user, L."""
        return self.items.shape[1]

    def part(self, start: int, end: int) -> Self:
        """The events from ``start`` on, before ``end``."""
        return type(self)(self.items[:, start:end], self.times[:, start:end], self.content[:, start:end])

    def of(self, users: Tensor) -> Self:
        """The events of some users, ``[b]``."""
        return type(self)(self.items[users], self.times[users], self.content[users])

    def first(self, length: Tensor) -> Self:
        """The first ``length`` events of each user, ``[B]``; padding behind."""
        longest = int(length.max())
        if int(length.min()) == longest:
            return self.part(0, longest)
        is_padding = torch.arange(longest) >= length[:, None]
        return type(self)(
            self.items[:, :longest].masked_fill(is_padding, 0),
            self.times[:, :longest].masked_fill(is_padding, torch.nan),
            self.content[:, :longest].masked_fill(is_padding[..., None].to(self.content.device), 0.0),
        )

    def padded(self, count: int) -> Self:
        """The events with padding behind, so that there are ``count`` columns."""
        more = count - self.count
        return type(self)(
            F.pad(self.items, (0, more)),
            F.pad(self.times, (0, more), value=torch.nan),
            F.pad(self.content, (0, 0, 0, more)),
        )

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """The events of the users of several, which have equal numbers of columns."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("items", "times", "content")))


class EventLog:
    """Events of ``B`` users. Successive states share a log: each reads the first events, up to its own lengths.

    Appending takes constant time, because it writes behind the events that earlier states read. The log is copied where
    another state has already written there, or where its capacity is used up.

    Args:
        events: with room behind those that are written.
        written: how many are, of each user, ``[B]``.

    Example:
        >>> events = LoggedEvents(torch.tensor([[5, 6]]), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2, 0))
        >>> log = EventLog.of(events, torch.tensor([2]))
        >>> more = LoggedEvents(torch.tensor([[7]]), torch.tensor([[3.0]]), torch.zeros(1, 1, 0))
        >>> log.append(torch.tensor([2]), more).first(torch.tensor([3])).items
        tensor([[5, 6, 7]])
    """

    def __init__(self, events: LoggedEvents, written: Tensor) -> None:
        self._events = events
        self._written = written
        self._lock = threading.Lock()

    @classmethod
    def of(cls, events: LoggedEvents, length: Tensor) -> EventLog:
        """A log of given events, of which each user has ``length``, ``[B]``, with room for more."""
        return cls(events.padded(events.count + max(events.count, _MIN_CAPACITY)), length.clone())

    def append(self, length: Tensor, event: LoggedEvents) -> EventLog:
        """The log with one more event of each user, who had ``length`` before, ``[B]``."""
        with self._lock:
            is_free = torch.equal(self._written, length) and int(length.max()) < self._events.count
            log = self if is_free else EventLog.of(self.first(length), length)
            user = torch.arange(len(length))
            log._events.items[user, length] = event.items[:, 0]
            log._events.times[user, length] = event.times[:, 0]
            log._events.content[user, length] = event.content[:, 0]
            log._written = length + 1
        return log

    def first(self, length: Tensor) -> LoggedEvents:
        """The first ``length`` events of each user, ``[B]``."""
        return self._events.first(length)

    def last_time(self, length: Tensor) -> Tensor:
        """Time of event number ``length`` of each user, ``[B]``: NaN if unknown, -inf where ``length`` is 0."""
        last = self._events.times.gather(1, (length - 1).clamp(min=0)[:, None]).squeeze(1)
        return last.where(length > 0, -torch.inf)

    def select(self, users: Tensor, length: Tensor) -> EventLog:
        """A log of its own for some users, ``[b]``, with their first ``length`` events, ``[b]``."""
        return EventLog.of(self._events.of(users).first(length), length)

    @staticmethod
    def concat(logs: Sequence[EventLog], lengths: Sequence[Tensor]) -> EventLog:
        """One log of the users of several, with the first events of each, up to ``lengths``, ``[b]`` each."""
        length = torch.cat(list(lengths))
        parts = [log.first(own).padded(int(length.max())) for log, own in zip(logs, lengths, strict=True)]
        return EventLog.of(LoggedEvents.concat(parts), length)
