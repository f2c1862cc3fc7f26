"""Where a service keeps events, states and changes of the catalog: one interface, and what it is chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.io.shared_event_store import Append, Appended, CatalogChange, SharedEventStore

#: names the store that ends with the service
MEMORY = "memory"


class ServingStore(Protocol):
    """Events, states and changes of the catalog. Several processes may write one store at the same time.

    Numbers of events and of changes grow, and are not used again. See ``SharedEventStore`` for each method.
    """

    @property
    def catalog_number(self) -> int:
        """Number of the last change of the catalog; 0 without one."""

    def close(self) -> None:
        """Close files and connections."""

    def states(self, users: Sequence[str], model: str) -> dict[str, bytes]:
        """States of some users, as far as there are any of this version of the model."""

    def events_of(self, users: Sequence[str], after: int) -> dict[str, list[StoredEvent]]:
        """Events of some users after that of a number, by user."""

    def forgotten(self, users: Sequence[str]) -> set[str]:
        """Those of some users who were deleted."""

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of some names of events that an event has."""

    def last_numbers(self, users: Sequence[str]) -> dict[str, int]:
        """Number of the last event of each user; 0 without one."""

    def append(self, new: Append) -> Appended:
        """Store events and states of those users of whom the store has what was seen."""

    def delete_user(self, user: str) -> int:
        """Delete the events and the state of a user, and remember that; returns how many."""

    def catalog_changes(self, after: int) -> list[tuple[int, CatalogChange]]:
        """Changes of the catalog after that of a number, with their numbers."""

    def change_catalog(self, change: CatalogChange, seen: int) -> int | None:
        """Store a change of the catalog, and return its number; None if there are others than were seen."""


def check_store(address: str, workers: int) -> None:
    """Check an address without opening it.

    Args:
        address: ``memory``, a folder, or ``redis://HOST:PORT/0?stream=NAME``.
        workers: number of processes that are to use the store.

    Raises:
        SettingsError: it names no store, a package is missing, or several processes cannot share it.
    """
    if not address:
        raise SettingsError("command line: --store is empty: give a folder, redis://… or memory")
    if address == MEMORY and workers > 1:
        raise SettingsError(
            f"command line: --store=memory is of one process, and --workers={workers}: give a folder or redis://…"
        )
    if RedisAddress.is_one(address):
        RedisAddress.parse(address)


def open_store(address: str) -> ServingStore:
    """Open the store at an address; a folder is made.

    Raises:
        LLMInterestError: it cannot be used.
    """
    if address == MEMORY:
        from recbole_llm_interest.serving.memory_store import MemoryStore

        return MemoryStore()
    if RedisAddress.is_one(address):
        from recbole_llm_interest.serving.redis_store import RedisStore  # its package is an extra

        return RedisStore(RedisAddress.parse(address))
    return SharedEventStore(Path(address))


def stores_in_folder(address: str) -> bool:
    """Whether an address names a folder."""
    return address != MEMORY and not RedisAddress.is_one(address)
