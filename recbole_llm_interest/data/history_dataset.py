"""A sequential data set whose histories are index ranges of one event table, split as RecBole splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_llm_interest.content.event_times import time_feature
from recbole_llm_interest.content.interaction_files import check_interaction_file
from recbole_llm_interest.data.benchmark_splits import EventTable, split_tables
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.data.event_histories import HISTORY_END, HISTORY_START, first_events, own_events
from recbole_llm_interest.data.training_events import TrainingEvents
from recbole_llm_interest.errors import DataError, SettingsError

_logger = logging.getLogger(__name__)
#: RecBole's modes of leave-one-out
_LEAVE_ONE_MODES = ("valid_and_test", "valid_only", "test_only")


class HistoryDataset(SequentialDataset):
    """A sequential data set that copies no history.

    RecBole's augmentation copies the history of each event. Here the chronological event table is kept once, and each
    row stores only where its history starts and ends in it. The rows and their order are RecBole's, so its splits and
    its evaluation apply, at a fraction of the time and memory. Data that ``benchmark_filename`` splits has the same
    form: ``benchmark_splits`` makes the table and the rows.

    Args:
        config: RecBole's configuration.
        time_fields: names of ``time_feature`` by the field that holds them; histories then have them, too.

    Attributes:
        item_list_field: the field of histories.
        next_item_list_field: the field of the item that follows each position, in training.
        end_field: the field of the event after the last one of a row's history.
        event_users: the user of each event of the table, ``[E]``.
        event_items: its item, ``[E]``. That of a row's own event is at ``HISTORY_END``.
        event_times: its time in double precision, as in the file, ``[E]``; None without times.
        event_features: what histories have of each event beside its item, whole numbers ``[E]`` by field.

    Raises:
        DataError: the interactions cannot be read, or they have no timestamps.
        SettingsError: ``save_dataset`` or ``dataset_save_path`` is set.
    """

    inter_feat: Any  # RecBole turns it from a DataFrame into an Interaction
    end_field = HISTORY_END
    event_users: Tensor
    event_items: Tensor
    event_times: Tensor | None = None
    event_features: dict[str, Tensor]
    _tables: list[EventTable] | None = None  # of training, validation and test data that is split already

    def __init__(self, config: Config, time_fields: Mapping[str, str] | None = None) -> None:
        check_interaction_file(config)
        _check_supported(config)
        self._time_fields = dict(time_fields or {})
        super().__init__(config)
        self.item_list_field = f"{self.iid_field}{config['LIST_SUFFIX']}"
        self.next_item_list_field = f"next_{self.item_list_field}"

    @property
    def item_counts(self) -> Tensor:
        """Number of events of each item in this split, or in training data that is split already, ``[N]``."""
        if self._tables is not None:
            return torch.bincount(torch.from_numpy(self._tables[0].items), minlength=self.item_num)
        return count_training_events(self)[0]

    def training_targets(self) -> tuple[Tensor, Tensor]:
        """Return the user of each training target and its index in the event table, ``[T]`` each."""
        if self._tables is not None:
            train = self._tables[0]
            targets = torch.from_numpy(train.is_first).logical_not().nonzero().squeeze(1)
            return torch.from_numpy(train.users)[targets], targets
        return self.inter_feat[self.uid_field], own_events(self.inter_feat)

    def first_training_events(self) -> Tensor:
        """Return the index of users' first events in training, ``[F]``; in published splits, of those with a row."""
        if self._tables is not None:
            return torch.from_numpy(self._tables[0].first)
        return torch.unique(self.inter_feat[HISTORY_START])

    def training_events(self) -> TrainingEvents:
        """Return the events of this split, or of the training data that is split already."""
        if self._tables is not None:
            return TrainingEvents.of_table(self._tables[0])
        users, start, end = (self.inter_feat[name] for name in (self.uid_field, HISTORY_START, HISTORY_END))
        return TrainingEvents.of_rows(users, start, end, self.event_items, self.event_times)

    def _normalize(self) -> None:
        """Compute features of timestamps before RecBole scales them to [0, 1] and casts them to float32."""
        if self.benchmark_filename_list is not None:
            self._read_tables()
            super()._normalize()
            return
        if self.time_field not in self.inter_feat:
            if self._time_fields:
                raise DataError(f"time_features needs a timestamp for each event: {self.dataset_name!r} has none")
            super()._normalize()
            return
        users = self.inter_feat[self.uid_field].to_numpy()
        times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64)
        super()._normalize()
        for field, name in self._time_fields.items():
            self.inter_feat[field] = time_feature(name, times, users)
            self.set_field_property(field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)

    def _read_tables(self) -> None:
        """Make the event tables of data that is split already, and remove the columns of lists."""
        fields = (self.uid_field, self.iid_field, self.time_field)
        suffix = self.config["LIST_SUFFIX"]
        self._tables = split_tables(self.inter_feat, self.file_size_list, self.benchmark_filename_list, fields, suffix)
        for field in [field for field in self.inter_feat if field.endswith(suffix)]:
            self._del_col(self.inter_feat, field)

    def _benchmark_presets(self) -> None:
        """Do nothing: RecBole's method needs lists in memory."""

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        if self._tables is None:
            return
        table = EventTable.joined(self._tables)
        if self._time_fields and table.times is None:
            raise DataError(f"time_features needs a timestamp for each event: {self.dataset_name!r} has none")
        self.event_users, self.event_items = torch.from_numpy(table.users), torch.from_numpy(table.items)
        self.event_times = None if table.times is None else torch.from_numpy(table.times)
        self.event_features = {
            field: torch.from_numpy(time_feature(name, table.times, table.groups))
            for field, name in self._time_fields.items()
            if table.times is not None
        }
        rows = {field: values[table.rows] for field, values in self.inter_feat.interaction.items()}
        rows |= {HISTORY_START: torch.from_numpy(table.start), HISTORY_END: torch.from_numpy(table.end)}
        self.inter_feat = Interaction(rows)
        self.file_size_list = [len(part.rows) for part in self._tables]

    def data_augmentation(self) -> None:
        """Make one row of each event that has a history, without copying the history. Replaces RecBole's method.

        Raises:
            DataError: no user has two events.
        """
        self.sort(by=[self.uid_field, self.time_field])
        self._aug_presets()
        users = self.event_users
        start = first_events(users)
        is_first = start == torch.arange(len(users))
        if with_one_event := int((is_first & is_first.roll(-1)).sum()):
            _logger.warning("%d users have only one event and are ignored: there is no next item", with_one_event)
        self.event_features = {field: self.inter_feat[field].long() for field in self._time_fields}
        fields = [field for field in self.inter_feat.interaction if field not in self._time_fields]
        rows = {field: self.inter_feat[field][~is_first] for field in fields}
        if not len(rows[self.uid_field]):
            raise DataError(f"no user of {self.dataset_name!r} has two events: there is no next item to learn from")
        self.inter_feat = Interaction(rows)

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Self]:
        """Split off the last event or the last two events of each user, with RecBole's rows in RecBole's order.

        RecBole's method builds Python lists of indices, which take more memory than the events.

        Args:
            group_by: the field of users.
            leave_one_mode: ``valid_and_test``, ``valid_only`` or ``test_only``.

        Returns:
            Training, validation and test data.

        Raises:
            SettingsError: the mode is unknown.
        """
        if leave_one_mode not in _LEAVE_ONE_MODES:
            raise SettingsError(
                f"eval_args: unknown split: {{LS: {leave_one_mode}}}; choose one of {', '.join(_LEAVE_ONE_MODES)}"
            )
        parts = _leave_one_out(self.inter_feat[group_by].numpy(), leave_one_mode)
        self._drop_unused_col()
        return [
            self.copy(Interaction({field: values[part] for field, values in self.inter_feat.interaction.items()}))
            for part in map(torch.from_numpy, parts)
        ]

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """Return rows with their histories: the last ``MAX_ITEM_LIST_LENGTH`` items before each, ``[B, L]``.

        Args:
            index: a slice, list, array or mask of rows.
            join: has no effect; it is in RecBole's signature. The model holds all content, so batches hold none.
        """
        # RecBole converts the index to a list and looks up each column by it, which is slow
        where = index if isinstance(index, slice) else torch.as_tensor(index)
        rows = Interaction({field: values[where] for field, values in self.inter_feat.interaction.items()})
        end = rows[HISTORY_END]
        start = torch.maximum(rows[HISTORY_START], end - self.max_item_list_len)
        rows.update(self.histories(start, end))
        return rows

    def histories(self, start: Tensor, end: Tensor) -> Interaction:
        """Return ranges of the event table: items and event features ``[B, L]``, padded with 0, and lengths ``[B]``.

        An empty range is one event of padding, as in live use. Only data that is split already has such rows.

        Args:
            start: the first event of each history, ``[B]``.
            end: the event after the last one, ``[B]``.
        """
        length = end - start
        offset = torch.arange(max(int(length.max()), 1))
        is_event = offset < length[:, None]  # [B, L]
        events = (start[:, None] + offset).where(is_event, 0)
        features = {
            f"{field}{self.config['LIST_SUFFIX']}": values[events].where(is_event, 0)
            for field, values in self.event_features.items()
        }
        items = self.event_items[events].where(is_event, 0)
        return Interaction({self.item_list_field: items, self.item_list_length_field: length.clamp(min=1), **features})


def _check_supported(config: Config) -> None:
    if config["save_dataset"] or config["dataset_save_path"]:
        raise SettingsError(
            f"save_dataset and dataset_save_path are not supported by {config['model']}: RecBole would load the saved "
            "data set even if content settings have changed; encoded features are stored in feature_cache anyway"
        )


def _leave_one_out(groups: NDArray[np.int64], mode: str) -> tuple[NDArray[np.int64], ...]:
    """Return the indices of training, validation and test rows.

    Args:
        groups: the user of each row, ``[R]``, in the order of events.
        mode: one of ``_LEAVE_ONE_MODES``.

    Returns:
        Three arrays of indices. Users are in the order of their first rows, and each user's rows are consecutive. The
        first row of a user is never held out.
    """
    position = np.arange(len(groups))
    first_row = np.zeros(groups.max() + 1, dtype=np.int64)
    first_row[groups[::-1]] = position[::-1]  # of several writes the last one stays, which is the first row
    order = np.argsort(first_row[groups], kind="stable")
    users = groups[order]
    is_last = np.append(users[1:] != users[:-1], True)
    is_first = np.append(True, is_last[:-1])
    is_held_out = is_last & ~is_first
    is_second_last = np.append(is_held_out[1:] & ~is_first[:-1], False)
    nothing = np.zeros_like(is_held_out)
    is_valid, is_test = {
        "valid_and_test": (is_second_last, is_held_out),
        "valid_only": (is_held_out, nothing),
        "test_only": (nothing, is_held_out),
    }[mode]
    return order[~is_test & ~is_valid], order[is_valid], order[is_test]
