"""Finds timestamps that are probably wrong. They may be in any unit."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: from here on, a number is taken for seconds since 1970; multiplied by 1000, for milliseconds, and so on
_FIRST_SECOND = 1e8
_DAY = 86_400
#: units of a second: seconds, milliseconds, microseconds, nanoseconds
_SCALES = (1.0, 1e3, 1e6, 1e9)


def timestamp_warnings(timestamps: NDArray[np.float64]) -> Iterator[str]:
    """Describe timestamps that are negative, in the future, missing or in several units.

    Args:
        timestamps: of all rows that are kept, ``[R]``.

    Yields:
        One warning for each kind, for the report of the file's rows.
    """
    if negative := int((timestamps < 0).sum()):
        yield f"{negative} with a negative timestamp"
    future, by_unit = 0, []
    for scale in _SCALES:
        first, now = _FIRST_SECOND * scale, (time.time() + _DAY) * scale
        is_in_unit = (timestamps >= first) & ((timestamps < 1000 * first) | (scale == _SCALES[-1]))
        by_unit.append(int(is_in_unit.sum()))
        future += int((is_in_unit & (timestamps > now)).sum())
    undated = int(((timestamps >= 0) & (timestamps < _FIRST_SECOND)).sum())
    if 0 < undated < sum(by_unit):
        yield f"{undated} with a timestamp that is missing or in another unit than most"
    counts = [count for count in by_unit if count]
    if len(counts) > 1:
        rows = ", ".join(map(str, counts))
        yield f"timestamps in several units, in {rows} rows, which puts events in the wrong order"
    if future:
        yield f"{future} with a timestamp in the future"
