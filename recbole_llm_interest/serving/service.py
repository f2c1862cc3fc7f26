"""Answers batches of requests by a trained model: what HTTP asks for, without HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recbole_llm_interest.errors import LLMInterestError, RequestError, StorageError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.shared_event_store import Append, CatalogChange
from recbole_llm_interest.recommender import Explanation, Interest, Recommendations, Recommender, UserState
from recbole_llm_interest.recommender.live_states import LiveStates
from recbole_llm_interest.recommender.user_state import join
from recbole_llm_interest.serving.answers import EventResult, ListRequest, Preview, UserList
from recbole_llm_interest.serving.stores import ServingStore

_logger = logging.getLogger(__name__)

#: how often events are tried again that another process was ahead of
_ATTEMPTS = 50


@dataclass
class Service:
    """A model with the states of its users, as the store has them. One thread at a time uses it.

    Attributes:
        recommender: the model.
        store: of events, states and changes of the catalog.
        cached_users: users whose states stay in memory.
        clock: seconds since 1970.
    """

    recommender: Recommender
    store: ServingStore
    cached_users: int = 20_000
    clock: Callable[[], float] = time.time
    _numbers: dict[str, int] = field(default_factory=dict, init=False)
    _seen_changes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._states = LiveStates(self.recommender, self.store, most_users=self.cached_users)
        self.follow_catalog()

    @property
    def users_in_memory(self) -> int:
        """Number of users whose states are in memory."""
        return len(self._states)

    # --- events

    def add_events(self, events: Sequence[StoredEvent]) -> list[EventResult]:
        """Store events, each of them completely or not at all, in their order for each user.

        Args:
            events: of any users. A time of None stands for now.

        Returns:
            What became of each. One that is refused does not hold up the others.

        Raises:
            StorageError: the store cannot be written to. No event is stored.
        """
        results: dict[int, EventResult] = {}
        copies = _copies(events)
        left = [place for place in range(len(events)) if place not in copies]
        for _ in range(_ATTEMPTS):
            left = self._add(events, left, results)
            if not left:
                break
        else:
            raise StorageError("other processes are ahead at each attempt: send the events again")
        self._trim()
        for place, first in copies.items():
            results[place] = EventResult(is_repeated=True) if results[first].fault is None else results[first]
        return [results[place] for place in range(len(events))]

    def _add(self, events: Sequence[StoredEvent], places: Sequence[int], results: dict[int, EventResult]) -> list[int]:
        """Store those events of some users that no other process has changed, and return the places of the others."""
        new = self._without_repeated(events, places, results)
        users = dict.fromkeys(events[place].user for place in new)
        seen = self._load(users)
        try:
            stale, faults = self._advance([events[place] for place in new], seen)
        except BaseException:
            self._drop(users)  # they are ahead of the store
            raise
        self._drop(stale)
        for place, fault in zip(new, faults, strict=True):
            if events[place].user not in stale:
                results[place] = EventResult(fault=fault)
        return [place for place in new if place not in results]

    def _advance(self, events: Sequence[StoredEvent], seen: Mapping[str, int]) -> tuple[set[str], list[str | None]]:
        """Move states on, and store them with their events; returns the users of whom nothing was stored, and faults.

        Args:
            events: of known items.
            seen: number of the last event of each user before.
        """
        dated = self._dated(events)
        faults = [fault for _, fault in self._states.advance(dated, [False] * len(dated))]
        accepted = [event for event, fault in zip(dated, faults, strict=True) if fault is None]
        if not accepted:
            return set(), faults
        states = self._states.packed(dict.fromkeys(event.user for event in accepted))
        numbers = {user: seen[user] for user in states}
        done = self.store.append(Append(accepted, states, self.recommender.version, numbers))
        self._numbers.update(done.numbers)
        return done.stale, faults

    def _without_repeated(
        self, events: Sequence[StoredEvent], places: Sequence[int], results: dict[int, EventResult]
    ) -> list[int]:
        """Places of events whose item is known, and whose key is not."""
        keys = [key for place in places if (key := events[place].key) is not None]
        known = self.store.known_keys(keys) if keys else set()
        new = []
        for place in places:
            event = events[place]
            if event.key in known:
                results[place] = EventResult(is_repeated=True)
            elif event.item not in self.recommender.items.all_rows:
                results[place] = EventResult(fault=f"unknown item {event.item!r}: add it first")
            else:
                new.append(place)
        return new

    def _dated(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Events with the time of now where they have none, but not earlier than the user's last event."""
        unit = self.recommender.time_unit
        if unit is None:
            return list(events)
        now = self.clock() * (1000 if unit == "ms" else 1)
        users = list(dict.fromkeys(event.user for event in events))
        latest = dict(zip(users, (float(state.latest[0]) for state in self._states.of(users)), strict=True))
        dated = []
        for event in events:
            moment = max(now, latest[event.user]) if event.time is None else event.time
            latest[event.user] = max(latest[event.user], moment)
            dated.append(event._replace(time=moment))
        return dated

    # --- answers

    def recommend(self, asked: Sequence[tuple[str, ListRequest]]) -> list[UserList | RequestError]:
        """The best items for each of several users, or why they cannot be given."""
        self._load(dict.fromkeys(user for user, _ in asked))
        states = self._states.of(user for user, _ in asked)
        groups: dict[Any, list[int]] = {}
        for place, ((_, request), state) in enumerate(zip(asked, states, strict=True)):
            groups.setdefault((repr(request), state.tracker_size), []).append(place)
        found: dict[int, UserList | RequestError] = {}
        for places in groups.values():
            request = asked[places[0]][1]
            try:
                lists = self._best(join([states[place] for place in places]), request)
            except RequestError as error:
                found.update(dict.fromkeys(places, error))
            else:
                found.update(
                    (place, UserList(int(states[place].length[0]), best))
                    for place, best in zip(places, lists, strict=True)
                )
        self._trim()
        return [found[place] for place in range(len(asked))]

    def _best(self, state: UserState, request: ListRequest) -> list[Recommendations]:
        context = dict(request.context)
        found: Any = self.recommender.recommend(
            state,
            request.k,
            candidates=request.candidates,
            exclude=request.exclude,
            exclude_seen=request.exclude_seen,
            min_diversity=request.min_diversity,
            context=[context] * len(state) if context else None,
            allow_fewer=True,
        )
        return list(found)

    def explain(self, user: str, item: str) -> Explanation:
        """What makes the score of an item for a user.

        Raises:
            RequestError: the item is unknown.
        """
        explanation: Explanation = self.recommender.explain(self._state(user), item)
        return explanation

    def interests(self, user: str, k: int | None) -> list[Interest]:
        """The ``k`` heaviest interests of a user."""
        interests: list[Interest] = self.recommender.interests(self._state(user), k)
        return interests

    def preview(
        self, user: str | None, items: Sequence[str], request: ListRequest, explained: str | None = None
    ) -> Preview:
        """What would be recommended to a user, or to a new one, after events that are not stored.

        Raises:
            RequestError: an item is unknown.
        """
        state = self.recommender.start(history=[]) if user is None else self._state(user)
        for item in items:
            state = self.recommender.update(state, item)
        (best,) = self._best(replace(state, is_single=False), request)
        explanation = None if explained is None else self.recommender.explain(state, explained)
        return Preview(int(state.length[0]), best, self.recommender.interests(state, 5), explanation)

    def find_items(self, text: str, most: int) -> list[tuple[str, str]]:
        """Items whose title or id has a text, whatever its case, as ids and titles."""
        wanted, found = text.casefold(), []
        for item in self.recommender.items.tokens:
            title = self.recommender.label(item)
            if item in self.recommender.items and (wanted in title.casefold() or wanted in item.casefold()):
                found.append((item, title))
                if len(found) == most:
                    break
        return found

    def _state(self, user: str) -> UserState:
        self._load([user])
        (state,) = self._states.of([user])
        self._trim()
        return replace(state, is_single=True)

    # --- users and items

    def delete_user(self, user: str) -> int:
        """Delete a user's events and state; recorded events of theirs are not used again. Returns their number.

        Raises:
            StorageError: the store cannot be written to, or has former pages yet: repeat it.
        """
        self._drop([user])
        return self.store.delete_user(user)

    def change_catalog(self, change: CatalogChange) -> None:
        """Add an item, or remove it, here and in every process of the store.

        Raises:
            LLMInterestError: its content cannot be used, the catalog has it, or lacks the one to be removed.
        """
        while True:
            self.follow_catalog()
            if change.content is None:
                self.recommender.items.find([change.item])  # there is one
            else:
                self.recommender.add_item(change.item, change.content)
            number = None
            try:
                number = self.store.change_catalog(change, self._seen_changes)
            finally:
                if (number is None) == (
                    change.content is not None
                ):  # a new item that is not stored, or a stored removal
                    self.recommender.remove_item(change.item)
            if number is not None:
                self._seen_changes = number
                return

    def follow_catalog(self) -> None:
        """Apply the changes of the catalog that other processes have stored, or former ones."""
        if self.store.catalog_number == self._seen_changes:
            return
        for number, (item, content) in self.store.catalog_changes(self._seen_changes):
            self._seen_changes = number
            if content is None and item in self.recommender.items:
                self.recommender.remove_item(item)
            elif content is not None and item not in self.recommender.items:
                try:
                    self.recommender.add_item(item, content)
                except LLMInterestError as error:
                    _logger.warning("item %r was added by another process, and cannot be added here: %s", item, error)

    # --- states

    def _load(self, users: Mapping[str, Any] | Sequence[str]) -> dict[str, int]:
        """Make sure that the states of users are those of the store; returns the numbers of their last events."""
        numbers = self.store.last_numbers(list(users))
        self._states.drop(user for user, number in numbers.items() if self._numbers.get(user) != number)
        self._states.load(users)
        self._numbers.update(numbers)
        return numbers

    def _drop(self, users: Sequence[str] | Mapping[str, Any] | set[str]) -> None:
        self._states.drop(users)
        for user in users:
            self._numbers.pop(user, None)

    def _trim(self) -> None:
        for user in self._states.trim():
            self._numbers.pop(user, None)


def _copies(events: Sequence[StoredEvent]) -> dict[int, int]:
    """Places of events whose key an earlier one of the same list has, with the place of that one."""
    first: dict[str, int] = {}
    firsts = {place: first.setdefault(event.key, place) for place, event in enumerate(events) if event.key is not None}
    return {place: earlier for place, earlier in firsts.items() if earlier != place}
