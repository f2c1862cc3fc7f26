"""What the time of an event says, as small whole numbers that a model can look up."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError

#: feature -> how many values it has; 0 is always "not known"
TIME_FEATURES = {"gap": 50, "hour": 25, "weekday": 8}
#: what no clock of a data set with users shows: times below are not seconds since 1970, and above, milliseconds
_FIRST_SECOND, _FIRST_MILLISECOND = 1e8, 1e11


def time_feature(name: str, times: NDArray[np.float64], users: NDArray[np.int64]) -> NDArray[np.int64]:
    """One feature of each event, ``[E]``.

    Args:
        name: ``gap``, the time since the user's event before, by powers of two (1 for a first event, 2 for less than
            one unit, 3 for one unit, 4 for two or three, and so on);
            ``hour`` of the day, 1 to 24, and ``weekday``, 1 for Monday, both in UTC.
        times: in any unit for ``gap``; else in seconds or milliseconds since 1970.
        users: whose event each is.

    Raises:
        DataError: hours and weekdays are asked for, and the times are not of that kind.
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
    """The unit of times since 1970 of which this is the earliest: seconds, milliseconds, or None for another scale."""
    if earliest >= _FIRST_MILLISECOND:
        return "ms"
    return "s" if earliest >= _FIRST_SECOND else None


def time_feature_of(name: str, times: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.int64]:
    """The same feature of single events, as they come in, of any shape; 0 for what is not known.

    Args:
        name: as above.
        times: in the data set's unit; NaN where a time is not known.
        before: of the same user's event before; NaN where it is not known, -inf before a first event.

    Raises:
        DataError: hours and weekdays are asked for, and a time is not of that kind.
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
            f"{times.min():g} is no time in seconds or milliseconds since 1970, which {name!r} is told from"
        )
    return np.where(known, _calendar(name, np.where(times >= _FIRST_MILLISECOND, times / 1000, times)), 0)


def _gap_bucket(gap: NDArray[np.float64]) -> NDArray[np.int64]:
    bucket = 2 + np.log2(np.maximum(gap, 0.5)).astype(int) + (gap >= 1)
    return bucket.clip(2, TIME_FEATURES["gap"] - 1)


def _calendar(name: str, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    whole = seconds.astype(np.int64)
    if name == "hour":
        return 1 + whole // 3600 % 24
    return 1 + (whole // 86_400 + 3) % 7  # 1970 began on a Thursday
