"""Reads events from lines of JSON, and gives them back, with the column names of the data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.opening import parse_json
from recbole_llm_interest.recommender.inputs import TimeUnit, read_new_id, read_time

#: longer lines are no events
MAX_LINE_BYTES = 2**20
#: of a line that cannot be read, what the dead letter has
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class StreamEvent:
    """One event.

    Attributes:
        user: id.
        item: id.
        time: in the data set's unit.
        columns: all else that the line has, by column.
        key: names the event; None without such a name.
        line: as it was read.
    """

    user: str
    item: str
    time: float
    columns: Mapping[str, Any]
    key: str | None
    line: bytes


@dataclass(frozen=True)
class EventReading:
    r"""Reads lines of one stream.

    Attributes:
        user: column of the users' ids.
        item: column of the items' ids.
        time: column of the times.
        key: column of a name of the event, so that it is read once however often it is sent; None without one.
        unit: of times since 1970; None if they are on another scale, so that dates cannot be read.

    Example:
        >>> reading = EventReading("user_id", "item_id", "timestamp", None, "s")
        >>> event = reading.read(b'{"user_id": 5, "item_id": "i1", "timestamp": "2026-11-30", "price": 9}')
        >>> event.user, event.item, event.time, event.columns
        ('5', 'i1', 1795996800.0, {'price': 9})
    """

    user: str
    item: str
    time: str
    key: str | None
    unit: TimeUnit

    def read(self, line: bytes) -> StreamEvent:
        """Read one line.

        Raises:
            RequestError: it is no event.
        """
        columns = _read_object(line)
        user, item = (_token(columns, name) for name in (self.user, self.item))
        if columns.get(self.time) is None:
            raise RequestError(f"it has no {self.time!r}: give the time of the event")
        try:
            time = read_time(columns.pop(self.time), item, self.unit)
        except TypeError as error:
            raise RequestError(f"{self.time!r} is no time: give a number or a date") from error
        if time is None:
            raise RequestError(f"it has no {self.time!r}: give the time of the event")
        key = None if self.key is None else _token(columns, self.key)
        return StreamEvent(user, item, time, columns, key, line)

    def row(self, event: StoredEvent) -> dict[str, Any]:
        """A stored event by the columns of the data set's interaction file."""
        return {**(event.columns or {}), self.user: event.user, self.item: event.item, self.time: event.time}


def _read_object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise RequestError(f"it is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        found = parse_json(line.decode())
    except ValueError as error:  # of UTF-8, too
        raise RequestError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RequestError("it is not a JSON object, such as {...}")
    return found


def _token(columns: dict[str, Any], name: str) -> str:
    """Take an id out of the columns.

    Raises:
        RequestError: there is none, or files cannot hold it.
    """
    value = columns.pop(name, None)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RequestError(f"it has no {name!r}: give an id, as text or a number")
    return read_new_id(value, name)


def dead_letter(line: bytes, reason: object) -> str:
    r"""Say in one line of JSON why a line was not read.

    Example:
        >>> print(dead_letter(b"hello", "it is not JSON"))
        {"reason": "it is not JSON", "line": "hello"}
    """
    return json.dumps({"reason": str(reason), "line": line.decode(errors="replace")[:_SHOWN_CHARACTERS]})
