"""Starts the states of users and moves them on with each event."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.event_log import EventLog
from recbole_llm_interest.recommender.inputs import UserInput
from recbole_llm_interest.recommender.live_model import LiveModel
from recbole_llm_interest.recommender.loading import Trained
from recbole_llm_interest.recommender.user_state import UserState, join

_logger = logging.getLogger(__name__)


class StateUpdates:
    """Makes states of users from what is given of them, and from events.

    Args:
        trained: the model with its users and their content.
        live: the model over the catalog.
        version: hash of the model, which each state carries.

    Example:
        >>> updated = recommender._states.update(state, ["i3"], [None])
        >>> len(updated.items[0])
        3
    """

    def __init__(self, trained: Trained, live: LiveModel, version: str) -> None:
        self._trained = trained
        self._live = live
        self._version = version

    @torch.no_grad()
    def start(self, inputs: Sequence[UserInput]) -> UserState:
        """The batch of these users, each after the given history.

        Raises:
            RequestError: a user or an item is unknown, a profile cannot be used, times are out of order, or the tracker
                has attention and the histories differ in length.
        """
        batches = self.start_batches(inputs)
        if len(batches) > 1:
            raise RequestError(
                "the model's tracker has attention, so that users of one batch need histories of the same length: "
                "start each user alone, or those together whose histories are equally long"
            )
        ((positions, batch),) = batches
        return batch.select(torch.tensor(positions).argsort())

    @torch.no_grad()
    def start_batches(self, inputs: Sequence[UserInput]) -> list[tuple[list[int], UserState]]:
        """As few batches of these users as the tracker allows, each with the positions of its users in ``inputs``.

        There is one batch, except with attention: then there is one for each number of events that attention sees.

        Raises:
            RequestError: a user or an item is unknown, a profile cannot be used, or times are out of order.
        """
        users = tuple(one.user for one in inputs)
        profiles = self._profiles(inputs)
        events = self._events(inputs)
        by_length: dict[int, list[int]] = {}
        for position, (history, _) in enumerate(events):
            by_length.setdefault(len(history), []).append(position)
        by_size: dict[tuple[int, int], list[tuple[list[int], UserState]]] = {}
        for positions in by_length.values():
            of_users = tuple(users[one] for one in positions)
            part = self._read(profiles[positions], [events[one] for one in positions], of_users)
            by_size.setdefault(part.tracker_size, []).append((positions, part))
        return [
            ([one for positions, _ in parts for one in positions], join([part for _, part in parts]))
            for parts in by_size.values()
        ]

    @torch.no_grad()
    def update(self, state: UserState, items: Sequence[str], times: Sequence[float | None]) -> UserState:
        """The state after one more event of each user.

        Raises:
            RequestError: an item is unknown, or an event is older than the last one.
        """
        rows = self._live.items.find(items, removed_too=True)
        at = _as_tensor(times)
        _check_order(items, at, state.latest)
        before = state.log.last_time(state.length)
        interest, tracker = self._live.read(rows[:, None], at[:, None], state.tracker, before)
        return UserState(
            tracker,
            interest,
            state.log.append(state.length, rows, at),
            state.length + 1,
            torch.fmax(state.latest, at),
            self._version,
            state.users,
            state.is_single,
        )

    @torch.no_grad()
    def replay(self, state: UserState, events: int) -> Iterator[UserState]:
        """The states of one user before the last ``events`` events, and after each of them."""
        items = [self._live.items.tokens[row] for row in state.items[0].tolist()]
        times = [None if math.isnan(time) else time for time in state.times[0].tolist()]
        before = max(len(items) - events, 0)
        profile = state.tracker.user
        known = torch.zeros(1, 0) if profile is None else profile
        past = self._read(known, [(items[:before], times[:before])], state.users)
        yield past
        for item, time in zip(items[before:], times[before:], strict=True):
            past = self.update(past, [item], [time])
            yield past

    def _profiles(self, inputs: Sequence[UserInput]) -> Tensor:
        """Encoded profiles, ``[B, U]``; ``U`` is 0 if the model has no content of users."""
        profiles = self._live.users([0 if one.user is None else self._user_row(one.user) for one in inputs])
        encoder, reader = self._trained.model.user_encoder, self._trained.user_reader
        for position, one in enumerate(inputs):
            if one.profile is None:
                continue
            if encoder is None or reader is None:
                raise RequestError("the model does not know users by content: leave the profile out")
            profiles[position] = encoder.encode(reader.read(one.profile).content)[0]
        return profiles

    def _user_row(self, user: str) -> int:
        if user not in self._trained.users:
            raise RequestError(f"unknown user {user!r}: for a new user, leave the id out, or give a profile")
        return self._trained.users[user]

    def _events(self, inputs: Sequence[UserInput]) -> list[tuple[list[str], Sequence[float | None]]]:
        """Items and times of each user's events, from the data set where the recorded ones are asked for."""
        recorded_of = [str(one.user) for one in inputs if one.history is None]
        recorded = iter(self._trained.recorded(recorded_of) if recorded_of else ())
        return [
            self._known_events(str(one.user), *next(recorded))
            if one.history is None
            else (one.history, one.times or [None] * len(one.history))
            for one in inputs
        ]

    def _known_events(
        self, user: str, items: Sequence[str], times: Sequence[float]
    ) -> tuple[list[str], Sequence[float | None]]:
        known = [
            (item, None if math.isnan(time) else time)
            for item, time in zip(items, times, strict=True)
            if item in self._live.items.all_rows
        ]
        if len(known) < len(items):
            _logger.warning(
                "%d of %d events of user %r are left out: the catalog lacks their items",
                len(items) - len(known),
                len(items),
                user,
            )
        return [item for item, _ in known], [time for _, time in known]

    def _read(
        self,
        profiles: Tensor,
        events: Sequence[tuple[list[str], Sequence[float | None]]],
        users: tuple[str | None, ...],
    ) -> UserState:
        """The batch of users, ``[B, U]``, after histories of the same length."""
        rows = torch.stack([self._live.items.find(history, removed_too=True) for history, _ in events])
        times = torch.stack([_as_tensor(at) for _, at in events])
        no_time = times.new_full((len(times), 1), -torch.inf)
        latest = torch.cat([no_time, times.nan_to_num(nan=-torch.inf)], dim=1).cummax(dim=1).values
        for (history, _), at, latest_before in zip(events, times, latest, strict=True):
            _check_order(history, at, latest_before[:-1])
        interest, tracker = self._live.read(rows, times, self._live.initial(profiles))
        length = torch.full((len(rows),), rows.shape[1])
        log = EventLog.of(rows, times, length)
        return UserState(tracker, interest, log, length, latest[:, -1], self._version, users)


def _as_tensor(times: Sequence[float | None]) -> Tensor:
    """Times, NaN where they are unknown, ``[n]``."""
    return torch.tensor([math.nan if time is None else time for time in times], dtype=torch.float64)


def _check_order(items: Sequence[str], times: Tensor, latest: Tensor) -> None:
    """Refuse an event that is older than the latest one before it; all ``[n]``."""
    late: list[Any] = (times < latest).nonzero().squeeze(1).tolist()
    if late:
        raise RequestError(
            f"the event of {items[late[0]]!r} at {times[late[0]]:.10g} is older than the one before it, at "
            f"{latest[late[0]]:.10g}: give events in chronological order"
        )
