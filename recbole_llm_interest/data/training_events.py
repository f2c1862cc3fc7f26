"""The events that a model may learn from, for models that count them."""

from __future__ import annotations

import hashlib
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
