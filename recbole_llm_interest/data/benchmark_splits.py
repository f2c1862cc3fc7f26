"""The events of data that is split already: ``benchmark_filename``, in RecBole's two forms.

Listed histories: each row has its history in columns such as ``item_id_list``. Plain events: the history of a row is
the same user's earlier events in the files up to its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError

_logger = logging.getLogger(__name__)
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class EventTable:
    """Events, and rows whose histories are ranges of them.

    Attributes:
        items: of the events, ``[E]``.
        users: of the events, ``[E]``.
        times: of the events, ``[E]``; None if they are unknown.
        is_first: whether an event follows none before it in the table, ``[E]``.
        rows: the interactions that are predicted, ``[R]``.
        start: the first event of each row's history, ``[R]``.
        end: the event after its last one, which is the row's own, ``[R]``.
        first: the own events of rows without a history, which ``with_history`` left out, ``[F]``.
    """

    items: Numbers
    users: Numbers
    times: NDArray[np.float64] | None
    is_first: NDArray[np.bool_]
    rows: Numbers
    start: Numbers
    end: Numbers
    first: Numbers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def groups(self) -> Numbers:
        """The number of the sequence that each event belongs to, ``[E]``."""
        return self.is_first.cumsum()

    def with_history(self) -> EventTable:
        """Return the table without the rows that have no history."""
        kept = self.end > self.start
        return replace(self, rows=self.rows[kept], start=self.start[kept], end=self.end[kept], first=self.end[~kept])

    @classmethod
    def joined(cls, tables: Sequence[EventTable]) -> EventTable:
        """Return one table of the events and rows of several."""
        offsets = np.cumsum([0, *(len(table.items) for table in tables)])
        shifted = [
            replace(table, start=table.start + offset, end=table.end + offset, first=table.first + offset)
            for table, offset in zip(tables, offsets, strict=False)
        ]
        columns: dict[str, Any] = {}
        for name in (column.name for column in fields(cls)):
            parts = [getattr(table, name) for table in shifted]
            columns[name] = None if parts[0] is None else np.concatenate(parts)
        return cls(**columns)


def split_tables(
    interactions: pd.DataFrame, sizes: Sequence[int], names: Sequence[str], columns: Sequence[str], list_suffix: str
) -> list[EventTable]:
    """Return the event tables of the parts, of which each holds all histories of its rows.

    Args:
        interactions: part after part, with items and users by number, and times in double precision.
        sizes: the number of interactions of each part.
        names: of the parts.
        columns: of users, items and times.
        list_suffix: of the columns that hold histories.

    Raises:
        DataError: there are neither lists nor times, a row lists other numbers of items and times, or no row of the
            training data has a history.
    """
    user_field, item_field, time_field = columns
    users, items = interactions[user_field].to_numpy(), interactions[item_field].to_numpy()
    times = interactions[time_field].to_numpy(dtype=np.float64) if time_field in interactions else None
    if f"{item_field}{list_suffix}" in interactions:
        listed = _with_own(interactions[f"{item_field}{list_suffix}"], items)
        times_field = f"{time_field}{list_suffix}"
        listed_times = None
        if times is not None and times_field in interactions:
            listed_times = _with_own(interactions[times_field], times)
            _check_lengths(listed, listed_times, times_field)
        tables = list(_listed_parts(users, listed, listed_times, sizes))
    elif times is None:
        raise DataError(f"benchmark_filename: events without histories need the column {time_field!r} for their order")
    else:
        tables = list(plain_events(users, items, times, sizes, names))
    tables[0] = tables[0].with_history()
    if not len(tables[0].rows):
        raise DataError("benchmark_filename: no row of the training data has a history: there is nothing to learn from")
    if alone := int((tables[0].is_first & np.append(tables[0].is_first[1:], True)).sum()):
        _logger.warning("%d events of the training data have none before or after them in it", alone)
    return tables


def _with_own(lists: pd.Series, own: NDArray[Any]) -> list[NDArray[Any]]:
    """Return each row's list with the row's own value at the end."""
    return [np.append(values, value) for values, value in zip(lists, own, strict=True)]


def _check_lengths(items: Sequence[Numbers], times: Sequence[NDArray[np.float64]], times_field: str) -> None:
    for number, (row, row_times) in enumerate(zip(items, times, strict=True), start=1):
        if len(row) != len(row_times):
            raise DataError(
                f"benchmark_filename: row {number} of all parts lists {len(row) - 1} items, and {len(row_times) - 1} "
                f"times in {times_field!r}: give a time for each item, or leave the column out by load_col"
            )


def _listed_parts(
    users: Numbers, items: Sequence[Numbers], times: Sequence[NDArray[np.float64]] | None, sizes: Sequence[int]
) -> Iterator[EventTable]:
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        part_times = None if times is None else times[start:end]
        yield listed_histories(users[start:end], items[start:end], part_times, start)


def plain_events(
    users: Numbers, items: Numbers, times: NDArray[np.float64], sizes: Sequence[int], names: Sequence[str]
) -> Iterator[EventTable]:
    """Yield one table for each part: its histories are of the events of this part and of those before it.

    Events are in chronological order. Of events of the same time, those of earlier files come first, and those of one
    file in its order.

    Args:
        users: of all interactions, ``[T]``, part after part.
        items: likewise.
        times: likewise.
        sizes: the number of interactions of each part.
        names: of the parts; a part that has the name of another is the same file.

    Example:
        >>> import numpy as np
        >>> users, items, times = np.array([7, 7, 7, 7]), np.array([1, 2, 3, 4]), np.array([1.0, 3.0, 2.0, 5.0])
        >>> train, valid, test = plain_events(users, items, times, [2, 1, 1], ["train", "valid", "test"])
        >>> [train.items[start:end].tolist() for start, end in zip(train.start, train.end)]
        [[], [1]]
        >>> valid.items[valid.start[0] : valid.end[0]], test.items[test.start[0] : test.end[0]]
        (array([1]), array([1, 3, 2]))
    """
    part_of = np.repeat(np.arange(len(sizes)), sizes)
    is_repeated = np.array([name in names[:number] for number, name in enumerate(names)], dtype=bool)[part_of]
    for name in names:
        number = names.index(name)
        events = np.flatnonzero((part_of <= number) & ~is_repeated)
        events = events[np.lexsort((times[events], users[events]))]
        is_first = np.diff(users[events], prepend=-1) != 0
        position = np.arange(len(events))
        start = np.maximum.accumulate(np.where(is_first, position, 0))
        own = part_of[events] == number
        yield EventTable(items[events], users[events], times[events], is_first, events[own], start[own], position[own])


def listed_histories(
    users: Numbers, items: Sequence[Numbers], times: Sequence[NDArray[np.float64]] | None, first_row: int = 0
) -> EventTable:
    """Return the table of one part whose rows have their histories.

    Files have many rows of one sequence, such as ``a → b``, ``a b → c``, ``b c → d``. A row whose history is the end of
    the same user's row before it shares its events; shorter lists come first, then earlier times.

    Args:
        users: of the rows, ``[R]``.
        items: the history and the own item of each row, ``R`` arrays.
        times: of the same events; None if they are unknown.
        first_row: the number of the first row among all parts' interactions.

    Example:
        >>> import numpy as np
        >>> table = listed_histories(np.array([7, 7]), [np.array([1, 2]), np.array([1, 2, 3])], None)
        >>> table.items.tolist(), table.start.tolist(), table.end.tolist()
        ([1, 2, 3], [0, 0], [1, 2])
    """
    lengths = np.array([len(row) for row in items], dtype=np.int64)
    own_times = np.zeros(len(items)) if times is None else np.array([row_times[-1] for row_times in times])
    order = np.lexsort((own_times, lengths, users))
    is_new = _starts_sequence(users[order], [items[row] for row in order])
    added = np.where(is_new, lengths[order], 1)
    end = np.empty_like(order)
    end[order] = added.cumsum() - 1
    is_first = np.isin(np.arange(added.sum()), (added.cumsum() - added)[is_new])

    def events(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([values[row][-count:] for row, count in zip(order, added, strict=True)])

    rows = np.arange(first_row, first_row + len(items))
    listed_times = None if times is None else events(times)
    users_of_events = np.repeat(users[order], added)
    return EventTable(events(items), users_of_events, listed_times, is_first, rows, end - lengths + 1, end)


def _starts_sequence(users: Numbers, items: Sequence[Numbers]) -> NDArray[np.bool_]:
    """Return whether each row's history is something else than the end of the row before it, ``[R]``."""
    is_new = np.ones(len(items), dtype=bool)
    for place in range(1, len(items)):
        history, before = items[place][:-1], items[place - 1]
        if users[place] == users[place - 1] and 0 < len(history) <= len(before):
            is_new[place] = not np.array_equal(before[-len(history) :], history)
    return is_new
