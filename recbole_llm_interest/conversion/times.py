"""Recognises times: dates of ISO 8601 and other common formats, and epochs of any unit, as seconds since 1970."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.conversion.values import distinct, is_blank
from recbole_llm_interest.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: epochs by unit: how many are a second. The ranges, 1973 to 2128, do not overlap.
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_FIRST_SECOND, _LAST_SECOND = 1e8, 5e9
#: a zone at the end of a date of ISO 8601, which pandas reads as Z only
_ZONE_NAME = re.compile(r"\s*\b(?:UTC|GMT)$")
#: a number that is whole, as pandas writes one beside missing ones
_WHOLE = re.compile(r"(-?\d+)\.0+")
#: dates that are written as one number
_COMPACT = {"%Y%m%d": (19_000_101, 21_001_231), "%Y%m%d%H%M%S": (19_000_101_000_000, 21_001_231_235_959)}
_ISO = "ISO8601"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DATES = (
    *("%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%m.%d.%Y", "%d.%m.%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d"),
    *("%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y"),
)
#: formats beside ISO 8601: of dates with a clock, of Twitter's API, and of mail and web servers
_FORMATS = (
    *(date + clock for date, clock in product(_DATES, _CLOCKS)),
    *("%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %Z", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
)
_SAMPLE = 200
#: at least this share of the distinct values has to be of a format
_MOST = 0.5


@dataclass(frozen=True)
class Times:
    """The times of a column.

    Attributes:
        seconds: ``[R]``; NaN where a cell is empty or no time.
        meaning: what the cells were recognised as.
        is_calendar: whether they are seconds since 1970; otherwise they are numbers as in the table.
    """

    seconds: NDArray[np.float64]
    meaning: str
    is_calendar: bool = True

    @property
    def share(self) -> float:
        """The share of rows with a time."""
        return float(np.isfinite(self.seconds).mean()) if len(self.seconds) else 0.0

    @property
    def span(self) -> str:
        """The first and the last time."""
        ends = np.nanmin(self.seconds), np.nanmax(self.seconds)
        if not self.is_calendar:
            return " to ".join(f"{end:g}" for end in ends)
        return " to ".join(datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M:%S") for end in ends)


def parse_times(values: pd.Series, time_format: str | None = None) -> Times:
    """Return the times of a column.

    Args:
        values: dates and times of any type, text, or numbers. Times without a zone are read as UTC.
        time_format: how the text is written, as for ``strptime``; None to recognise it.

    Raises:
        DataError: a date such as 1/2/2014 may be of January or of February, or the format is invalid.

    Example:
        >>> import pandas as pd
        >>> parse_times(pd.Series(["2014-01-01", "2014-01-01T01:00:00+01:00", "soon"])).seconds.tolist()
        [1388534400.0, 1388534400.0, nan]
        >>> parse_times(pd.Series([1388534400000])).meaning
        'epochs in milliseconds'
    """
    if values.dtype.kind == "M":
        return Times(_seconds(values), f"dates and times, {_zone_words(values.dt.tz is not None)}")
    if time_format is None and (found := as_times_of_numbers(values)) is not None:
        return found
    codes, cells = distinct(values)
    texts = _texts(cells)
    chosen = time_format or _recognised(texts, str(values.name))
    if chosen is None:
        return Times(np.full(len(codes), np.nan), "no times")
    parsed = _parse(texts, chosen)
    seconds = np.append(_seconds(parsed), np.nan)[codes]
    return Times(seconds, _meaning(texts[parsed.notna()], chosen))


def as_times_of_numbers(values: pd.Series) -> Times | None:
    """Return the times of a column of numbers; None if most of its cells are no numbers."""
    import pandas as pd

    if values.dtype.kind in "iuf":
        found = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return _from_numbers(found)
    codes, cells = distinct(values)
    if not cells or any(isinstance(cell, bool) for cell in cells):
        return None
    found = pd.to_numeric(pd.Series(cells, dtype=object).astype(str), errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(found).sum() <= _MOST * sum(not is_blank(cell) for cell in cells):
        return None
    return _from_numbers(np.append(found, np.nan)[codes])


def _from_numbers(found: NDArray[np.float64]) -> Times | None:
    """Return times of numbers ``[R]``: dates written as one number, epochs by their magnitude, or the numbers."""
    finite = found[np.isfinite(found)]
    if not len(finite):
        return None
    return _from_compact(found) or _from_epochs(found)


def _from_epochs(found: NDArray[np.float64]) -> Times:
    """Return the times of epochs ``[R]``, each by its magnitude; the numbers themselves if most are none."""
    seconds = np.full(len(found), np.nan)
    counts = {}
    for unit, scale in _UNITS.items():
        is_of_unit = (found >= _FIRST_SECOND * scale) & (found < _LAST_SECOND * scale)
        seconds[is_of_unit] = found[is_of_unit] / scale
        counts[unit] = int(is_of_unit.sum())
    units = {unit: count for unit, count in counts.items() if count}
    if sum(counts.values()) <= _MOST * np.isfinite(found).sum():
        return Times(np.where(np.isfinite(found), found, np.nan), "numbers, kept as they are", is_calendar=False)
    if len(units) == 1:
        return Times(seconds, f"epochs in {next(iter(units))}")
    return Times(
        seconds, f"epochs in several units: {', '.join(f'{count:,} in {unit}' for unit, count in units.items())}"
    )


def _from_compact(found: NDArray[np.float64]) -> Times | None:
    """Return the times of dates that are written as one number, such as 20140131; None if most are not."""
    import pandas as pd

    for written, (first, last) in _COMPACT.items():
        is_date = (found >= first) & (found <= last)
        if is_date.sum() > _MOST * np.isfinite(found).sum():
            numbers = pd.Series(np.where(is_date, found, first).astype(np.int64)).astype(str)
            seconds = np.where(is_date, _seconds(_parse(numbers, written)), np.nan)
            if (times := Times(seconds, f"dates written as {written}, read as UTC")).share > _MOST:
                return times
    return None


def _texts(cells: list[Any]) -> pd.Series:
    import pandas as pd

    return pd.Series([None if is_blank(cell) else str(cell).strip() for cell in cells], dtype=object)


def _recognised(texts: pd.Series, name: str) -> str | None:
    """Return the format of most texts; None if they are of none.

    Raises:
        DataError: they are of two formats, of which one has the day before the month.
    """
    known = texts.dropna()
    sample = known.iloc[:: max(1, len(known) // _SAMPLE)]
    least = max(1, _MOST * len(sample))
    if _count(sample, _ISO) >= least:
        return _ISO
    counts = {written: _count(known, written) for written in _FORMATS if _count(sample, written) >= least}
    if not counts:
        return None
    first, *others = sorted(counts, key=counts.__getitem__, reverse=True)
    if others and counts[others[0]] == counts[first]:
        choices = " or ".join(f"time_format={written!r}" for written in (first, others[0]))
        raise DataError(f"column {name!r}: {known.iloc[0]!r} may have the month or the day first: give {choices}")
    return first


def _count(texts: pd.Series, written: str) -> int:
    return int(_parse(texts, written).notna().sum())


def _parse(texts: pd.Series, written: str) -> pd.Series:
    """Return texts as dates with a zone, NaT where one is of another format.

    Raises:
        DataError: the format is invalid.
    """
    import pandas as pd

    if written == _ISO:
        texts = texts.map(lambda text: _ZONE_NAME.sub("Z", text), na_action="ignore")
    elif "." not in written:
        texts = texts.map(lambda text: whole[1] if (whole := _WHOLE.fullmatch(text)) else text, na_action="ignore")
    try:
        return pd.to_datetime(texts, format=written, utc=True, errors="coerce")
    except ValueError as error:
        raise DataError(f"time_format={written!r} is invalid: {error}") from error


def _seconds(dates: pd.Series) -> NDArray[np.float64]:
    """Return dates as seconds since 1970, in UTC: ``[R]``."""
    naive = dates.dt.tz_convert("UTC").dt.tz_localize(None) if dates.dt.tz is not None else dates
    microseconds = naive.to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(microseconds), np.nan, microseconds.astype(np.int64) / 1e6)


def _meaning(texts: pd.Series, written: str) -> str:
    if written != _ISO:
        return f"dates written as {written}{'' if '%z' in written.lower() else ', read as UTC'}"
    is_zoned = texts.str.contains(r":\d\d(?:\.\d+)?\s*(?:Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)$")
    if not texts.str.contains(":").any():
        return "ISO dates without a time of day"
    if is_zoned.any() and not is_zoned.all():
        return "ISO dates and times; those without a zone are read as UTC"
    return f"ISO dates and times, {_zone_words(bool(is_zoned.any()))}"


def _zone_words(has_zone: bool) -> str:
    return "with a zone" if has_zone else "without a zone: read as UTC"
