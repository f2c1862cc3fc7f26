"""The options of a conversion: their names, defaults and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.registry import known_names

#: what ``deduplicate`` removes: the same user, item and time; the same and also an item that a user repeats at once
DEDUPLICATIONS = ("exact", "consecutive")
#: whether quotes in CSV and TSV enclose cells, or are characters as any others
QUOTING = ("minimal", "none")
#: ids of joined data sets are of one of them each; mean the same in all; or get the data set's name in front of them
ID_MODES = ("unique", "shared", "prefixed")


class Options(TypedDict, total=False):
    """The options of ``from_pandas`` and of ``llm-interest convert``.

    Attributes:
        user: the events' column of users; None to guess it.
        item: the events' column of items; None to guess it.
        time: the events' column of times; None to guess it. Without one, the order of the rows counts.
        time_format: how times are written, as for ``strptime``; None to recognise it.
        items_id: the column of ids in ``items``; None to guess it.
        users_id: the column of ids in ``users``; None to guess it.
        drop: columns of any table to leave out.
        k_core: keep users and items with at least this many events, repeatedly, until all have them; 0 for all.
        min_length: keep users with at least this many events; 0 for all.
        deduplicate: one of ``DEDUPLICATIONS``; None to keep all events.
        encoding: of text files.
        quoting: one of ``QUOTING``: whether quotes enclose cells of CSV and TSV.
        overwrite: whether to replace the files of a data set that exists.
    """

    user: str | None
    item: str | None
    time: str | None
    time_format: str | None
    items_id: str | None
    users_id: str | None
    drop: Sequence[str]
    k_core: int
    min_length: int
    deduplicate: str | None
    encoding: str
    quoting: str
    overwrite: bool


_DEFAULTS: Options = {
    "user": None,
    "item": None,
    "time": None,
    "time_format": None,
    "items_id": None,
    "users_id": None,
    "drop": (),
    "k_core": 0,
    "min_length": 0,
    "deduplicate": None,
    "encoding": "utf-8",
    "quoting": QUOTING[0],
    "overwrite": False,
}


def complete(options: Options) -> Options:
    """Return the options with the defaults of those that are not given.

    Raises:
        SettingsError: an option is unknown, or its value is invalid.

    Example:
        >>> complete({"k_core": 5})["deduplicate"] is None
        True
    """
    for name in options:
        if name not in _DEFAULTS:
            raise SettingsError(f"unknown option {name!r}: {known_names(name, _DEFAULTS)}")
    settled: Options = {**_DEFAULTS, **options}
    _check_values(settled)
    if isinstance(settled["drop"], str):
        settled["drop"] = [settled["drop"]]
    return settled


def _check_values(settled: Options) -> None:
    """Check counts, choices and the encoding.

    Raises:
        SettingsError: one is.
    """
    for bound in ("k_core", "min_length"):
        count = settled[bound]
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise SettingsError(f"{bound}={count!r} has to be a number of events, 0 or more")
    if settled["deduplicate"] not in (None, *DEDUPLICATIONS):
        raise SettingsError(f"deduplicate={settled['deduplicate']!r} is unknown: known are {', '.join(DEDUPLICATIONS)}")
    if settled["quoting"] not in QUOTING:
        raise SettingsError(f"quoting={settled['quoting']!r} is unknown: known are {', '.join(QUOTING)}")
    if not _is_encoding(settled["encoding"]):
        raise SettingsError(f"encoding={settled['encoding']!r} is not an encoding of text that Python knows")


def _is_encoding(name: Any) -> bool:
    try:
        "".encode(name)
    except (LookupError, TypeError, ValueError):  # unknown, or of no text; no name; a NUL in it
        return False
    return True
