"""Reads what callers write: ids, times, and values for each user of a state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from recbole_llm_interest.content.text_template import without_point
from recbole_llm_interest.errors import RequestError, StateError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS
from recbole_llm_interest.recommender.user_state import UserState

#: an id as callers may write it; data sets hold it as text
Id: TypeAlias = str | int | float
#: a list, array, Series or column of ids; None for a new user among users
Ids: TypeAlias = Iterable[Id | None]
#: the time of an event: a number in the data set's unit, or a date; None where it is unknown
Time: TypeAlias = float | str | date | np.datetime64 | None
#: times of one user's events, or a list of such for a batch; a single time in an update
Times: TypeAlias = Time | Iterable[Time] | Iterable[Iterable[Time] | None]
#: content of one new user, or a list of such for a batch
Profiles: TypeAlias = Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None
#: unit of a data set's times since 1970; None where they are on another scale, or it is unknown
TimeUnit: TypeAlias = Literal["s", "ms"] | None


def is_list(value: object) -> bool:
    """Whether a value lists several: a list, tuple, array, Series, Index, and so on, but no text and no mapping."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def read_id(value: Id) -> str:
    """An id as text: of a whole float without the point, since pandas makes floats of integers with missing values.

    Example:
        >>> from recbole_llm_interest.recommender.inputs import read_id
        >>> read_id(17862.0), read_id("17862.0")
        ('17862', '17862.0')
    """
    return str(without_point(value))


def read_new_id(value: Id, name: str) -> str:
    """An id as text, of a user or an item that may be new.

    Args:
        value: the id.
        name: of the column or argument, for messages.

    Raises:
        RequestError: a data set's files cannot hold it.

    Example:
        >>> from recbole_llm_interest.recommender.inputs import read_new_id
        >>> read_new_id(5, "user")
        '5'
    """
    token = read_id(value)
    if not token or len(token) > MAX_TOKEN_CHARACTERS or token != " ".join(token.split()) or not _is_text(token):
        raise RequestError(f"{name!r} is {token[:40]!r}, which is no id: up to {MAX_TOKEN_CHARACTERS} characters")
    return token


def _is_text(token: str) -> bool:
    """Whether a text has no half of a surrogate pair, and no NUL."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in token


def read_ids(values: Any, name: str) -> list[str]:
    """A list of ids as text.

    Args:
        values: the ids.
        name: of the argument, for messages.

    Raises:
        RequestError: it is a single id, or a whole DataFrame.
    """
    if not is_list(values):
        raise RequestError(
            f"{name}={values!r} is one value, and {name} takes a list: did you mean {name}=[{values!r}]?"
        )
    if isinstance(values, pd.DataFrame):
        raise RequestError(f"{name} is a DataFrame: give one of its columns, as {name}=frame[{values.columns[0]!r}]")
    return list(map(read_id, values))


def read_times(times: Iterable[Time] | None, items: Sequence[str], unit: TimeUnit) -> list[float | None] | None:
    """Times of events in the data set's unit.

    Args:
        times: of the events, as callers write them; None where none is known.
        items: of the events.
        unit: of the data set's times.

    Raises:
        RequestError: there is not one for each item, or a time cannot be read.
    """
    if times is None:
        return None
    if not is_list(times):
        raise RequestError(f"at={times!r} is one time, and at takes a list: did you mean at=[{times!r}]?")
    listed = list(times)
    if len(listed) != len(items):
        raise RequestError(f"{len(items)} events and {len(listed)} times: give one for each event")
    return [read_time(time, item, unit) for time, item in zip(listed, items, strict=True)]


def read_time(time: Time, item: str, unit: TimeUnit) -> float | None:
    """The time of one event in the data set's unit; None where it is unknown.

    Args:
        time: a number in that unit, or a date: ``datetime``, ``pd.Timestamp`` or ISO 8601 text; UTC if it has no zone.
        item: of the event, for messages.
        unit: of the data set's times.

    Raises:
        RequestError: it is not a finite number, or a date where the unit is not known.
    """
    if time is None:
        return None
    if isinstance(time, str | date | np.datetime64):
        time = _since_1970(time, item, unit)
    if not math.isfinite(time):
        raise RequestError(f"the time of {item!r} is {time}: give a number, or None where it is unknown")
    return float(time)


def _since_1970(time: str | date | np.datetime64, item: str, unit: TimeUnit) -> float:
    if unit is None:
        raise RequestError(
            f"the time of {item!r} is the date {time}, and the data set's times are not known to be seconds or "
            "milliseconds since 1970: give a number in its unit"
        )
    try:
        seconds = pd.Timestamp(time).timestamp()
    except ValueError as error:
        raise RequestError(
            f"the time of {item!r} is {time!r}: give a number, an ISO 8601 date, or None where it is unknown"
        ) from error
    return float(seconds * 1000 if unit == "ms" else seconds)


def check_state(state: UserState, version: str, method: str) -> None:
    """Refuse what is not a state of this model.

    Args:
        state: the argument of a method.
        version: hash of the model.
        method: its name, for messages.

    Raises:
        RequestError: it is not a state.
        StateError: it is a state of another model.
    """
    if not isinstance(state, UserState):
        hint = f"start({state!r:.80}) gives one" if isinstance(state, str | int) else "start and join give one"
        raise RequestError(f"{method} takes a state, not {state!r:.80}: {hint}")
    if state.model != version:
        raise StateError(
            f"the state is of another model ({state.model[:12]}, not {version[:12]}): start again from the history"
        )


def check_single(state: UserState, version: str, method: str) -> None:
    """Refuse what is not the state of one user of this model; a batch of one is such a state.

    Args:
        state: the argument of a method.
        version: hash of the model.
        method: its name, for messages.

    Raises:
        RequestError: it is not a state, or of several users.
        StateError: it is a state of another model.
    """
    check_state(state, version, method)
    if len(state) != 1:
        raise RequestError(f"{method}: the state is of {len(state)} users: give one of them, such as state[0]")


def read_items(state: UserState, items: Any) -> list[str]:
    """Ids of one item for each user of a state.

    Raises:
        RequestError: as ``read_per_user``.
    """
    return list(map(read_id, read_per_user(state, items, "item")))


def read_events(state: UserState, items: Any, at: Any, unit: TimeUnit) -> tuple[list[str], list[float | None]]:
    """Item and time of one event for each user of a state.

    Raises:
        RequestError: there is not one item for each user, and one time or none; or a time cannot be read.
    """
    ids = read_items(state, items)
    times = [None] * len(ids) if at is None else read_per_user(state, at, "time")
    return ids, [read_time(time, item, unit) for time, item in zip(times, ids, strict=True)]


def read_columns(state: UserState, columns: Mapping[str, Any]) -> list[Mapping[str, Any] | None]:
    """The values of columns by user of a state; None for a user without any. The value of a single user may be a list.

    Raises:
        RequestError: as ``read_per_user``, for a batch.
    """
    by_column = {
        name: [values] if state.is_single else read_per_user(state, values, name) for name, values in columns.items()
    }
    rows = ({name: values[user] for name, values in by_column.items()} for user in range(len(state)))
    return [{name: value for name, value in row.items() if value is not None} or None for row in rows]


def read_per_user(state: UserState, values: Any, name: str) -> list[Any]:
    """One value for each user of a state: a single value for a single user, a list for a batch.

    Args:
        state: of the users.
        values: as callers give them.
        name: of the argument, for messages.

    Raises:
        RequestError: it is a list for a single user, or not a list of the right length for a batch.
    """
    if state.is_single:
        if is_list(values):
            raise RequestError(f"the state is of a single user: {name} takes one value, not the list {values!r}")
        return [values]
    if not is_list(values):
        raise RequestError(f"the state is of {len(state)} users: {name} takes a list, one for each, not {values!r}")
    listed = list(values)
    if len(listed) != len(state):
        raise RequestError(f"{len(state)} users need one {name} each: there are {len(listed)}")
    return listed
