"""States outside the memory of a recommender: in files, or as bytes for a store of one's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.recommender import inputs
from recbole_llm_interest.recommender.inputs import Id, Ids, TimeUnit
from recbole_llm_interest.recommender.live_model import LiveModel, version
from recbole_llm_interest.recommender.open_catalog import OpenCatalog
from recbole_llm_interest.recommender.state_file import load_state, read_state, save_state, state_bytes
from recbole_llm_interest.recommender.state_updates import StateUpdates
from recbole_llm_interest.recommender.trained import Trained
from recbole_llm_interest.recommender.user_inputs import UserInput
from recbole_llm_interest.recommender.user_state import UserState

#: stands for the file in messages about bytes
_NO_FILE = Path("of bytes")


class StateStorage(OpenCatalog):
    """Writes and reads states of users.

    Attributes:
        users: rows of the data set's users, by id.
        version: hash of the model, which states carry.

    Args:
        trained: the model with its items and users.

    Example:
        >>> state = recommender.start("u1", history=["i1"])
        >>> recommender.from_bytes(recommender.to_bytes(state, users=["u1"]))
        UserState(user='u1', events=1)
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        self._trained = trained
        self.users = trained.users
        self.version = version(trained.model, trained.tokens)
        self._live = LiveModel(trained.model, self.items, trained.max_length)
        self._states = StateUpdates(trained, self._live, self.version)

    @property
    def time_unit(self) -> TimeUnit:
        """Unit of the data set's times since 1970; None if they are on another scale, or unknown."""
        return self._trained.time_unit

    @property
    def dataset(self) -> str | None:
        """Name of the data set that the model was trained on; None if it is unknown."""
        return None if self._trained.origin is None else self._trained.origin.dataset

    def record_store(self, path: Path) -> None:
        """Record a file of events and states beside the checkpoint, so that ``forget`` finds it."""
        self._trained.record("event store", [path])

    def save(self, state: UserState, path: str | Path, users: Sequence[Id] | None = None) -> None:
        """Write a state to a file, with these ids of its users; None for their positions, which identify nobody.

        Raises:
            StorageError: the file cannot be written; a former file of that name stays intact.
        """
        inputs.check_state(state, self.version, "save")
        self._trained.record("user state", [Path(path)])
        save_state(state, Path(path), self.items.tokens, users, self._trained.data)

    def restore(self, path: str | Path) -> UserState:
        """Read a state from a file.

        Raises:
            StateError: the file is missing, damaged or of another model, or has items that the catalog lacks.

        Example:
            >>> recommender.save(recommender.start("u1", history=["i1"]), folder / "state", users=["u1"])
            >>> recommender.restore(folder / "state")
            UserState(user='u1', events=1)
        """
        return load_state(Path(path), self.version, *self._fits())

    def to_bytes(self, state: UserState, users: Sequence[Id] | None = None) -> bytes:
        """What ``save`` writes, for a store of one's own. ``forget`` does not know that store."""
        inputs.check_state(state, self.version, "to_bytes")
        return state_bytes(state, self.items.tokens, users, self._trained.data)

    def from_bytes(self, data: bytes) -> UserState:
        """The state that ``to_bytes`` has returned.

        Raises:
            StateError: the bytes are damaged or of another model, or have items that the catalog lacks.
        """
        return read_state(data, _NO_FILE, self.version, *self._fits())

    def _fits(self) -> tuple[Any, ...]:
        """What a state has to fit: rows of items, the tracker, and the width of what is known of an event."""
        return self.items.all_rows, self._live.model.tracker, self._live.content_size

    def known_columns(self, columns: Mapping[str, Any], kind: EventKind = "event") -> dict[str, Any]:
        """Those columns of an event that the model reads; of the kind ``context``, what it reads before a choice.

        Example:
            >>> recommender.known_columns({"price": 5})
            {}
        """
        reader = self._trained.event_readers.get(kind)
        return {} if reader is None else reader.known(columns)

    def start_each(self, users: Ids, new: Collection[str] = ()) -> list[UserState]:
        """The state of each of several users, who may have histories of any length.

        Args:
            users: ids. Those in the data set start with their recorded events, others without any.
            new: those of them who start without any, and without a profile, even if they are in the data set.

        Example:
            >>> recommender.start_each(["u1", "somebody new"])
            [UserState(user='u1', events=9), UserState(user=None, events=0)]
        """
        ids = inputs.read_ids(users, "users")
        given = [
            UserInput(user, None, None, None)
            if user in self.users and user not in new
            else UserInput(None, None, [], None)
            for user in ids
        ]
        found: dict[int, UserState] = {}
        for positions, batch in self._states.start_batches(given):
            found.update(zip(positions, batch, strict=True))
        return [found[position] for position in range(len(ids))]
