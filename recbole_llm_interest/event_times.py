"""What the time of an event says, as small whole numbers that a model can look up."""

from __future__ import annotations

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
        bucket = 2 + np.log2(np.maximum(gap, 0.5)).astype(int) + (gap >= 1)
        feature = np.empty(len(times), dtype=np.int64)
        feature[order] = np.where(is_first, 1, bucket.clip(2, TIME_FEATURES["gap"] - 1))
        return feature
    if times.min() < _FIRST_SECOND:
        raise DataError(
            f"time_features with {name!r} needs times in seconds or milliseconds since 1970, and the data set has "
            f"{times.min():g}: leave {name!r} out"
        )
    seconds = (times / 1000 if times.min() >= _FIRST_MILLISECOND else times).astype(np.int64)
    if name == "hour":
        return 1 + seconds // 3600 % 24
    return 1 + (seconds // 86_400 + 3) % 7  # 1970 began on a Thursday
