"""What is known of users between two events: the tracker's state, the interest, and the events themselves."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from recbole_llm_interest.errors import StateError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.model.interest_tracker import InterestState

#: of the file; another one is refused
_FORMAT = 1
#: events for which a new log has room
_ROOM = 16


class EventLog:
    """Events of ``B`` users that successive states share: each state sees those up to its own lengths.

    An append takes constant time, since it writes behind what the states so far can see; where another state has
    written there already, or the room is used up, it copies.

    Attributes:
        items: their rows in the table of items, ``[B, C]``; 0 where there is none.
        times: when they were, ``[B, C]``, float64; NaN where that is not known.
    """

    def __init__(self, items: Tensor, times: Tensor, written: Tensor) -> None:
        self.items = items
        self.times = times
        self._written = written
        self._lock = threading.Lock()

    @classmethod
    def of(cls, items: Tensor, times: Tensor, length: Tensor) -> EventLog:
        """A log of these events, ``[B, L]``, of which each user has the first ``length``, ``[B]``."""
        room = items.shape[1] + max(items.shape[1], _ROOM)
        log = cls(items.new_zeros(len(items), room), times.new_full((len(items), room), torch.nan), length.clone())
        log.items[:, : items.shape[1]] = items
        log.times[:, : items.shape[1]] = times
        return log

    def append(self, length: Tensor, item: Tensor, time: Tensor) -> EventLog:
        """The log with one more event of each user behind their first ``length`` ones, all ``[B]``."""
        with self._lock:
            is_free = torch.equal(self._written, length) and int(length.max()) < self.items.shape[1]
            log = self if is_free else EventLog.of(*self.first(length), length)
            place = length[:, None]
            log.items.scatter_(1, place, item[:, None])
            log.times.scatter_(1, place, time[:, None])
            log._written = length + 1
        return log

    def last_time(self, length: Tensor) -> Tensor:
        """When the last of each user's first ``length`` events was, ``[B]``; NaN if unknown, -inf without events."""
        last = self.times.gather(1, (length - 1).clamp(min=0)[:, None]).squeeze(1)
        return last.where(length > 0, -torch.inf)

    def first(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Items and times of each user's first ``length`` events, ``[B, max(length)]``."""
        longest = int(length.max())
        is_behind = torch.arange(longest) >= length[:, None]
        items, times = self.items[:, :longest], self.times[:, :longest]
        return items.masked_fill(is_behind, 0), times.masked_fill(is_behind, torch.nan)


@dataclass(frozen=True)
class State:
    """What is known of ``B`` users between two events. It never changes: an event makes a new one.

    Its size does not depend on the history, but for 16 bytes an event, and as many to grow into: they say what has been
    seen, and let an explanation go through the history again.

    Attributes:
        tracker: what the tracker carries on.
        interest: after the last event, or before the first, ``[B, D]``.
        log: the events.
        length: how many there are of each user, ``[B]``.
        latest: the latest time of each user's events, ``[B]``, float64; -inf where none is known.
        model: a hash of the model that made it; no other can go on from it.
    """

    tracker: InterestState
    interest: Tensor
    log: EventLog
    length: Tensor
    latest: Tensor
    model: str

    def __len__(self) -> int:
        return len(self.interest)

    def __getitem__(self, row: int) -> State:
        """The state of one user."""
        return self.select(torch.tensor([row]))

    def select(self, rows: Tensor) -> State:
        """The state of some users, ``[b]`` of the ``B``."""
        at = rows.to(self.interest.device)
        user = self.tracker.user
        tracker = InterestState(self.tracker.carried[:, at], self.tracker.past[at], None if user is None else user[at])
        length = self.length[rows]
        items, times = self.log.items[rows], self.log.times[rows]
        log = EventLog.of(*EventLog(items, times, length).first(length), length)
        return State(tracker, self.interest[at], log, length, self.latest[rows], self.model)

    @property
    def items(self) -> Tensor:
        """Their events' rows in the table of items, ``[B, max(length)]``; 0 behind the end."""
        return self.log.first(self.length)[0]

    @property
    def times(self) -> Tensor:
        """When those were, ``[B, max(length)]``; NaN where that is not known, and behind the end."""
        return self.log.first(self.length)[1]


def join(states: Sequence[State]) -> State:
    """One state of the users of several.

    Raises:
        StateError: they are of different models, or there are none.
    """
    if len({state.model for state in states}) != 1:
        raise StateError(f"{len(states)} states of {len({state.model for state in states})} models cannot be joined")
    if len(states) == 1:
        return states[0]
    length = torch.cat([state.length for state in states])
    longest = int(length.max())
    items, times = (
        torch.cat([F.pad(part, (0, longest - part.shape[1]), value=nothing) for part in parts])
        for parts, nothing in (([s.items for s in states], 0), ([s.times for s in states], torch.nan))
    )
    trackers = [state.tracker for state in states]
    users = [tracker.user for tracker in trackers if tracker.user is not None]
    # where the tracker carries or keeps as many rows as there were events, users of unlike histories differ in number
    carried = {tracker.carried.shape[0] for tracker in trackers}
    past = {tracker.past.shape[1] for tracker in trackers}
    if len(carried) > 1 or len(past) > 1:
        raise StateError("states with attention can be joined only while their histories are of the same length")
    return State(
        InterestState(
            torch.cat([tracker.carried for tracker in trackers], dim=1),
            torch.cat([tracker.past for tracker in trackers]),
            torch.cat(users) if users else None,
        ),
        torch.cat([state.interest for state in states]),
        EventLog.of(items, times, length),
        length,
        torch.cat([state.latest for state in states]),
        states[0].model,
    )


def save_state(state: State, path: Path, tokens: Sequence[str], users: Sequence[str] | None = None) -> None:
    """Write a state as safetensors, with what it says of itself as JSON in the file's metadata.

    Args:
        state: of ``B`` users.
        path: the file.
        tokens: of the items, by row of their table.
        users: the users' names, to be found by again; none for numbers.

    Raises:
        StorageError: the file cannot be written; what was there before is still there.
    """
    vocabulary, items = torch.unique(state.items, return_inverse=True)
    described = {
        "format": _FORMAT,
        "model": state.model,
        "users": list(map(str, range(len(state)) if users is None else users)),
        "items": [tokens[row] if row else None for row in vocabulary.tolist()],
    }
    tensors = {
        "carried": state.tracker.carried,
        "past": state.tracker.past,
        "interest": state.interest,
        "length": state.length,
        "latest": state.latest,
        "items": items.view(len(state), -1).int(),
        "times": state.times,
    }
    if state.tracker.user is not None:
        tensors["user"] = state.tracker.user
    tensors = {name: values.cpu().contiguous() for name, values in tensors.items()}
    words = json.dumps(described)
    data = save(tensors, {"state": words, "sha256": _digest(words, tensors)})
    write_atomically(path, lambda file: file.write(data), "name another file for the state")


def load_state(path: Path, model: str, rows: dict[str, int], device: torch.device) -> tuple[State, list[str]]:
    """Read a state that ``save_state`` wrote, and its users' names.

    Args:
        path: the file.
        model: the hash of the model that is to go on from it.
        rows: the items' rows in their table, by token.
        device: of the model.

    Raises:
        StateError: it is missing, damaged, of another model, or knows items that the table does not.
    """
    described, tensors = _read(path)
    if described["format"] != _FORMAT:
        raise StateError(f"state {path} is of format {described['format']}, and this version reads {_FORMAT}")
    if described["model"] != model:
        raise StateError(
            f"state {path} is of another model ({str(described['model'])[:12]}, not {model[:12]}): load the checkpoint "
            "that made it, or start anew from the user's history"
        )
    unknown = [token for token in described["items"] if token is not None and token not in rows]
    if unknown:
        raise StateError(f"state {path} knows item {unknown[0]!r}, which is not there: add it before loading the state")
    vocabulary = torch.tensor([0 if token is None else rows[token] for token in described["items"]], dtype=torch.long)
    length = tensors["length"]
    user = tensors.get("user")
    tracker = InterestState(
        tensors["carried"].to(device), tensors["past"].to(device), None if user is None else user.to(device)
    )
    log = EventLog.of(vocabulary[tensors["items"].long()], tensors["times"], length)
    state = State(tracker, tensors["interest"].to(device), log, length, tensors["latest"], model)
    return state, described["users"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise StateError(f"state {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        is_whole = metadata.get("sha256") == _digest(metadata["state"], tensors)
        described: dict[str, Any] = json.loads(metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StateError(f"state {path} is damaged, or not one that this package wrote") from error
    if not is_whole:
        raise StateError(f"state {path} is damaged: it is not what was written")
    return described, tensors


def _digest(words: str, tensors: Mapping[str, Tensor]) -> str:
    hashed = hashlib.sha256(words.encode())
    for _, values in sorted(tensors.items()):
        hashed.update(values.numpy().tobytes())
    return hashed.hexdigest()
