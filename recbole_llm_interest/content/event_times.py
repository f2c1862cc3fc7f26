"""Features of event times as small integers, which index embeddings."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError

#: number of values of each feature; the value 0 is an unknown time
TIME_FEATURES = {"gap": 50, "hour": 25, "weekday": 8}
#: the range of seconds since 1970 in data sets: lower values are another scale, higher ones are milliseconds
_FIRST_SECOND, _FIRST_MILLISECOND = 1e8, 1e11


def time_feature(name: str, times: NDArray[np.float64], users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one feature of all events of a data set.

    Args:
        name: ``gap``, the time since the user's previous event, in powers of two (1 for a first event, 2 for less than
            one unit, 3 for one unit, 4 for two or three, and so on); ``hour`` of the day, 1 to 24, or ``weekday``, 1
            for Monday, both in UTC.
        times: ``[E]``, in any unit for ``gap``, else in seconds or milliseconds since 1970.
        users: ``[E]``, the users' row numbers.

    Returns:
        The feature, ``[E]``, from 1 to ``TIME_FEATURES[name] - 1``.

    Raises:
        DataError: the feature needs times since 1970, and these are not.

    Example:
        >>> import numpy as np
        >>> times = np.array([0.0, 86_400.0, 90_000.0]) + 1e9  # a Sunday, 01:46:40
        >>> time_feature("hour", times, np.zeros(3, dtype=int)).tolist()
        [2, 2, 3]
        >>> time_feature("gap", times, np.zeros(3, dtype=int)).tolist()
        [1, 19, 14]
    """
    if name == "gap":
        order = np.lexsort((times, users))
        gap = np.diff(times[order], prepend=0.0)
        is_first = np.diff(users[order], prepend=-1) != 0
        feature = np.empty(len(times), dtype=np.int64)
        feature[order] = np.where(is_first, 1, _gap_bucket(gap))
        return feature
    if times.min() < _FIRST_SECOND:
        raise DataError(
            f"time_features with {name!r} needs times in seconds or milliseconds since 1970, and the data set has "
            f"{times.min():g}: leave {name!r} out"
        )
    return _calendar(name, times / 1000 if times.min() >= _FIRST_MILLISECOND else times)


def time_unit(earliest: float) -> Literal["s", "ms"] | None:
    """Return the unit of times since 1970, by the earliest one: seconds, milliseconds, or None for another scale."""
    if earliest >= _FIRST_MILLISECOND:
        return "ms"
    return "s" if earliest >= _FIRST_SECOND else None


def time_feature_of(name: str, times: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return one feature of single events, for live use; equal to ``time_feature``.

    Args:
        name: as for ``time_feature``.
        times: of any shape, in the data set's unit; NaN for an unknown time.
        before: the time of the same user's previous event, of the same shape; NaN for an unknown time, -inf before a
            first event.

    Returns:
        The feature, of the same shape; 0 where it is unknown.

    Raises:
        DataError: the feature needs times since 1970, and one is not.
    """
    known = np.isfinite(times)
    times = np.where(known, times, _FIRST_SECOND)
    if name == "gap":
        is_first = np.isneginf(before)
        known = is_first | (known & np.isfinite(before))
        gap = np.where(known & ~is_first, times - np.where(np.isfinite(before), before, times), 0.0)
        return np.where(known, np.where(is_first, 1, _gap_bucket(gap)), 0)
    if (times < _FIRST_SECOND).any():
        raise DataError(
            f"{times.min():g} is no time in seconds or milliseconds since 1970, which the feature {name!r} needs"
        )
    return np.where(known, _calendar(name, np.where(times >= _FIRST_MILLISECOND, times / 1000, times)), 0)


def _gap_bucket(gap: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the power of two of a gap that follows another event."""
    bucket = 2 + np.log2(np.maximum(gap, 0.5)).astype(int) + (gap >= 1)
    return bucket.clip(2, TIME_FEATURES["gap"] - 1)


def _calendar(name: str, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the hour or weekday of seconds since 1970, in UTC."""
    whole = seconds.astype(np.int64)
    if name == "hour":
        return 1 + whole // 3600 % 24
    return 1 + (whole // 86_400 + 3) % 7  # 1 January 1970 was a Thursday
