"""Starts the states of users and moves them on with each event."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.event_log import EventLog, LoggedEvents
from recbole_llm_interest.recommender.live_model import LiveModel
from recbole_llm_interest.recommender.trained import Trained
from recbole_llm_interest.recommender.user_inputs import UserInput
from recbole_llm_interest.recommender.user_state import UserState, join

_logger = logging.getLogger(__name__)


class History(NamedTuple):
    """Events of one user, in order.

    Attributes:
        items: ids.
        times: one for each item; None or NaN where it is unknown.
        content: what the model reads of their content, ``[L, W]``; W is 0 if it reads none.

    Example:
        >>> History(["i1", "i2"], [1.0, None], torch.zeros(2, 0)).items
        ['i1', 'i2']
    """

    items: Sequence[str]
    times: Sequence[float | None]
    content: Tensor


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
            RequestError: a user or an item is unknown, a profile or content cannot be used, or times are out of order.
        """
        return self.batches_after(inputs, self.histories(inputs))

    @torch.no_grad()
    def batches_after(
        self, inputs: Sequence[UserInput], histories: Sequence[History]
    ) -> list[tuple[list[int], UserState]]:
        """Do the same where the histories are known already.

        Args:
            inputs: of the users.
            histories: of them, as ``histories`` gives them.

        Raises:
            RequestError: a user or an item is unknown, a profile cannot be used, or times are out of order.
        """
        users = tuple(one.user for one in inputs)
        profiles = self._profiles(inputs)
        by_length: dict[int, list[int]] = {}
        for position, history in enumerate(histories):
            by_length.setdefault(len(history.items), []).append(position)
        by_size: dict[tuple[int, int], list[tuple[list[int], UserState]]] = {}
        for positions in by_length.values():
            of_users = tuple(users[one] for one in positions)
            part = self._read(profiles[positions], self._logged([histories[one] for one in positions]), of_users)
            by_size.setdefault(part.tracker_size, []).append((positions, part))
        return [
            ([one for positions, _ in parts for one in positions], join([part for _, part in parts]))
            for parts in by_size.values()
        ]

    @torch.no_grad()
    def update(
        self,
        state: UserState,
        items: Sequence[str],
        times: Sequence[float | None],
        contents: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> UserState:
        """The state after one more event of each user.

        Raises:
            RequestError: an item is unknown, content cannot be used, or an event is older than the last one.
        """
        rows = self._live.items.find(items, removed_too=True)
        at = _as_tensor(times)
        _check_order(items, at, state.latest)
        content = self._content(contents or [None] * len(items))
        return self._step(state, LoggedEvents(rows[:, None], at[:, None], content[:, None]))

    @torch.no_grad()
    def in_context(self, state: UserState, contexts: Sequence[Mapping[str, Any] | None]) -> UserState:
        """The state with each user's interest given what is known before the next choice.

        Raises:
            RequestError: the model reads no context, or it cannot be used.
        """
        reader = self._trained.event_readers.get("context")
        if reader is None:
            if any(contexts):
                raise RequestError("the model reads no context: leave it out, or train with context_fields")
            return state
        return replace(state, interest=state.interest + torch.stack([reader.read(context) for context in contexts]))

    def _step(self, state: UserState, event: LoggedEvents) -> UserState:
        """The state after one more event of each user, ``[B, 1]``."""
        interest, tracker = self._live.read(event, state.tracker, state.log.last_time(state.length))
        return UserState(
            tracker,
            interest,
            state.log.append(state.length, event),
            state.length + 1,
            torch.fmax(state.latest, event.times[:, 0]),
            self._version,
            state.users,
            state.is_single,
        )

    @torch.no_grad()
    def replay(self, state: UserState, events: int) -> Iterator[UserState]:
        """The states of one user before the last ``events`` events, and after each of them."""
        history = state.events
        before = max(history.count - events, 0)
        profile = state.tracker.user
        known = torch.zeros(1, 0) if profile is None else profile
        past = self._read(known, history.part(0, before), state.users)
        yield past
        for place in range(before, history.count):
            past = self._step(past, history.part(place, place + 1))
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

    def _content(self, contents: Sequence[Mapping[str, Any] | None]) -> Tensor:
        """What the model reads of the content of events, ``[n, W]``; W is 0 if it reads none."""
        reader = self._trained.event_readers.get("event")
        if reader is None:
            if any(contents):
                raise RequestError("the model reads nothing of events but items and times: leave the rest out")
            return torch.zeros(len(contents), 0)
        if not contents:
            return reader.read(None)[None][:0].cpu()
        return torch.stack([reader.read(content) for content in contents]).cpu()

    @torch.no_grad()
    def histories(self, inputs: Sequence[UserInput]) -> list[History]:
        """Each user's events, from the data set where the recorded ones are asked for.

        Raises:
            RequestError: content cannot be used.
        """
        read = {"recorded": self._trained.recorded, "training": self._trained.trained_on}
        users = {
            split: [str(one.user) for one in inputs if one.history is None and one.split == split] for split in read
        }
        recorded = {split: iter(read[split](of_split)) for split, of_split in users.items() if of_split}
        return [
            self._recorded_events(str(one.user), *next(recorded[one.split]))
            if one.history is None
            else self._given_events(one.history, one.times, one.contents)
            for one in inputs
        ]

    def _given_events(
        self,
        items: Sequence[str],
        times: Sequence[float | None] | None,
        contents: Sequence[Mapping[str, Any] | None] | None,
    ) -> History:
        unknown = [None] * len(items)
        return History(items, times or unknown, self._content(contents or unknown))

    def _recorded_events(self, user: str, items: Sequence[str], times: Sequence[float]) -> History:
        is_known = [item in self._live.items.all_rows for item in items]
        if not all(is_known):
            _logger.warning(
                "%d of %d events of user %r are left out: the catalog lacks their items",
                is_known.count(False),
                len(items),
                user,
            )
            known = [place for place, is_one in enumerate(is_known) if is_one]
            items, times = [items[place] for place in known], [times[place] for place in known]
        reader = self._trained.event_readers.get("event")
        content = self._content([None] * len(items)) if reader is None else reader.recorded(user, items, times).cpu()
        return History(items, times, content)

    def _logged(self, histories: Sequence[History]) -> LoggedEvents:
        """Events of users with histories of the same length, ``[B, L]``."""
        shape = len(histories), len(histories[0].items)
        items = [item for history in histories for item in history.items]
        rows = self._live.items.find(items, removed_too=True).view(shape)
        at = _as_tensor([time for history in histories for time in history.times]).view(shape)
        latest = torch.cat([at.new_full((len(histories), 1), -torch.inf), at.nan_to_num(nan=-torch.inf)], dim=1)
        _check_order(items, at.flatten(), latest.cummax(dim=1).values[:, :-1].flatten())
        return LoggedEvents(rows, at, torch.stack([history.content for history in histories]))

    def _read(self, profiles: Tensor, events: LoggedEvents, users: tuple[str | None, ...]) -> UserState:
        """The batch of users, ``[B, U]``, after histories of the same length."""
        interest, tracker = self._live.read(events, self._live.initial(profiles))
        length = torch.full((len(users),), events.count)
        no_time = events.times.new_full((len(users), 1), -torch.inf)
        latest = torch.cat([no_time, events.times.nan_to_num(nan=-torch.inf)], dim=1).amax(dim=1)
        return UserState(tracker, interest, EventLog.of(events, length), length, latest, self._version, users)


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
