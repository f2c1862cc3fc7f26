"""Facts on a split and its tested events, for the lines below a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.data.clock import POSITIONS, clock_of
from recbole_llm_interest.data.evaluation_loader import is_evaluated_by_event
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.data.event_histories import has_histories, own_events, repeats_seen_item
from recbole_llm_interest.data.time_split import describe_moment
from recbole_llm_interest.settings import EvaluationSettings, read_settings

Facts = dict[str, str | int | float | None]


@dataclass(frozen=True)
class SplitEvents:
    """The events of a data set, which of them are for training, and which are tested.

    Attributes:
        users: of the events, ``[E]``, in order.
        items: likewise.
        times: likewise.
        is_training: whether a model may learn from an event, ``[E]``.
        tested: indices of the tested events, ``[T]``.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.float64]
    is_training: NDArray[np.bool_]
    tested: NDArray[np.int64]

    def tied(self) -> int:
        """Return how many tested events have the time of the event before or after them of the same user."""
        is_tied = (self.times[1:] == self.times[:-1]) & (self.users[1:] == self.users[:-1])
        with_previous, with_next = np.append(False, is_tied), np.append(is_tied, False)
        return int((with_previous | with_next)[self.tested].sum())

    def later_training(self) -> float | None:
        """Return the share of training events that lie after a tested event, as a mean; None without a clock."""
        training = np.sort(self.times[self.is_training])
        if not len(training) or not len(self.tested) or clock_of(self.times, self.users) == POSITIONS:
            return None
        not_later = np.searchsorted(training, self.times[self.tested], side="right")
        return float(1 - not_later.mean() / len(training))


def protocol_facts(dataset: Any, train: Any, valid: Any, test: Any) -> Facts:
    """Return ``RunResult.protocol``, without what is unknown of a split.

    Args:
        dataset: any RecBole data set, after it was split.
        train: its training part.
        valid: its validation part.
        test: its test part.

    Returns:
        Facts by name; none for splits whose tested events differ between models, which are RecBole's own.
    """
    if not (is_evaluated_by_event(dataset.config) and has_histories(test)):
        return {}
    facts: Facts = {"repeated_events": int(repeats_seen_item(test).sum())}
    if dataset.benchmark_filename_list is not None:
        items, users = (counts.numpy() for counts in count_training_events(train))
        return facts | _warm_and_cold(test, users, items)
    events = _split_events(dataset, valid, test)
    counts = [
        np.bincount(ids[events.is_training], minlength=number)
        for ids, number in ((events.users, dataset.user_num), (events.items, dataset.item_num))
    ]
    return {
        **_split(dataset),
        **facts,
        "tied_events": events.tied(),
        "later_training_events": events.later_training(),
        **_warm_and_cold(test, *counts),
    }


def _split(dataset: Any) -> Facts:
    settings = read_settings(EvaluationSettings, dataset.config)
    if settings.time_split is None:
        return {"split": "leave-one-out"}
    begins = (describe_moment(moment, dataset.event_times) for moment in (dataset.periods.valid, dataset.periods.test))
    return {
        "split": "time",
        "test_targets": settings.test_targets,
        **dict(zip(("valid_begins", "test_begins"), begins, strict=True)),
    }


def _split_events(dataset: Any, valid: Any, test: Any) -> SplitEvents:
    users, items, times = (getattr(dataset, f"event_{name}").numpy() for name in ("users", "items", "times"))
    tested = own_events(test.inter_feat).numpy()
    if hasattr(dataset, "periods"):
        is_training = times < dataset.periods.valid
    else:
        is_training = np.ones(len(times), dtype=bool)
        is_training[tested] = is_training[own_events(valid.inter_feat).numpy()] = False
    return SplitEvents(users, items, times, is_training, tested)


def _warm_and_cold(test: Any, users: NDArray[np.int64], items: NDArray[np.int64]) -> Facts:
    """Count the users and items of the tested events with and without training events.

    Args:
        test: the test part.
        users: number of training events of each user, ``[U]``.
        items: number of training events of each item, ``[N]``.
    """
    facts: Facts = {}
    for name, field, counts in (("users", test.uid_field, users), ("items", test.iid_field, items)):
        is_warm = counts[np.unique(test.inter_feat[field].numpy())] > 0
        facts |= {f"warm_{name}": int(is_warm.sum()), f"cold_{name}": int((~is_warm).sum())}
    return facts
