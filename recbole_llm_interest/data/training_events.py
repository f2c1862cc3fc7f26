"""The events that a model may learn from, for models that count them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recbole_llm_interest.data.benchmark_splits import EventTable


@dataclass(frozen=True)
class TrainingEvents:
    """Events in chronological order, one sequence after the other.

    Attributes:
        items: of the events, ``[T]``.
        users: likewise.
        times: likewise, in double precision; None if they are unknown.
        sequences: the number of the sequence that each event belongs to, ``[T]``. A user has several sequences only
            where files list histories.
    """

    items: NDArray[np.int64]
    users: NDArray[np.int64]
    times: NDArray[np.float64] | None
    sequences: NDArray[np.int64]

    def digest(self, tokens: Sequence[str]) -> str:
        """A hash of the sequences, each as the tokens of its items; equal for equal events in any internal ids.

        Args:
            tokens: of the items by internal id.
        """
        ends = np.flatnonzero(self.sequences[1:] != self.sequences[:-1]) + 1
        sequences = ("\n".join(tokens[item] for item in items) for items in np.split(self.items, ends))
        of_each = sorted(
            hashlib.sha256(sequence.encode("utf-8", errors="surrogatepass")).digest() for sequence in sequences
        )
        return hashlib.sha256(b"".join(of_each)).hexdigest()

    @classmethod
    def of_table(cls, table: EventTable) -> Self:
        """Return all events of the training table of data that is split already."""
        return cls(table.items, table.users, table.times, table.groups)

    @classmethod
    def of_rows(cls, users: Tensor, start: Tensor, end: Tensor, items: Tensor, times: Tensor | None) -> Self:
        """Return the events that training rows predict, and the first one of each history.

        Args:
            users: of the rows, ``[R]``.
            start: the first event of each row's history, ``[R]``.
            end: the event that each row predicts, ``[R]``.
            items: of all events of the table, ``[E]``.
            times: likewise; None if they are unknown.
        """
        events, row = np.unique(np.concatenate([start.numpy(), end.numpy()]), return_index=True)
        users_of_events = np.concatenate([users.numpy(), users.numpy()])[row]
        times_of_events = None if times is None else times.numpy()[events]
        return cls(items.numpy()[events], users_of_events, times_of_events, users_of_events)


class UserHistories:
    """Gives the events of users that training saw, in chronological order.

    Where rows list their histories, a user's events are those of the longest one.

    Args:
        events: of training.
        users: tokens by internal id.
        items: likewise.

    Example:
        >>> events = TrainingEvents(np.array([2, 1, 1]), np.array([1, 1, 2]), None, np.array([1, 1, 2]))
        >>> UserHistories(events, ["[PAD]", "ada", "ben"], ["[PAD]", "i1", "i2"])(["ada", "eve"])
        [(['i2', 'i1'], [nan, nan]), ([], [])]
    """

    def __init__(self, events: TrainingEvents, users: Sequence[str], items: Sequence[str]) -> None:
        self._events = events
        self._items = items
        starts = np.flatnonzero(np.diff(events.sequences, prepend=events.sequences[:1] - 1))
        self._span: dict[str, tuple[int, int]] = {}
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(events.items)], strict=True):
            user = users[events.users[start]]
            known = self._span.get(user, (0, 0))
            if end - start >= known[1] - known[0]:
                self._span[user] = start, end

    def __call__(self, users: Sequence[str]) -> list[tuple[list[str], list[float]]]:
        """Give items and times of each user; a time is NaN if it is unknown, and both are empty for others."""
        return [self._of(*self._span.get(user, (0, 0))) for user in users]

    def _of(self, start: int, end: int) -> tuple[list[str], list[float]]:
        times = self._events.times
        known = [math.nan] * (end - start) if times is None else times[start:end].tolist()
        return [self._items[item] for item in self._events.items[start:end]], known
