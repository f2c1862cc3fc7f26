"""Splits with the same tested events for every RecBole model."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from recbole.data.dataset import Dataset, SequentialDataset

from recbole_llm_interest.data.evaluation_loader import is_evaluated_by_event
from recbole_llm_interest.data.event_histories import has_histories
from recbole_llm_interest.data.time_split import split_by_time


def split_all_models_alike() -> None:
    """Patch RecBole's splits so that general models are tested on the events that sequential models are tested on.

    RecBole's sequential models learn from the first two events of a user at least, and its general models from one: a
    user of two events is tested for general models only. With ``time_split``, all of them are split by time. Called
    once, at registration.
    """
    build, leave_one_out = Dataset.build, Dataset._split_index_by_leave_one_out

    def build_parts(self: Any) -> Any:
        if self.config["time_split"] is None:
            return build(self)
        self._change_feat_format()
        return split_by_time(self)

    def _split_index_by_leave_one_out(self: Any, grouped_index: Iterable[list[int]], leave_one_num: int) -> Any:
        if isinstance(self, SequentialDataset) or not (is_evaluated_by_event(self.config) and has_histories(self)):
            return leave_one_out(self, grouped_index, leave_one_num)
        groups = [list(group) for group in grouped_index]
        _, *held_out = leave_one_out(self, [group[1:] for group in groups if len(group) > 1], leave_one_num)
        return [_others(groups, held_out), *held_out]

    Dataset.build, Dataset._split_index_by_leave_one_out = build_parts, _split_index_by_leave_one_out


def _others(groups: Iterable[list[int]], held_out: Iterable[list[int]]) -> list[int]:
    """Return the rows of all groups that are not held out, in their order."""
    excluded = set(chain.from_iterable(held_out))
    return [row for row in chain.from_iterable(groups) if row not in excluded]
