"""A store of events and states in Redis, which services on several machines share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.event_store import StoredEvent, digest_of
from recbole_llm_interest.io.opening import parse_json
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.io.shared_event_store import Append, Appended, CatalogChange


class RedisStore:
    """A ``ServingStore`` in Redis. Keys begin with the name in the address.

    A write is one transaction, which does not take place if another process has written to one of its users meanwhile.
    What Redis has acknowledged outlasts a crash of the machine only with ``appendfsync always``.

    Args:
        address: of the server, with the name of the store.

    Raises:
        StorageError: the server cannot be reached.
        DataError: the address has options that redis-py does not know.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._prefix = address.stream
        with self._explained():
            self._server: Any = address.connect(socket_connect_timeout=5, socket_timeout=20)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def states(self, users: Sequence[str], model: str) -> dict[str, bytes]:
        """See ``SharedEventStore``."""
        found = self._of_users("hmget", users, "model", "state")
        return {user: state for user, (maker, state) in found.items() if maker == model.encode()}

    def events_of(self, users: Sequence[str], after: int) -> dict[str, list[StoredEvent]]:
        """See ``SharedEventStore``."""
        found = self._of_users("lrange", users, 0, -1, kind="events")
        rows = {user: [parse_json(line.decode()) for line in lines] for user, lines in found.items()}
        later = {
            user: [StoredEvent(*event) for number, event in of_user if number > after] for user, of_user in rows.items()
        }
        return {user: events for user, events in later.items() if events}

    def forgotten(self, users: Sequence[str]) -> set[str]:
        """See ``SharedEventStore``."""
        with self._explained(), self._server.pipeline(transaction=False) as pipeline:
            for user in users:
                pipeline.sismember(self._key("forgotten"), digest_of(user))
            return {user for user, is_one in zip(users, pipeline.execute(), strict=True) if is_one}

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """See ``SharedEventStore``."""
        with self._explained():
            found = self._server.mget([self._key("key", key) for key in keys]) if keys else []
        return {key for key, number in zip(keys, found, strict=True) if number is not None}

    def last_numbers(self, users: Sequence[str]) -> dict[str, int]:
        """See ``SharedEventStore``."""
        return {user: int(number or 0) for user, (number,) in self._of_users("hmget", users, "number").items()}

    def append(self, new: Append) -> Appended:
        """See ``SharedEventStore``. If another process writes to any of the users meanwhile, nothing is stored."""
        users, done = list(new.seen), Appended()
        with self._explained(), self._server.pipeline() as pipeline:
            try:
                pipeline.watch(
                    *(self._key("user", user) for user in users), *(self._key("key", key) for key in new.keys)
                )
                # over another connection, but after these keys are watched
                done.stale = new.stale(self.last_numbers(users), self.known_keys(new.keys))
                kept = [event for event in new.events if event.user not in done.stale]
                first = int(pipeline.incrby(self._key("count"), len(kept))) - len(kept) + 1
                pipeline.multi()
                for number, event in enumerate(kept, start=first):
                    self._store(pipeline, number, event, new)
                    done.numbers[event.user] = number
                pipeline.execute()
            except redis.WatchError:
                return Appended(stale=set(users))
        return done

    def _store(self, pipeline: Any, number: int, event: StoredEvent, new: Append) -> None:
        pipeline.rpush(self._key("events", event.user), json.dumps([number, event]))
        state = {"number": number, "model": new.model, "state": new.states[event.user]}
        pipeline.hset(self._key("user", event.user), mapping=state)
        if event.key is not None:
            pipeline.set(self._key("key", event.key), number)

    def delete_user(self, user: str) -> int:
        """See ``SharedEventStore``."""
        events = self.events_of([user], after=0).get(user, [])
        keys = [self._key("key", event.key) for event in events if event.key is not None]
        with self._explained(), self._server.pipeline() as pipeline:
            pipeline.sadd(self._key("forgotten"), digest_of(user))
            pipeline.delete(self._key("events", user), *keys)
            pipeline.delete(self._key("user", user))
            return len(events) + int(pipeline.execute()[-1])

    # --- the catalog

    @property
    def catalog_number(self) -> int:
        """See ``SharedEventStore``."""
        with self._explained():
            return int(self._server.llen(self._key("catalog")))

    def catalog_changes(self, after: int) -> list[tuple[int, CatalogChange]]:
        """See ``SharedEventStore``."""
        with self._explained():
            lines = self._server.lrange(self._key("catalog"), after, -1)
        return [(after + place, CatalogChange(*parse_json(line.decode()))) for place, line in enumerate(lines, start=1)]

    def change_catalog(self, change: CatalogChange, seen: int) -> int | None:
        """See ``SharedEventStore``."""
        key = self._key("catalog")
        with self._explained(), self._server.pipeline() as pipeline:
            try:
                pipeline.watch(key)
                if int(pipeline.llen(key)) != seen:
                    return None
                pipeline.multi()
                pipeline.rpush(key, json.dumps(change))
                return int(pipeline.execute()[0])
            except redis.WatchError:
                return None

    # --- keys of Redis

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{name}"

    def _of_users(self, command: str, users: Sequence[str], *arguments: Any, kind: str = "user") -> Mapping[str, Any]:
        """What a command gives for the key of each user."""
        with self._explained(), self._server.pipeline(transaction=False) as pipeline:
            for user in users:
                getattr(pipeline, command)(self._key(kind, user), *arguments)
            return dict(zip(users, pipeline.execute(), strict=True))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one line what Redis could not do.

        Raises:
            StorageError: it cannot be reached, or refuses a command.
        """
        try:
            yield
        except redis.RedisError as error:
            raise StorageError(f"Redis at {self._address.name}: {error}: check that the server runs") from error
