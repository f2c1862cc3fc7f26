"""An event store that several processes write, without lost updates: what they have not seen, they do not overwrite."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from recbole_llm_interest.io.event_store import EventStore, StoredEvent, digest_of
from recbole_llm_interest.io.opening import parse_json


class CatalogChange(NamedTuple):
    """An item that was added or removed while a model is in use.

    Attributes:
        item: id.
        content: of a new item, by column; None for one that was removed.
    """

    item: str
    content: Mapping[str, Any] | None


@dataclass
class Append:
    """Events to be stored, with what their writer has seen of the store.

    Attributes:
        events: in their order.
        states: of their users after them.
        model: version of the model that made the states.
        seen: number of the last event of each of the users before.
    """

    events: Sequence[StoredEvent]
    states: Mapping[str, bytes]
    model: str
    seen: Mapping[str, int]

    @property
    def keys(self) -> list[str]:
        """Keys of the events that have one."""
        return [event.key for event in self.events if event.key is not None]

    def stale(self, last: Mapping[str, int], known_keys: Collection[str]) -> set[str]:
        """Users of whom nothing may be stored.

        Args:
            last: number of the last event of each user, as the store has it.
            known_keys: those of the events' keys that the store has.
        """
        behind = {user for user, number in self.seen.items() if last[user] != number}
        return behind | {event.user for event in self.events if event.key in known_keys}


@dataclass
class Appended:
    """What has become of events.

    Attributes:
        numbers: that of the last event of each user whose events were stored.
        stale: users of whom nothing was stored, because the store has more of them, or an event's key.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)


class SharedEventStore(EventStore):
    """Events, states and changes of the catalog, for processes that serve one model.

    A process reads the number of a user's last event, makes the next state, and stores it with the event only if no
    other process has stored an event of that user meanwhile.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> store = SharedEventStore(Path(mkdtemp()))
        >>> event = StoredEvent("u1", "i1", 5.0)
        >>> store.append(Append([event], {"u1": b"state"}, "model", {"u1": 0}))
        Appended(numbers={'u1': 1}, stale=set())
        >>> store.append(Append([event], {"u1": b"state"}, "model", {"u1": 0}))
        Appended(numbers={}, stale={'u1'})
    """

    def last_numbers(self, users: Sequence[str]) -> dict[str, int]:
        """Number of the last event of each user; 0 without one."""
        number = "(select max(number) from events where user = value)"
        found = self._rows(f"select value, coalesce({number}, 0) from json_each(?)", (json.dumps(list(users)),))
        return dict(found)

    def append(self, new: Append) -> Appended:
        """Store the events and states of those users of whom the store has what was seen, and nothing of others.

        Raises:
            StorageError: the file cannot be written. Nothing is stored.
            DataError: the file is damaged.
        """
        done = Appended()
        with self._transaction():
            done.stale = new.stale(self.last_numbers(list(new.seen)), self.known_keys(new.keys))
            for event in new.events:
                if event.user not in done.stale:
                    done.numbers[event.user] = self._insert(event)
            self._insert_states({user: new.states[user] for user in done.numbers}, new.model)
        return done

    def delete_user(self, user: str) -> int:
        """Delete the events and the state of a user, and keep recorded events of theirs from being used again.

        Returns:
            The number of deleted events and states.

        Raises:
            StorageError: the file cannot be written, or another process reads it, so that former pages stay: repeat it.
        """
        with self._transaction():
            self._database.execute("insert or ignore into forgotten values (?)", (digest_of(user),))
        return self.forget([user])

    # --- the catalog

    @property
    def catalog_number(self) -> int:
        """Number of the last change of the catalog; numbers are not used again. 0 without one."""
        return self._last_number("catalog_changes")

    def catalog_changes(self, after: int) -> list[tuple[int, CatalogChange]]:
        """Changes of the catalog after that of a number, with their numbers."""
        found = self._rows("select * from catalog_changes where number > ? order by number", (after,))
        return [(number, CatalogChange(item, content and parse_json(content))) for number, item, content in found]

    def change_catalog(self, change: CatalogChange, seen: int) -> int | None:
        """Store a change of the catalog, and return its number; None if there are others than a process has seen.

        Raises:
            StorageError: the file cannot be written.
        """
        content = None if change.content is None else json.dumps(change.content)
        with self._transaction():
            if self.catalog_number != seen:
                return None
            statement = "insert into catalog_changes(item, content) values (?, ?)"
            return self._database.execute(statement, (change.item, content)).lastrowid
