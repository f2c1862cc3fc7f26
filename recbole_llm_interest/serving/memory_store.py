"""A store of events and states that ends with its process: for trials."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.shared_event_store import Append, Appended, CatalogChange


class MemoryStore:
    """A ``ServingStore`` of one process, in memory. Nothing of it is written anywhere.

    Example:
        >>> store = MemoryStore()
        >>> store.append(Append([StoredEvent("u1", "i1", 5.0)], {"u1": b"state"}, "model", {"u1": 0}))
        Appended(numbers={'u1': 1}, stale=set())
    """

    def __init__(self) -> None:
        self.catalog_number = 0
        self._count = 0
        self._events: dict[str, list[tuple[int, StoredEvent]]] = {}
        self._states: dict[str, tuple[str, bytes]] = {}
        self._keys: set[str] = set()
        self._forgotten: set[str] = set()
        self._changes: list[tuple[int, CatalogChange]] = []

    def close(self) -> None:
        """Nothing is open."""

    def states(self, users: Sequence[str], model: str) -> dict[str, bytes]:
        """See ``SharedEventStore``."""
        found = {user: self._states[user] for user in users if user in self._states}
        return {user: data for user, (maker, data) in found.items() if maker == model}

    def events_of(self, users: Sequence[str], after: int) -> dict[str, list[StoredEvent]]:
        """See ``SharedEventStore``."""
        found = {user: [event for number, event in self._events.get(user, ()) if number > after] for user in users}
        return {user: events for user, events in found.items() if events}

    def forgotten(self, users: Sequence[str]) -> set[str]:
        """See ``SharedEventStore``."""
        return self._forgotten.intersection(users)

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """See ``SharedEventStore``."""
        return self._keys.intersection(keys)

    def last_numbers(self, users: Sequence[str]) -> dict[str, int]:
        """See ``SharedEventStore``."""
        return {user: self._events[user][-1][0] if user in self._events else 0 for user in users}

    def append(self, new: Append) -> Appended:
        """See ``SharedEventStore``."""
        done = Appended(stale=new.stale(self.last_numbers(list(new.seen)), self._keys))
        for event in new.events:
            if event.user not in done.stale:
                self._count += 1
                self._events.setdefault(event.user, []).append((self._count, event))
                self._states[event.user] = (new.model, new.states[event.user])
                self._keys.update(() if event.key is None else [event.key])
                done.numbers[event.user] = self._count
        return done

    def delete_user(self, user: str) -> int:
        """See ``SharedEventStore``."""
        self._forgotten.add(user)
        events = self._events.pop(user, [])
        self._keys -= {event.key for _, event in events if event.key is not None}
        return len(events) + (self._states.pop(user, None) is not None)

    def catalog_changes(self, after: int) -> list[tuple[int, CatalogChange]]:
        """See ``SharedEventStore``."""
        return [(number, change) for number, change in self._changes if number > after]

    def change_catalog(self, change: CatalogChange, seen: int) -> int | None:
        """See ``SharedEventStore``."""
        if self.catalog_number != seen:
            return None
        self.catalog_number += 1
        self._changes.append((self.catalog_number, change))
        return self.catalog_number
