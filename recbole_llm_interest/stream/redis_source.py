"""Reads events from a stream in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.stream.sources import Chunk

#: the field of an entry that has the event as JSON
FIELD = b"event"
#: how long the server is asked to wait for new entries, ms
_PAUSE = 200
#: the position before all entries
_BEGINNING = "0-0"


@dataclass(frozen=True)
class RedisStream:
    """A stream in Redis, whose entries have a field ``event`` with a JSON object. Its position is an entry's id.

    Nothing is acknowledged: the position is stored together with the events, and reading goes on behind it.

    Attributes:
        address: of the stream.
        ends: whether reading ends where the stream does, rather than wait for more.
    """

    address: RedisAddress
    ends: bool = False

    def chunks(self, position_of: Callable[[str], str | None], most: int) -> Iterator[Chunk]:
        """See ``EventSource``. An entry without the field is a line of its fields, which is no event.

        Raises:
            DataError: the server cannot be reached, or the stream is another one than before.
        """
        position = position_of(self.address.name) or _BEGINNING
        with self._explained(), self.address.connect() as server:
            self._check_same(server, position)
            while True:
                block = None if self.ends else _PAUSE
                found: Any = server.xread({self.address.stream: position}, count=most, block=block)
                entries = found[0][1] if found else []
                if entries:
                    position = entries[-1][0].decode()
                    yield Chunk([_line(fields) for _, fields in entries], self.address.name, position)
                elif self.ends:
                    return
                else:
                    yield Chunk([])

    def _check_same(self, server: redis.Redis, position: str) -> None:
        """Check that the stream has what was read before.

        Raises:
            DataError: its newest entry is older than the position.
        """
        if not server.exists(self.address.stream):
            return  # its first entry makes it
        newest = server.xinfo_stream(self.address.stream)["last-generated-id"].decode()
        if _order(newest) < _order(position):
            raise DataError(
                f"{self.address.name} ends at {newest}, and was read to {position} before: it is another stream; name "
                "another --output"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise DataError(f"{self.address.name} cannot be read: {error}: nothing is lost, give it again") from error


def _line(fields: Mapping[bytes, bytes]) -> bytes:
    return fields[FIELD] if FIELD in fields else b"fields: " + b", ".join(fields)


def _order(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))
