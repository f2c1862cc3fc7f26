"""The history of each row of a data set, for every RecBole model: a range of one table of events.

RecBole's sequential data sets hold copies of histories, cut at ``MAX_ITEM_LIST_LENGTH``, and its general data sets hold
none. Here each row of any of them knows where its whole history starts and ends in the events of all users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, ModelType
from torch import Tensor

from recbole_llm_interest.data.benchmark_splits import EventTable, plain_events

#: columns of rows: the first event of the history in the table of events, and the event after its last one, which is
#: the row's own
HISTORY_START, HISTORY_END = "history_start", "history_end"
#: column of the row's own event where that is not ``HISTORY_END``: histories that end before the tested period
OWN_EVENT = "own_event"
#: the column of times in double precision, as integers of the same bits: RecBole keeps integers as they are
EXACT_TIME = "exact_time"
#: rows whose seen items are looked up at once
_CHUNK_ROWS = 4096


def keep_event_histories() -> None:
    """Patch RecBole's data sets to keep the table of events, and the range of each row's history in it.

    A data set that is ordered by time gets ``event_users`` and ``event_items``, ``[E]``, ordered by user and time, and
    ``event_times``, the times as in the file. Rows get the columns ``HISTORY_START`` and ``HISTORY_END``. Parts of a
    split share the table. Called once, at registration.
    """
    normalize, change_format = Dataset._normalize, Dataset._change_feat_format
    change_sequential_format = SequentialDataset._change_feat_format

    def _normalize(self: Any) -> None:
        if _keeps_events(self):
            times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64)
            self.inter_feat[EXACT_TIME] = times.view(np.int64)
            self.set_field_property(EXACT_TIME, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        normalize(self)

    def _change_feat_format(self: Any) -> None:
        change_format(self)
        if EXACT_TIME in self.inter_feat:
            times = self.inter_feat[EXACT_TIME].view(torch.float64)
            self._del_col(self.inter_feat, EXACT_TIME)
            _keep_benchmark_events(self, times) if self.benchmark_filename_list else _keep_events(self, times)

    def _change_sequential_feat_format(self: Any) -> None:
        change_sequential_format(self)
        if hasattr(self, "event_users") and HISTORY_END not in self.inter_feat:
            start = first_events(self.event_users)
            end = torch.arange(len(start))
            is_row = end > start  # the first event of a user has no history, and RecBole makes no row of it
            self.inter_feat.update(Interaction({HISTORY_START: start[is_row], HISTORY_END: end[is_row]}))

    Dataset._normalize, Dataset._change_feat_format = _normalize, _change_feat_format
    SequentialDataset._change_feat_format = _change_sequential_feat_format


def _keeps_events(dataset: Any) -> bool:
    """Return whether events have an order. Trees read columns by type; lists of items are histories by themselves."""
    if dataset.time_field not in dataset.inter_feat or dataset.config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        return False
    if dataset.benchmark_filename_list is not None:
        return not isinstance(dataset, SequentialDataset) and _list_field(dataset) not in dataset.inter_feat
    return bool(dataset.config["eval_args"]["order"] == "TO")


def _keep_events(dataset: Any, times: Tensor) -> None:
    """Set a data set's table of events; add the columns of histories unless rows are made of events later."""
    rows = dataset.inter_feat
    users = rows[dataset.uid_field]
    order = users.argsort(stable=True)
    dataset.event_users, dataset.event_items = users[order], rows[dataset.iid_field][order]
    dataset.event_times = times[order]
    if not isinstance(dataset, SequentialDataset):
        end = torch.empty_like(order)
        end[order] = torch.arange(len(order))
        rows.update(Interaction({HISTORY_START: first_events(dataset.event_users)[end], HISTORY_END: end}))


def _keep_benchmark_events(dataset: Any, times: Tensor) -> None:
    """Do the same for events that are split already: histories are of the events of a row's file and of those before.

    The parts' tables follow each other.
    """
    rows, names = dataset.inter_feat, dataset.benchmark_filename_list
    users, items = rows[dataset.uid_field].numpy(), rows[dataset.iid_field].numpy()
    table = EventTable.joined(list(plain_events(users, items, times.numpy(), dataset.file_size_list, names)))
    dataset.event_users, dataset.event_items = torch.from_numpy(table.users), torch.from_numpy(table.items)
    columns = {field: values[table.rows] for field, values in rows.interaction.items()}
    columns |= {HISTORY_START: torch.from_numpy(table.start), HISTORY_END: torch.from_numpy(table.end)}
    dataset.inter_feat = Interaction(columns)


def first_events(users: Tensor) -> Tensor:
    """Return the index of the first event of each event's user, ``[E]``, for events ordered by user.

    Example:
        >>> first_events(torch.tensor([3, 3, 5])).tolist()
        [0, 0, 2]
    """
    return torch.searchsorted(users, users)


def own_events(rows: Interaction) -> Tensor:
    """Return the index of each row's own event in the table of events, ``[R]``."""
    events: Tensor = rows[OWN_EVENT if OWN_EVENT in rows else HISTORY_END]
    return events


def has_histories(dataset: Any) -> bool:
    """Return whether ``seen_items`` knows the items before each row of a data set."""
    return HISTORY_END in dataset.inter_feat or _list_field(dataset) in dataset.inter_feat


def seen_items(dataset: Any, rows: Interaction) -> tuple[Tensor, Tensor]:
    """Return the items of each row's whole history.

    Args:
        dataset: any RecBole data set, or a part of it.
        rows: ``B`` rows of it.

    Returns:
        Indices of rows and the items that were seen before them, ``[S]`` each. An item that was seen twice comes twice.
    """
    if HISTORY_END not in rows:
        row, position = rows[_list_field(dataset)].nonzero(as_tuple=True)  # 0 is padding
        return row, rows[_list_field(dataset)][row, position]
    start, end = rows[HISTORY_START], rows[HISTORY_END]
    length = end - start
    row = torch.repeat_interleave(torch.arange(len(start)), length)
    before = length.cumsum(0) - length
    return row, dataset.event_items[torch.arange(len(row)) + (start - before)[row]]


def repeats_seen_item(dataset: Any) -> Tensor:
    """Return whether each row's own item is one that the user has seen before, ``[R]``."""
    repeats = torch.zeros(len(dataset.inter_feat), dtype=torch.bool)
    for chunk in _chunks(len(repeats)):
        rows = dataset.inter_feat[chunk]
        row, items = seen_items(dataset, rows)
        repeats[chunk.start + row[items == rows[dataset.iid_field][row]]] = True
    return repeats


def _chunks(length: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK_ROWS) for start in range(0, length, _CHUNK_ROWS))


def _list_field(dataset: Any) -> str:
    return f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"
