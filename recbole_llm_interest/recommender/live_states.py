"""The states of many users: moved on by batches of events, kept in memory, and read from a store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from recbole_llm_interest.errors import RequestError, StateError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.user_state import UserState, join


class Event(Protocol):
    """What states read of an event.

    Example:
        >>> from recbole_llm_interest.io.event_store import StoredEvent
        >>> event: Event = StoredEvent("u1", "i3", 5.0)
    """

    @property
    def user(self) -> str:
        """Id."""

    @property
    def item(self) -> str:
        """Id."""

    @property
    def time(self) -> float | None:
        """In the data set's unit."""

    @property
    def columns(self) -> Mapping[str, Any] | None:
        """All else that is given of it."""


class StateStore(Protocol):
    """What states read of the store of a stream or a service.

    Example:
        >>> from recbole_llm_interest.io.event_store import EventStore
        >>> store: StateStore = EventStore(folder / "store")
    """

    def states(self, users: Sequence[str], model: str) -> dict[str, bytes]:
        """States of some users, as far as there are any of this version of the model."""

    def events_of(self, users: Sequence[str], after: int) -> dict[str, list[StoredEvent]]:
        """Events of some users after that of a number, by user."""

    def forgotten(self, users: Sequence[str]) -> set[str]:
        """Those of some users who were deleted."""


class Moved(NamedTuple):
    """What became of one event.

    Attributes:
        rank: of its item among the best ones before it, from 1 on; 0 if it was none of them, None if it was not
            looked for.
        fault: why the event was refused; None if it was not.

    Example:
        >>> Moved(rank=1)
        Moved(rank=1, fault=None)
    """

    rank: int | None = None
    fault: str | None = None


class LiveStates:
    """States of users after the events that the store has.

    Args:
        recommender: makes the states.
        store: has events and former states.
        until: number of the last stored event that is in the recommender's data set.
        k: how many best items are compared with that of an event.
        most_users: whose states stay in memory after ``trim``.

    Example:
        >>> from recbole_llm_interest.io.event_store import EventStore, StoredEvent
        >>> states = LiveStates(recommender, EventStore(folder / "live"))
        >>> states.advance([StoredEvent("u1", "i3", 1e10), StoredEvent("u1", "i4", 5.0)], [False, False])
        [Moved(rank=None, fault=None), Moved(rank=None, fault="it is older than the user's last event")]
    """

    def __init__(
        self, recommender: Recommender, store: StateStore, until: int = 0, k: int = 10, most_users: int = 50_000
    ) -> None:
        self._recommender = recommender
        self._store = store
        self._until = until
        self._k = min(k, len(recommender.items))
        self._most_users = most_users
        self._states: OrderedDict[str, UserState] = OrderedDict()

    def __len__(self) -> int:
        """Number of users whose states are in memory."""
        return len(self._states)

    def advance(self, events: Sequence[Event], evaluated: Sequence[bool]) -> list[Moved]:
        """Move states on, in the order of the events.

        Args:
            events: of any users. Those of items that the model does not know change no state.
            evaluated: whether each event is looked for among the best items before it. Only events of known items, of
                users with an event before, are.
        """
        self.load(event.user for event in events)
        return self._move(events, evaluated)

    def of(self, users: Iterable[str]) -> list[UserState]:
        """The states of users who have been loaded."""
        return [self._states[user] for user in users]

    def packed(self, users: Iterable[str]) -> dict[str, bytes]:
        """The states of users as the store keeps them."""
        return {user: self._recommender.to_bytes(self._states[user], [user]) for user in users}

    def drop(self, users: Iterable[str]) -> None:
        """Drop the states of users, so that they are read anew."""
        for user in users:
            self._states.pop(user, None)

    def trim(self) -> list[str]:
        """Drop the states of the users who were not heard of for the longest time, and return these."""
        return [self._states.popitem(last=False)[0] for _ in range(len(self._states) - self._most_users)]

    # --- states of users who are not in memory

    def load(self, users: Iterable[str]) -> None:
        """Read the states of users from the store, or make them."""
        missing = []
        for user in dict.fromkeys(users):
            if user in self._states:
                self._states.move_to_end(user)
            else:
                missing.append(user)
        for user, data in self._store.states(missing, self._recommender.version).items():
            try:
                self._states[user] = self._recommender.from_bytes(data)
            except StateError:
                continue  # of a catalog that has changed since: it is made anew
        new = [user for user in missing if user not in self._states]
        if new:
            forgotten = self._store.forgotten(new)
            self._states.update(zip(new, self._recommender.start_each(new, forgotten), strict=True))
            self._replay(new)

    def _replay(self, users: Sequence[str]) -> None:
        """Move states on by the stored events that the recommender's data set does not have."""
        recorded = [user for user in users if int(self._states[user].length[0])]
        new = [user for user in users if not int(self._states[user].length[0])]  # or left out by the data set's filters
        stored = self._store.events_of(recorded, self._until) | self._store.events_of(new, after=0)
        events: list[Event] = [
            event for of_user in stored.values() for event in of_user if not self._is_recorded(event)
        ]
        self._move(events, [False] * len(events))

    def _is_recorded(self, event: Event) -> bool:
        """Whether a state has an event already: of a model whose data set has grown by stored events."""
        state = self._states[event.user]
        row = self._recommender.items.all_rows.get(event.item)
        return bool(((state.items[0] == row) & (state.times[0] == event.time)).any()) if row is not None else False

    # --- batches

    def _move(self, events: Sequence[Event], evaluated: Sequence[bool]) -> list[Moved]:
        moved: dict[int, Moved] = {}
        for places in _rounds(events):
            known = [place for place in places if events[place].item in self._recommender.items.all_rows]
            for group in self._groups([(place, events[place]) for place in known]):
                moved.update(self._advance(group, evaluated))
        return [moved.get(place, Moved()) for place in range(len(events))]

    def _groups(self, events: Sequence[tuple[int, Event]]) -> Iterator[list[tuple[int, Event]]]:
        """Events of different users, in groups whose states can be joined."""
        groups: dict[tuple[int, int], list[tuple[int, Event]]] = {}
        for place, event in events:
            groups.setdefault(self._states[event.user].tracker_size, []).append((place, event))
        yield from groups.values()

    def _advance(self, group: Sequence[tuple[int, Event]], evaluated: Sequence[bool]) -> Iterator[tuple[int, Moved]]:
        """Move the states of different users on by one event each."""
        late = {place for place, event in group if self._is_late(event)}
        yield from ((place, Moved(fault="it is older than the user's last event")) for place in late)
        places = [place for place, _ in group if place not in late]
        events = dict(group)
        ranks = self._found_ranks([events[place] for place in places if evaluated[place]])
        faults = self._update([events[place] for place in places])
        for place, fault in zip(places, faults, strict=True):
            yield place, Moved(ranks.get(events[place].user), fault)

    def _is_late(self, event: Event) -> bool:
        return event.time is not None and event.time < float(self._states[event.user].latest[0])

    def _update(self, events: Sequence[Event]) -> list[str | None]:
        """Move states on; says why those events were refused that were. One that is does not hold up the others."""
        if not events:
            return []
        try:
            self._states.update(self._updated(events))
        except RequestError as error:
            if len(events) == 1:
                return [str(error)]
            return [fault for event in events for fault in self._update([event])]
        return [None] * len(events)

    def _updated(self, events: Sequence[Event]) -> dict[str, UserState]:
        """The states of different users after one event each, by user.

        Raises:
            RequestError: one of the events cannot be used.
        """
        batch = join([self._states[event.user] for event in events])
        items, times = [event.item for event in events], [event.time for event in events]
        after = self._recommender.update(batch, items, times, columns=self._content(events))
        return {event.user: state for event, state in zip(events, after, strict=True)}

    def _content(self, events: Sequence[Event]) -> dict[str, list[Any]]:
        """Values of the columns that the model reads, by column."""
        given = [self._recommender.known_columns(event.columns or {}) for event in events]
        names = dict.fromkeys(name for columns in given for name in columns)
        return {name: [columns.get(name) for columns in given] for name in names}

    def _found_ranks(self, events: Sequence[Event]) -> dict[str, int]:
        """Ranks as ``_ranks`` gives them. An event whose context cannot be used has none."""
        try:
            return self._ranks(events)
        except RequestError:
            if len(events) == 1:
                return {}
            return {user: rank for event in events for user, rank in self._found_ranks([event]).items()}

    def _ranks(self, events: Sequence[Event]) -> dict[str, int]:
        """Ranks of the items among the best ones before the events, by user; only of users with an event before."""
        events = [event for event in events if self._is_evaluable(event)]
        if not events:
            return {}
        batch = join([self._states[event.user] for event in events])
        contexts = [self._recommender.known_columns(event.columns or {}, "context") or None for event in events]
        context = contexts if any(contexts) else None
        best = self._recommender.recommend(batch, self._k, exact=True, context=context)
        return {event.user: _rank(event.item, found) for event, found in zip(events, best, strict=True)}

    def _is_evaluable(self, event: Event) -> bool:
        return event.item in self._recommender.items and int(self._states[event.user].length[0]) > 0


def _rounds(events: Sequence[Event]) -> list[list[int]]:
    """Places of events: in each round, of every user who has events left the next one."""
    rounds: list[list[int]] = []
    counts: dict[str, int] = {}
    for place, event in enumerate(events):
        number = counts[event.user] = counts.get(event.user, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


def _rank(item: str, best: Iterable[tuple[str, float]]) -> int:
    return next((place for place, (found, _) in enumerate(best, start=1) if found == item), 0)
