"""The state of users between two events: what the tracker carries on, the interest, and the events themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from recbole_llm_interest.errors import StateError
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.recommender.event_log import EventLog, LoggedEvents

Result = TypeVar("Result")
#: what a method gives for a state: one result for a single user, a list with one result for each user of a batch. Type
#: checkers see the first or Any, because which of the two it is depends on the state
PerUser: TypeAlias = Result | Any


@dataclass(frozen=True, repr=False, eq=False)
class UserState:
    """What is known of a single user, or of each user of a batch, between two events.

    **One user or many.** ``Recommender.start`` makes the state of a single user from one user, and the state of a batch
    from a list, even if the list has one element. For a single user, methods of the recommender take one item and give
    one result; for a batch they take a list of items and give a list of results, one for each user. ``batch[0]`` is the
    state of a single user, ``batch[:2]`` and ``join`` give batches.

    A state never changes: an update makes a new one. Its size does not grow with the history, except for 16 bytes an
    event and as much spare room; of a model that reads content of events, also for as many numbers as an item's
    representation has, and ``event_neighbours`` for each modality. These record which items were seen, and ``explain``
    reads them again.

    Attributes:
        tracker: state of the interest tracker.
        interest: the interest after the last event, or before the first, ``[B, D]``.
        log: the events.
        length: number of events of each user, ``[B]``.
        latest: the latest known time of each user's events, ``[B]``, float64; -inf where none is known.
        model: hash of the model that made the state. Another model cannot use it.
        users: ids of the users; None for a user who is not in the data set.
        is_single: whether this is the state of a single user, not of a batch.

    Example:
        >>> state = recommender.start("u1", history=["i1", "i2"])
        >>> state
        UserState(user='u1', events=2)
        >>> batch = recommender.start(["u1", "u2"], history=[["i1"], ["i2", "i3"]])
        >>> batch, len(batch), batch[1]
        (UserState(users=2, events=3), 2, UserState(user='u2', events=2))
    """

    tracker: InterestState
    interest: Tensor
    log: EventLog
    length: Tensor
    latest: Tensor
    model: str
    users: tuple[str | None, ...]
    is_single: bool = False

    def __len__(self) -> int:
        """Number of users."""
        return len(self.interest)

    def __repr__(self) -> str:
        """One line: the user, or how many there are, and the number of events."""
        users = f"user={self.users[0]!r}" if self.is_single else f"users={len(self)}"
        return f"UserState({users}, events={int(self.length.sum())})"

    def __iter__(self) -> Iterator[UserState]:
        """The state of each user."""
        return (self[user] for user in range(len(self)))

    def __getitem__(self, user: int | slice) -> UserState:
        """The state of the user at a position, or the batch of a slice.

        Raises:
            IndexError: there is no such position.
        """
        chosen = torch.arange(len(self))[user]
        return self.select(chosen) if isinstance(user, slice) else replace(self.select(chosen[None]), is_single=True)

    def select(self, users: Tensor) -> UserState:
        """The batch of the users at some positions, ``[b]``, in this order.

        Example:
            >>> batch = recommender.start(["u1", "u2", "u3"])
            >>> batch.select(torch.tensor([2, 0])).users
            ('u3', 'u1')
        """
        on_device = users.to(self.interest.device)
        length = self.length[users]
        return UserState(
            self.tracker.select(on_device),
            self.interest[on_device],
            self.log.select(users, length),
            length,
            self.latest[users],
            self.model,
            tuple(self.users[user] for user in users.tolist()),
        )

    @property
    def tracker_size(self) -> tuple[int, int]:
        """Entries that the tracker carries on: of a tracker with attention, as many as the events it can see.

        Only users of one size can be a batch.
        """
        return self.tracker.carried.shape[0], self.tracker.past.shape[1]

    def per_user(self, results: list[Result]) -> PerUser[Result]:
        """Results of all users as a method gives them: the only one for a single user, a list for a batch.

        Example:
            >>> recommender.start("u1").per_user([5.0]), recommender.start(["u1"]).per_user([5.0])
            (5.0, [5.0])
        """
        return results[0] if self.is_single else results

    @property
    def items(self) -> Tensor:
        """Rows of the events' items in the catalog, ``[B, max(length)]``, padded with 0.

        Example:
            >>> state = recommender.start("u1", history=["i1", "i2"])
            >>> [recommender.items.tokens[row] for row in state.items[0]]
            ['i1', 'i2']
        """
        return self.events.items

    @property
    def times(self) -> Tensor:
        """Times of the events, ``[B, max(length)]``; NaN where a time is unknown, and as padding.

        Example:
            >>> recommender.start("u1", history=["i1", "i2"], at=[1.7e9, 1.8e9]).times.tolist()
            [[1700000000.0, 1800000000.0]]
        """
        return self.events.times

    @property
    def events(self) -> LoggedEvents:
        """The events, ``[B, max(length)]``.

        Example:
            >>> recommender.start("u1", history=["i1", "i2"]).events.count
            2
        """
        return self.log.first(self.length)


#: the former name
State = UserState


def join(states: Sequence[UserState]) -> UserState:
    """The batch of the users of several states, in their order.

    Raises:
        StateError: there are no states, they are of different models, or the tracker has attention and the histories
            differ in length.

    Example:
        >>> join([recommender.start("u1"), recommender.start("u2")])
        UserState(users=2, events=18)
    """
    _check_joinable(states)
    if len(states) == 1:
        return replace(states[0], is_single=False)
    lengths = [state.length for state in states]
    return UserState(
        InterestState.concat([state.tracker for state in states]),
        torch.cat([state.interest for state in states]),
        EventLog.concat([state.log for state in states], lengths),
        torch.cat(lengths),
        torch.cat([state.latest for state in states]),
        states[0].model,
        tuple(user for state in states for user in state.users),
    )


def _check_joinable(states: Sequence[UserState]) -> None:
    models = {state.model for state in states}
    if len(models) != 1:
        raise StateError(f"{len(states)} states of {len(models)} models cannot be joined: join states of one model")
    if len({state.tracker_size for state in states}) > 1:
        raise StateError(
            "states of a tracker with attention can be joined only if their histories have the same length"
        )
