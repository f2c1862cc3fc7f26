"""Joins RecBole's interactions with content: histories as index arrays, features in the order of internal ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_llm_interest.content.catalogue import Catalogue, read_catalogue, read_column
from recbole_llm_interest.content.event_times import time_feature
from recbole_llm_interest.content.features import Content, control
from recbole_llm_interest.content.pipeline import collect_content
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, format_columns, read_atomic_file, read_header
from recbole_llm_interest.settings import ContentSettings, ModelSettings, read_settings

_logger = logging.getLogger(__name__)


class LLMInterestDataset(SequentialDataset):
    """A sequential data set that knows what its items and users are.

    RecBole's augmentation copies a history out for each of its events. Here the chronological event table stays
    as it is, and a row only says where its history starts and ends in it: the same rows in the same order, so
    RecBole's own splitting and evaluation apply, at a fraction of the time and memory.

    Attributes:
        item_list_field: the field that holds histories.
        next_item_list_field: the field that holds, in training, the item that follows each position.
        item_content: features by modality, row ``i`` for internal item id ``i``.
        user_content: the same for users; empty where users have no content.
        neighbour_cache: the folder in which items' neighbours by content are kept.
        item_neighbours: those neighbours, where they are known already; None where the model looks for them.

    Raises:
        DataError: there are no times to order by, or content is missing and ``strict_content`` is set.
        EncoderError: an encoder cannot be loaded.
    """

    inter_feat: Any  # RecBole turns it from a DataFrame into an Interaction
    HISTORY_START = "history_start"
    HISTORY_END = "history_end"
    item_neighbours: Tensor | None = None

    def __init__(self, config: Config) -> None:
        settings = read_settings(ContentSettings, config)
        check_interaction_file(config)
        _refuse_unsupported(config)
        self._time_fields = {f"time_{name}": name for name in read_settings(ModelSettings, config).time_features}
        super().__init__(config)
        self.item_list_field = f"{self.iid_field}{config['LIST_SUFFIX']}"
        self.next_item_list_field = f"next_{self.item_list_field}"
        self.neighbour_cache = feature_cache(config, settings) / "neighbours"
        self.item_content = self._content("item", self.iid_field, settings)
        self.user_content = self._content("user", self.uid_field, settings)

    def _content(self, kind: str, id_field: str, settings: ContentSettings) -> Content:
        tokens = [str(token) for token in self.field2id_token[id_field]]
        tokens[0] = ""  # RecBole's padding: a real item may well be called [PAD]
        catalogue = catalogue_from_config(self.config, kind, settings)
        content, summaries = collect_content(catalogue, tokens, feature_cache(self.config, settings), settings)
        lacking = [summary.shown(settings) for summary in summaries if summary.is_lacking]
        for line in (line for summary in lacking for line in summary.lines()):
            advice = f"a learnt vector stands in; docs/your_data.md says how to give {kind}s content"
            if settings.strict_content:
                raise DataError(f"{line}: {advice}, or set strict_content=False")
            _logger.warning("%s: %s", line, advice)
        tested = {
            name: features for name, features in content.items() if f"{kind}_{name}" in settings.controlled_content
        }
        return content | control(tested, settings.content_control, self.config["seed"])

    @property
    def item_counts(self) -> Tensor:
        """How often each item occurs in the events of this split, ``[N]``."""
        return count_training_events(self)[0]

    def _normalize(self) -> None:
        """Take what the times say along before RecBole scales them to [0, 1], and casts them to float32."""
        users = self.inter_feat[self.uid_field].to_numpy()
        features = {}
        for field, name in self._time_fields.items():
            if self.time_field not in self.inter_feat:
                raise DataError(f"time_features needs a time for each event: {self.dataset_name!r} has none")
            times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64)
            features[field] = time_feature(name, times, users)
        super()._normalize()
        for field, values in features.items():
            self.inter_feat[field] = values
            self.set_field_property(field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)

    def data_augmentation(self) -> None:
        """One row for each event that has a history, without copying the history (replaces RecBole's)."""
        self._aug_presets()
        self.sort(by=[self.uid_field, self.time_field])
        self._event_items: Tensor = self.inter_feat[self.iid_field]
        users = self.inter_feat[self.uid_field]
        position = torch.arange(len(users))
        is_first = torch.ones_like(users, dtype=torch.bool)
        is_first[1:] = users[1:] != users[:-1]
        start = torch.where(is_first, position, 0).cummax(dim=0).values
        lonely = int((is_first & is_first.roll(-1)).sum())
        if lonely:
            _logger.warning(
                "%d users have one event only: there is nothing to predict for them, so they take no part", lonely
            )
        self._event_times = {field: self.inter_feat[field].long() for field in self._time_fields}
        fields = [field for field in self.inter_feat.interaction if field not in self._time_fields]
        rows = {field: self.inter_feat[field][~is_first] for field in fields}
        if not len(rows[self.uid_field]):
            raise DataError(f"no user of {self.dataset_name!r} has two events: there is no next item to learn from")
        rows[self.HISTORY_START] = start[~is_first]
        rows[self.HISTORY_END] = position[~is_first]
        self.inter_feat = Interaction(rows)

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[LLMInterestDataset]:
        """Hold out the last event, or the last two, of each user that has as many left: RecBole's rows in its order.

        Without its lists of numbers, which cost more than the events.
        """
        held_out = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}.get(leave_one_mode)
        if held_out is None:
            raise SettingsError(
                f"eval_args: split: {{LS: {leave_one_mode}}} is none of valid_and_test, valid_only, test_only"
            )
        groups = self.inter_feat[group_by].numpy()
        place = np.arange(len(groups))
        first = np.zeros(groups.max() + 1, dtype=np.int64)
        first[groups[::-1]] = place[::-1]  # the last write stays: where a user comes first
        order = np.argsort(first[groups], kind="stable")  # users as they come up, each one's events together
        users = groups[order]
        is_last = np.append(users[1:] != users[:-1], True)
        is_first = np.append(True, is_last[:-1])
        is_test = is_last & ~is_first
        is_valid = np.zeros_like(is_test)
        if held_out == 2:
            is_valid[:-1] = is_test[1:] & ~is_first[:-1]
        elif leave_one_mode == "valid_only":
            is_test, is_valid = is_valid, is_test
        self._drop_unused_col()
        parts = (order[~is_test & ~is_valid], order[is_valid], order[is_test])
        return [
            self.copy(Interaction({field: values[part] for field, values in self.inter_feat.interaction.items()}))
            for part in map(torch.from_numpy, parts)
        ]

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """Rows with their histories: the last ``MAX_ITEM_LIST_LENGTH`` items before the row's own, ``[B, L]``.

        ``join`` is RecBole's and has no effect: content stays out of batches, the model holds it once.
        """
        # RecBole's way makes a list of the index, and looks each column up by that
        where = index if isinstance(index, slice) else torch.as_tensor(index)
        rows = Interaction({field: values[where] for field, values in self.inter_feat.interaction.items()})
        end = rows[self.HISTORY_END]
        start = torch.maximum(rows[self.HISTORY_START], end - self.max_item_list_len)
        rows.update(self.histories(start, end))
        return rows

    def histories(self, start: Tensor, end: Tensor) -> Interaction:
        """The events from ``start`` up to and without ``end``: items, and what is used of their times.

        Each ``[B, L]``, with 0 behind the last one.
        """
        length = end - start
        offset = torch.arange(int(length.max()))
        inside = offset < length[:, None]
        events = (start[:, None] + offset).where(inside, 0)
        times = {
            f"{field}{self.config['LIST_SUFFIX']}": values[events].where(inside, 0)
            for field, values in self._event_times.items()
        }
        items = self._event_items[events].where(inside, 0)
        return Interaction({self.item_list_field: items, self.item_list_length_field: length, **times})


def _refuse_unsupported(config: Config) -> None:
    if config["benchmark_filename"]:
        raise DataError(
            "benchmark_filename is not supported by LLMInterest, which takes whole histories: give it one .inter file "
            "and let eval_args split it"
        )
    if config["save_dataset"] or config["dataset_save_path"]:
        raise SettingsError(
            "save_dataset and dataset_save_path are not supported by LLMInterest: RecBole would load the saved data "
            "set whatever the content settings are; encoded features are kept in feature_cache anyway"
        )


def catalogue_from_config(config: Config, kind: str, settings: ContentSettings) -> Catalogue:
    """What the data set says of its items or users."""
    return read_catalogue(
        Path(config["data_path"]),
        config["dataset"],
        kind,
        config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"],
        text_fields=getattr(settings, f"{kind}_text_fields"),
        text_template=getattr(settings, f"{kind}_text_template"),
        layout=AtomicFormat.from_config(config),
        strict=bool(config["strict_data"]),
    )


def read_item_column(config: Config, column: str) -> dict[str, list[str]]:
    """What one column says of each item, by token; several values where it is a list."""
    return read_column(
        Path(config["data_path"]),
        config["dataset"],
        "item",
        config["ITEM_ID_FIELD"],
        column,
        layout=AtomicFormat.from_config(config),
        strict=bool(config["strict_data"]),
    )


def read_interaction_tokens(config: Config, kind: str) -> list[str]:
    """The items or users that the interaction file names."""
    field = config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"]
    return list(_interactions(config, [field])[field].unique())


def read_histories(config: Config, users: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    """The events of each user in chronological order, as the interaction file has them.

    Args:
        config: of the data set.
        users: ids of users. One without events has an empty history.

    Returns:
        For each user the item ids and the times in double precision; times are NaN where the file has none.
    """
    fields = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    if config["eval_args"]["order"] == "TO":
        fields.append(config["TIME_FIELD"])
    events = _interactions(config, fields)
    events = events[events[fields[0]].isin(users)]
    times = events[fields[2]].astype(float) if len(fields) > 2 else pd.Series(np.nan, events.index)
    times = times.sort_values(kind="stable")
    events = events.loc[times.index]
    histories = {user: rows.index for user, rows in events.groupby(fields[0], sort=False)}
    no_events = times.index[:0]
    return [
        (list(events[fields[1]][index]), list(times[index]))
        for index in (histories.get(user, no_events) for user in users)
    ]


def _interactions(config: Config, fields: list[str]) -> pd.DataFrame:
    """Columns of the interaction file, word for word."""
    path = Path(config["data_path"]) / f"{config['dataset']}.inter"
    kinds = {field: "float" if field == config["TIME_FIELD"] else "token" for field in fields}
    ids = [field for field, kind in kinds.items() if kind == "token"]
    return read_atomic_file(path, AtomicFormat.from_config(config), kinds, ids=ids, strict=bool(config["strict_data"]))


def feature_cache(config: Config, settings: ContentSettings) -> Path:
    """The folder of one data set's encoded features."""
    return Path(settings.feature_cache or Path(config["checkpoint_dir"]) / "features") / config["dataset"]


def check_interaction_file(config: Config) -> None:
    """Make sure that the interaction file has the columns that every model of a comparison needs.

    Raises:
        DataError: the file is not there, its header is not RecBole's, or the user, item or time column is missing.
    """
    name = config["dataset"]
    kinds = {config["USER_ID_FIELD"]: "token", config["ITEM_ID_FIELD"]: "token"}
    if config["eval_args"]["order"] == "TO":
        kinds[config["TIME_FIELD"]] = "float"
    parts = config["benchmark_filename"]
    files = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
    for path in (Path(config["data_path"]) / file for file in files):
        if not path.is_file():
            raise DataError(f"data set {name!r}: {path} does not exist")
        header = read_header(path, AtomicFormat.from_config(config))
        for column, kind in kinds.items():
            if column not in header:
                raise DataError(
                    f"{path} has no column {column!r}; it has {format_columns(header)}. Add it, or name the column that "
                    "holds users, items or times by USER_ID_FIELD, ITEM_ID_FIELD or TIME_FIELD"
                )
            if header[column] != kind:
                raise DataError(f"{path}: {column!r} is of type {header[column]} in the first line, not {kind}")
