"""The address of a stream in Redis: a URL with the stream's name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from recbole_llm_interest.errors import DataError, SettingsError

if TYPE_CHECKING:
    import redis

#: beginnings of URLs of Redis: plain, encrypted, by a socket
_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class RedisAddress:
    """A server and the name of one of its streams.

    Attributes:
        url: of the server, with a password if it has one, as redis-py reads it.
        stream: key of the stream.

    Example:
        >>> RedisAddress.parse("redis://:secret@localhost:6379/0?stream=events").name
        'redis://localhost:6379/0?stream=events'
    """

    url: str
    stream: str

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Return whether a text names a stream in Redis rather than a file.

        Example:
            >>> RedisAddress.is_one("redis://localhost?stream=events"), RedisAddress.is_one("events.jsonl")
            (True, False)
        """
        return text.partition("://")[0] in _SCHEMES and "://" in text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address.

        Raises:
            SettingsError: it names no stream, or the package is missing.
        """
        if find_spec("redis") is None:
            raise SettingsError("a stream in Redis needs the package redis: pip install 'recbole_llm_interest[redis]'")
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018  (it is read from the text now)
        except ValueError as error:  # its message may have a part of the password
            raise SettingsError(
                "the address of Redis is no URL: write it as redis://HOST:PORT/0?stream=NAME, and the password as %2F "
                "for / and so on"
            ) from error
        options = parse_qs(parts.query)
        named = options.pop("stream", [])
        if len(named) != 1:
            raise SettingsError(
                f"{_without_password(text)!r} names no stream: write it as redis://HOST:PORT/0?stream=NAME"
            )
        return cls(urlunsplit(parts._replace(query=urlencode(options, doseq=True))), named[0])

    @property
    def name(self) -> str:
        """The address without user and password."""
        database = parse_qs(urlsplit(self.url).query).get("db", [])
        options = [*(("db", number) for number in database), ("stream", self.stream)]
        return f"{_without_password(self.url)}?{urlencode(options)}"

    def connect(self, **options: Any) -> redis.Redis:
        """A connection to the server, which has answered.

        Args:
            options: of redis-py beside those of the URL.

        Raises:
            DataError: the URL has options that redis-py does not know, or cannot read.
        """
        import redis  # an extra, which is loaded only where there is such an address

        try:
            server = redis.Redis.from_url(self.url, protocol=2, **options)
            server.ping()  # options are read when the first connection is made
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self.name} has an option beside stream that redis-py cannot use: leave it out, or write it as "
                "redis.Redis.from_url reads it"
            ) from error
        return server


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
