"""The split by time: training before one moment, validation before another, tests after it.

No model learns from an event that lies after one that it is tested on (arXiv 2604.05309). Histories of tested events
hold all that came before. ``test_targets`` says which of a user's events in a period are predicted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_times import time_unit
from recbole_llm_interest.data.clock import POSITIONS, clock_of
from recbole_llm_interest.data.event_histories import HISTORY_END, HISTORY_START, OWN_EVENT, first_events
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.settings import EvaluationSettings, read_settings

_logger = logging.getLogger(__name__)
_PARTS = ("validation", "test")


@dataclass(frozen=True)
class Periods:
    """When validation and test begin.

    Attributes:
        valid: time of the first events that are no training events, in the data set's unit.
        test: time of the first events of the test period.
    """

    valid: float
    test: float

    def part_of(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return 0 for events of training, 1 of validation, 2 of the test period, ``[E]``."""
        return np.searchsorted([self.valid, self.test], times, side="right")


def check_time_split(config: Config) -> None:
    """Check that the settings of a split by time are possible, without reading data.

    Raises:
        SettingsError: they contradict each other or other settings.
    """
    settings = read_settings(EvaluationSettings, config)
    if settings.time_split is None:
        if settings.test_targets != "last":
            raise SettingsError(f"test_targets={settings.test_targets} needs time_split: set it, or leave both out")
        return
    first, second = settings.time_split
    if isinstance(first, type(second)) and first >= second:  # type: ignore[operator]
        raise SettingsError(f"time_split=[{first}, {second}]: validation has to begin before the test does")
    if config["benchmark_filename"] is not None:
        raise SettingsError("time_split: benchmark_filename names data that is split already: leave one of them out")
    if config["eval_args"]["order"] != "TO":
        raise SettingsError(f"time_split: events are in no order by eval_args order={config['eval_args']['order']}: TO")
    if not config["repeatable"]:
        raise SettingsError("time_split: repeatable=False would filter seen items by user: use seen_items=filtered")


def periods_of(dataset: Any) -> Periods:
    """Return the periods of a data set's events by its settings.

    A quantile is that of the times of all events, and the event at it belongs to the later part.

    Raises:
        SettingsError: a date is given and times are not in seconds or milliseconds since 1970, or validation does not
            begin before the test.
    """
    split = read_settings(EvaluationSettings, dataset.config).time_split or ()
    times = dataset.event_times.numpy()
    begins = [_moment(value, times) for value in split]
    if begins[0] >= begins[1]:
        raise SettingsError(f"time_split={list(split)}: by the times of the events, no time lies between the two")
    return Periods(*begins)


def _moment(value: float | str, times: NDArray[np.float64]) -> float:
    if isinstance(value, float):
        return float(np.quantile(times, value, method="higher"))
    unit = time_unit(times.min())
    if unit is None:
        raise SettingsError(
            f"time_split={value}: a date needs times in seconds or milliseconds since 1970, and the data set has "
            f"{times.min():g}: give quantiles"
        )
    moment = datetime.fromisoformat(value)
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds * 1000 if unit == "ms" else seconds


def split_by_time(dataset: Any) -> list[Any]:
    """Split any RecBole data set whose rows have histories.

    Args:
        dataset: it, as RecBole's ``build`` has it before it splits.

    Returns:
        Training data, with the rows of events before validation begins, and validation and test data, with the rows of
        the targets in their periods. Rows are ordered by user and time.

    Raises:
        DataError: events have no times, or a part has no rows.
        SettingsError: the settings do not fit the times.
    """
    if not hasattr(dataset, "event_times"):
        raise DataError(f"time_split: the events of {dataset.dataset_name!r} have no times: load the column of times")
    dataset.periods = periods = periods_of(dataset)
    if clock_of(dataset.event_times.numpy(), dataset.event_users.numpy()) == POSITIONS:
        _logger.warning("time_split: the times are positions in each user's history: a period is no period of time")
    dataset._drop_unused_col()
    rows = _select(dataset.inter_feat, dataset.inter_feat[HISTORY_END].argsort())
    parts = periods.part_of(dataset.event_times[rows[HISTORY_END]].numpy())
    held_out = [_targets(dataset, rows, parts, number) for number in (1, 2)]
    split = [_select(rows, torch.from_numpy(np.flatnonzero(parts == 0))), *held_out]
    for name, part in zip(("training", *_PARTS), split, strict=True):
        if not len(part[HISTORY_END]):
            raise DataError(
                f"time_split: no {name} event of {dataset.dataset_name!r} has an event of its user before it; "
                f"{', '.join(_shares(parts))}: move time_split"
            )
    return [dataset.copy(part) for part in split]


def _shares(parts: NDArray[np.int64]) -> list[str]:
    counts = np.bincount(parts, minlength=3)
    return [f"{count} events in {name}" for name, count in zip(("training", *_PARTS), counts, strict=True)]


def _targets(dataset: Any, rows: Interaction, parts: NDArray[np.int64], number: int) -> Interaction:
    """Return the rows that are predicted in a period: 1 is validation, 2 the test."""
    rule = read_settings(EvaluationSettings, dataset.config).test_targets
    end, start = rows[HISTORY_END].numpy(), rows[HISTORY_START].numpy()
    in_period = np.flatnonzero(parts == number)
    if rule == "all":
        return _before_period(dataset, rows, in_period, number)
    in_period = in_period[end[in_period] > start[in_period]]
    users = rows[dataset.uid_field].numpy()[in_period]
    draws = _draws(dataset, users, number) if rule == "random" else np.zeros(len(users))
    return _select(rows, torch.from_numpy(in_period[choose_targets(rule, users, draws)]))


def choose_targets(rule: str, users: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which of a period's events are predicted.

    Args:
        rule: ``first``, ``last``, ``random``, or ``successive`` for all.
        users: of the events, ``[T]``, ordered by user and time.
        draws: of each event's user, from 0 to 1, for ``random``, ``[T]``.

    Returns:
        Indices of the events.

    Example:
        >>> import numpy as np
        >>> users = np.array([4, 4, 4, 9])
        >>> {rule: choose_targets(rule, users, np.full(4, 0.5)).tolist() for rule in ("first", "random", "last")}
        {'first': [0, 3], 'random': [1, 3], 'last': [2, 3]}
    """
    if rule == "successive":
        return np.arange(len(users))
    _, first, count = np.unique(users, return_index=True, return_counts=True)
    return first + {"first": 0 * count, "last": count - 1, "random": (draws[first] * count).astype(np.int64)}[rule]


def _draws(dataset: Any, users: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Return a random number from 0 to 1 for each event's user, by ``seed`` and the users' tokens: models agree."""
    tokens = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=str)[users]
    _, user = np.unique(tokens, return_inverse=True)
    draws = np.random.default_rng([dataset.config["seed"], number]).random(user.max(initial=-1) + 1)
    return draws[user]


def _before_period(dataset: Any, rows: Interaction, in_period: NDArray[np.int64], number: int) -> Interaction:
    """Return all of a period's rows, each with the history that its user has when the period begins."""
    parts = dataset.periods.part_of(dataset.event_times.numpy())
    users = dataset.event_users.numpy()
    events_before = np.bincount(users[parts < number], minlength=dataset.user_num)
    own = rows[HISTORY_END].numpy()
    first = first_events(dataset.event_users).numpy()[own[in_period]]
    end = first + events_before[users[first]]  # the first event of the user in the period
    has_history = end > first
    in_period, end = in_period[has_history], end[has_history]
    row_of_event = np.zeros(len(users), dtype=np.int64)
    row_of_event[own] = np.arange(len(own))
    targets = _select(rows, torch.from_numpy(in_period))
    histories = _select(rows, torch.from_numpy(row_of_event[end]))
    suffix = dataset.config["LIST_SUFFIX"]
    kept = [field for field in histories if field.endswith(suffix)] + [HISTORY_START, HISTORY_END]
    if isinstance(dataset, SequentialDataset) and dataset.item_list_length_field in histories:
        kept.append(dataset.item_list_length_field)
    columns = {OWN_EVENT: targets[HISTORY_END], **{field: histories[field] for field in kept}}
    targets.update(Interaction(columns))
    return targets


def _select(rows: Interaction, index: Tensor) -> Interaction:
    """Return some rows. RecBole converts the index to a list, which is slow."""
    return Interaction({field: values[index] for field, values in rows.interaction.items()})


def describe_moment(moment: float, times: Tensor) -> str:
    """Return when a period begins, as text: a date if times are since 1970, else the number.

    Args:
        moment: in the unit of the times.
        times: of all events, ``[E]``.
    """
    unit = time_unit(float(times.min()))
    if unit is None:
        return f"{moment:g}"
    seconds = moment / 1000 if unit == "ms" else moment
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
