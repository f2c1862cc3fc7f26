"""Reads what callers write of users to start from: profiles, histories, contents of events; of one user or a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import pandas as pd

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.inputs import Id, TimeUnit, is_list, read_id, read_ids, read_times

#: items of one user's events, or a list of such for a batch, or ``recorded`` or ``training``
Histories: TypeAlias = Iterable[Id] | Iterable[Iterable[Id]] | None
#: content of one user's events, or a list of such for a batch
Contents: TypeAlias = Iterable[Mapping[str, Any] | None] | Iterable[Iterable[Mapping[str, Any] | None] | None] | None
#: recorded events of a user: all in the data set's files, or those that training saw
Split: TypeAlias = Literal["recorded", "training"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class UserInput:
    """What is given of one user to start from.

    Attributes:
        user: id in the data set; None for a new user.
        profile: content of a new user; None where there is none.
        history: ids of items; None for the events that the data set records.
        times: one for each item; None where none is known.
        contents: what is given of each event beside item and time; None where nothing is.
        split: which of the recorded events: all, or those of training.

    Example:
        >>> from recbole_llm_interest.recommender.user_inputs import UserInput, read_users
        >>> read_users("u1", None, ["i1"], None, "s")
        ([UserInput(user='u1', profile=None, history=['i1'], times=None, contents=None, split='recorded')], True)
    """

    user: str | None
    profile: Mapping[str, Any] | None
    history: list[str] | None
    times: list[float | None] | None
    contents: list[Mapping[str, Any] | None] | None = None
    split: Split = "recorded"


def read_users(
    user: Any, profile: Any, history: Any, at: Any, unit: TimeUnit, contents: Any = None
) -> tuple[list[UserInput], bool]:
    """The users that ``Recommender.start`` is given, and whether it is a single one.

    They are a batch if ``user`` or ``profile`` is a list, or ``history`` is a list of lists.

    Raises:
        RequestError: an argument is of the wrong form, or a batch has arguments of different lengths.
    """
    history = _list_history(history)
    if not _is_batch(user, profile, history):
        return [_read_user(user, profile, history, at, contents, unit)], True
    columns = zip(*_columns(user, profile, history, at, contents), strict=True)
    return [
        _read_user(user, profile, history, at, contents, unit) for user, profile, history, at, contents in columns
    ], False


def _list_history(history: Any) -> Any:
    """A history that can be read more than once, and is of the right form at first sight."""
    if history is None or _is_recorded(history):
        return history
    if isinstance(history, str | pd.DataFrame):
        return read_ids(history, "history")  # raises
    return list(history) if is_list(history) else history


def _is_recorded(history: Any) -> bool:
    return isinstance(history, str) and history in SPLITS


def _is_batch(user: Any, profile: Any, history: Any) -> bool:
    has_histories = isinstance(history, list) and len(history) > 0 and is_list(history[0])
    return is_list(user) or is_list(profile) or has_histories


def _columns(user: Any, profile: Any, history: Any, at: Any, contents: Any) -> list[list[Any]]:
    """Users, profiles, histories, times and contents of a batch: a list of each, with one element for each user."""
    is_recorded = _is_recorded(history)
    given = {
        **{"users": user, "profiles": profile, "histories": None if is_recorded else history},
        **{"lists of times": at, "lists of contents": contents},
    }
    columns = {name: _per_user(values, name) for name, values in given.items() if values is not None}
    count = _common_length(columns)
    if is_recorded:
        columns["histories"] = [history] * count
    return [columns.get(name, [None] * count) for name in given]


def _common_length(columns: Mapping[str, Sequence[Any]]) -> int:
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        counted = " and ".join(f"{count or 'no'} {name}" for name, count in counts.items())
        raise RequestError(f"start has {counted}: give one of each for each user")
    return max(counts.values())


def _per_user(values: Any, name: str) -> list[Any]:
    """One value for each user of a batch."""
    if not is_list(values):
        raise RequestError(f"the {name} of a batch are a list with one for each user, not {values!r}")
    return list(values)


def _read_user(user: Any, profile: Any, history: Any, at: Any, contents: Any, unit: TimeUnit) -> UserInput:
    name = None if user is None else read_id(user)
    _check_profile(name, profile)
    is_recorded = _is_recorded(history)
    if is_recorded and name is None:
        raise RequestError(f"history={history!r} needs a user of the data set: give the user's id")
    if is_recorded or (history is None and name is not None):
        _check_no_history(at=at, contents=contents)
        return UserInput(name, None, None, None, split=history if is_recorded else "recorded")
    items = [] if history is None else read_ids(history, "history")
    return UserInput(name, profile, items, read_times(at, items, unit), read_contents(contents, items))


def _check_no_history(**of_events: Any) -> None:
    for given, values in of_events.items():
        if values is not None:
            raise RequestError(f"{given} is given without a history: recorded events have their own")


def read_contents(contents: Any, items: Sequence[str]) -> list[Mapping[str, Any] | None] | None:
    """What is given of each event of one user beside item and time.

    Raises:
        RequestError: there is not one mapping, or None, for each item.
    """
    if contents is None:
        return None
    if not is_list(contents):
        raise RequestError(f"contents={contents!r} is no list: give one mapping, or None, for each event")
    listed = list(contents)
    if len(listed) != len(items):
        raise RequestError(f"{len(items)} events and {len(listed)} contents: give one for each event, or None")
    return [_read_content(content) for content in listed]


def _read_content(content: Any) -> Mapping[str, Any] | None:
    if content is not None and not isinstance(content, Mapping):
        raise RequestError(f"the content {content!r} of an event is no mapping: did you mean {{'text': …}}?")
    return content


def _check_profile(user: str | None, profile: Any) -> None:
    if profile is None:
        return
    if user is not None:
        raise RequestError(f"user {user!r} is given with a profile: give the user's id, or the profile of a new user")
    if not isinstance(profile, Mapping):
        raise RequestError(f"profile={profile!r} is not a mapping: did you mean profile={{'text': …}}?")
