"""A sequential data set that knows of its events what was read, written, seen or heard at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.dataset_files import catalogue_from_config
from recbole_llm_interest.content.event_catalogue import EventKey
from recbole_llm_interest.content.event_fields import EVENT_KINDS, EventKind
from recbole_llm_interest.data.event_histories import own_events
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.data.shown_items import shown_rows
from recbole_llm_interest.data.side_information import SideInformation
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import ContentSettings, ModelSettings, read_settings


class EventDataset(HistoryDataset):
    """A sequential data set whose histories have what is known of their events beside the items.

    Attributes:
        side_information: that, by kind; without kinds of which nothing is known.
        event_shown: the items that were shown beside each event's own, ``[E, S]``; None without ``shown_field``.

    Raises:
        DataError: the interactions or the content of events cannot be read.
        SettingsError: a text template is invalid, or ``save_dataset`` or ``dataset_save_path`` is set.
    """

    event_shown: Tensor | None = None

    def __init__(self, config: Config) -> None:
        time_features = read_settings(ModelSettings, config).time_features
        self.side_information: dict[EventKind, SideInformation] = {}
        super().__init__(config, {f"time_{name}": name for name in time_features})

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        settings = read_settings(ContentSettings, self.config)
        found = {kind: SideInformation(kind, self.config, settings) for kind in EVENT_KINDS}
        self.side_information = {kind: information for kind, information in found.items() if not information.is_empty}
        if not self.side_information:
            return
        keys = self._event_keys()
        ends = np.cumsum([len(keys)] if self._tables is None else [len(table.items) for table in self._tables])
        tables = [keys[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        self.event_shown = self._find_shown(keys)
        for information in self.side_information.values():
            information.align(tables)
            self.event_features |= information.features
        if "context" in self.side_information:
            titles = catalogue_from_config(self.config, "item", settings).labels
            self.side_information["context"].report_titles(keys, titles)

    def _event_keys(self) -> list[EventKey]:
        if self.event_times is None:
            raise DataError(f"content of events needs their times: {self.dataset_name!r} has none")
        users = self.field2id_token[self.uid_field][self.event_users]
        items = self.field2id_token[self.iid_field][self.event_items]
        return [*map(EventKey, map(str, users), map(str, items), self.event_times.tolist())]

    def _find_shown(self, keys: Sequence[EventKey]) -> Tensor | None:
        shown = self.side_information["event"].catalogue.shown if "event" in self.side_information else {}
        row_of = {str(token): row for row, token in enumerate(self.field2id_token[self.iid_field]) if row}
        return shown_rows(keys, shown, row_of, self.config["seed"]) if shown else None

    def first_targets(self) -> tuple[Tensor, Tensor]:
        """Return the user of each first event in training that has a context, and its index, ``[T]`` each.

        Without a context, nothing but the user's profile could tell the first item: RecBole's sequential models do not
        learn it.
        """
        events = self.first_training_events()
        context = self.side_information.get("context")
        known = [values[events] > 0 for values in context.features.values()] if context is not None else []
        events = events[torch.stack(known).any(dim=0)] if known else events[:0]
        return torch.as_tensor(self.event_users)[events], events

    @property
    def learned_shown(self) -> Tensor | None:
        """``event_shown``, ``[E, S]``, if the model learns from it; without ``ssl_shown_weight``, metrics alone do."""
        return self.event_shown if read_settings(ModelSettings, self.config).ssl_shown_weight else None

    def shown(self, start: Tensor, end: Tensor) -> Tensor:
        """Return what was shown beside the events of ranges of the event table, ``[B, L, S]``, padded with 0.

        Args:
            start: the first event of each range, ``[B]``.
            end: the event after the last one, ``[B]``.

        Raises:
            ValueError: the data set has no shown items.
        """
        if self.event_shown is None:
            raise ValueError("the data set has no shown items")
        offset = torch.arange(int((end - start).max()))
        is_event = offset < (end - start)[:, None]
        events = (start[:, None] + offset).where(is_event, 0)
        return self.event_shown[events].where(is_event[..., None], 0)

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """Return rows as ``HistoryDataset`` does, with the context of each row's own event, ``[B]``."""
        rows = super().__getitem__(index, join)
        if "context" in self.side_information:
            own = own_events(rows)
            rows.update(
                Interaction({field: values[own] for field, values in self.side_information["context"].features.items()})
            )
        return rows
