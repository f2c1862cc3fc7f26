"""What the times of a data set's events are: a clock, and its resolution, or positions in each user's history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.event_times import time_unit

POSITIONS = "positions"
#: resolutions of a clock in seconds, the coarsest first
_RESOLUTIONS = {"days": 86_400, "minutes": 60}


def clock_of(times: NDArray[np.float64] | None, users: NDArray[np.int64]) -> str:
    """Return ``days``, ``minutes`` or ``seconds`` of a clock, ``positions``, or ``none``.

    Times are positions if those of every user are 0, 1, 2, … or 1, 2, 3, …: they order a user's events, and say nothing
    about those of different users. A clock that does not count from 1970 has ``seconds``, whatever its unit is.

    Args:
        times: of the events, ``[E]``, ordered by user and time; None if they are unknown.
        users: of the events, ``[E]``.

    Example:
        >>> import numpy as np
        >>> users = np.array([1, 1, 2])
        >>> clock_of(np.array([0.0, 1.0, 0.0]), users), clock_of(np.array([1.2e9, 1.2e9 + 60, 1.2e9]), users)
        ('positions', 'minutes')
    """
    if times is None or not len(times):
        return "none"
    position = np.arange(len(users)) - np.searchsorted(users, users)
    if np.isin(times - position, (0, 1)).all() and _is_constant_by_user(times - position, users):
        return POSITIONS
    unit = time_unit(float(times.min()))
    scale = 1000 if unit == "ms" else 1
    resolutions = _RESOLUTIONS.items() if unit is not None else ()
    return next((name for name, seconds in resolutions if not (times % (seconds * scale)).any()), "seconds")


def _is_constant_by_user(values: NDArray[np.float64], users: NDArray[np.int64]) -> bool:
    return bool(((values[1:] == values[:-1]) | (users[1:] != users[:-1])).all())
