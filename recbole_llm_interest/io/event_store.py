"""The events of users, their states, and how far a stream of events has been read, in one SQLite file.

A batch of events is one transaction: after a kill, the file has all of it or nothing, so that reading goes on where the
file says it ended. Lines that could not be read go to a text file beside it, whose length is part of the transaction.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.files import storage_error
from recbole_llm_interest.io.opening import FileKind, parse_json
from recbole_llm_interest.io.sqlite_file import SqliteFile

#: names of the files in a stream's folder
EVENTS, DEAD_LETTERS, EVALUATION = "events.sqlite", "dead_letters.jsonl", "evaluation.json"
#: stands for standard input in place of a file's name
STANDARD_INPUT = "-"
#: what a stream is read from
EVENT_LINES = FileKind("events", DataError, None, "name a file of JSON lines, or - for standard input")
#: means over evaluated events, all of them and those of each window
EVALUATION_FILE = FileKind("evaluation", DataError, 500_000_000, "give the folder that llm-interest follow wrote")
#: tables of the first version, and what the second one adds
_VERSIONS = (
    """
create table facts(name text primary key, value text not null) without rowid;
create table events(
    number integer primary key autoincrement, user text not null, item text not null, time real, columns text,
    rank integer, key text unique
);
create index events_of_user on events(user);
create index evaluated on events(number) where rank is not null;
create table states(user text primary key, model text not null, data blob not null);
""",
    """
create table forgotten(user text primary key) without rowid;
create table catalog_changes(number integer primary key autoincrement, item text not null, content text);
""",
)


class StoredEvent(NamedTuple):
    """One event.

    Attributes:
        user: id.
        item: id.
        time: in the data set's unit; None if it is unknown.
        columns: all else that is given of it, by column.
        rank: of the item among all before the event, from 1 on; 0 beyond the list, None if it was not evaluated.
        key: names the event, so that it is read once however often it is sent; None without such a name.
    """

    user: str
    item: str
    time: float | None = None
    columns: Mapping[str, Any] | None = None
    rank: int | None = None
    key: str | None = None


@dataclass
class EventBatch:
    """What one transaction writes.

    Attributes:
        source: names what is read; each has a position of its own.
        position: how far it has been read.
        events: in their order.
        states: of users after them.
        model: version of the model that made the states.
        dead_letters: lines of JSON about lines that cannot be read.
    """

    source: str
    position: str
    model: str
    events: list[StoredEvent] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)


class EventStore(SqliteFile):
    """Events, states, and facts such as the position of reading. One process writes; others may read.

    Where several processes write, see ``SharedEventStore``.

    Args:
        folder: of the files; it is made.
        writes: whether it may be written to.

    Raises:
        StorageError: it cannot be written to.
        DataError: its file is damaged, or of another version.

    Example:
        >>> from tempfile import mkdtemp
        >>> store = EventStore(Path(mkdtemp()))
        >>> state = {"u1": b"state"}
        >>> store.write(EventBatch("a file", "line 1", "model", [StoredEvent("u1", "i1", 5.0)], state))
        >>> store.position("a file"), store.event_count, store.states(["u1", "u2"], "model")
        ('line 1', 1, {'u1': b'state'})
        >>> store.states(["u1"], "another model")
        {}
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        super().__init__(folder / EVENTS, _VERSIONS, writes=writes)
        self.dead_letters = folder / DEAD_LETTERS
        if writes:
            self._cut_dead_letters()

    # --- facts

    def fact(self, name: str) -> Any:
        """A named value that is no event, as JSON has it; None without one."""
        found = self._rows("select value from facts where name = ?", (name,))
        return parse_json(found[0][0]) if found else None

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write named values together.

        Raises:
            StorageError: the file cannot be written.
        """
        with self._transaction():
            for name, value in facts.items():
                self._put(name, value)

    def position(self, source: str) -> str | None:
        """How far a source has been read; None before its first batch."""
        position: str | None = self.fact(f"position in {source}")
        return position

    # --- events and states

    def write(self, batch: EventBatch) -> None:
        """Write a batch, or nothing of it.

        Raises:
            StorageError: a file cannot be written.
            DataError: the file is damaged.
        """
        written = self._append_dead_letters(batch.dead_letters)
        with self._transaction():
            for event in batch.events:
                self._insert(event)
            self._insert_states(batch.states, batch.model)
            self._put(f"position in {batch.source}", batch.position)
            self._put("dead letter bytes", written)

    def _insert(self, event: StoredEvent) -> int:
        """Insert an event, and return its number."""
        columns = None if event.columns is None else json.dumps(event.columns)
        statement = "insert into events(user, item, time, columns, rank, key) values (?, ?, ?, ?, ?, ?)"
        inserted = self._database.execute(statement, (*event[:3], columns, event.rank, event.key))
        return int(inserted.lastrowid or 0)

    def _insert_states(self, states: Mapping[str, bytes], model: str) -> None:
        rows = [(user, model, data) for user, data in states.items()]
        self._database.executemany("insert or replace into states values (?, ?, ?)", rows)

    @property
    def event_count(self) -> int:
        """Number of the last event; events are numbered from 1 on, and a number is not used again."""
        return self._last_number("events")

    def _last_number(self, table: str) -> int:
        found = self._rows("select seq from sqlite_sequence where name = ?", (table,))
        return int(found[0][0]) if found else 0

    @property
    def ranks(self) -> list[int]:
        """Ranks of the evaluated events, in their order."""
        return [rank for (rank,) in self._rows("select rank from events where rank is not null order by number")]

    def events(self, after: int = 0, until: int | None = None) -> Iterator[StoredEvent]:
        """Events by their numbers: those after one, up to another; None for the last."""
        last = self.event_count if until is None else until
        query = "select user, item, time, columns, rank, key from events where number > ? and number <= ?"
        return map(_event, self._database.execute(f"{query} order by number", (after, last)))

    def events_of(self, users: Sequence[str], after: int) -> dict[str, list[StoredEvent]]:
        """Events of some users after that of a number, by user; users without any are left out."""
        found: dict[str, list[StoredEvent]] = {}
        query = "select user, item, time, columns, rank, key from events where user in ({}) and number > ?"
        for row in self._rows_of(users, f"{query} order by number", (after,)):
            found.setdefault(row[0], []).append(_event(row))
        return found

    def states(self, users: Sequence[str], model: str) -> dict[str, bytes]:
        """States of some users, as far as there are any of this version of the model."""
        query = "select user, data from states where user in ({}) and model = ?"
        return dict(self._rows_of(users, query, (model,)))

    def forgotten(self, users: Sequence[str]) -> set[str]:
        """Those of some users who were deleted here, so that recorded events of theirs are not used again."""
        digests = {digest_of(user): user for user in users}
        found = self._rows_of([*digests], "select user from forgotten where user in ({})")
        return {digests[digest] for (digest,) in found}

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of some names of events that an event has."""
        return {key for (key,) in self._rows_of(keys, "select key from events where key in ({})")}

    def forget(self, users: Collection[str] = (), items: Collection[str] = ()) -> int:
        """Delete events and states of users, and events of items with all states, which are made again.

        Returns:
            The number of deleted events and states.

        Raises:
            StorageError: the file cannot be written, or another process reads it, so that former pages stay.
        """
        before = self._database.total_changes
        with self._transaction():
            for user in users:
                self._database.execute("delete from states where user = ?", (user,))
                self._database.execute("delete from events where user = ?", (user,))
            for item in items:
                self._database.execute("delete from events where item = ?", (item,))
                self._database.execute("delete from catalog_changes where item = ?", (item,))
            if items:  # any of them may have it among recorded events; they are made again from what is left
                self._database.execute("delete from states")
        deleted = self._database.total_changes - before
        self._empty_journal()
        return deleted

    def _put(self, name: str, value: Any) -> None:
        self._database.execute("insert or replace into facts values (?, ?)", (name, json.dumps(value)))

    # --- lines that cannot be read

    def _append_dead_letters(self, lines: Iterable[str]) -> int:
        """Append lines, and return how long the file is then."""
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self.dead_letters.open("ab") as file:
                file.write(data)
                file.flush()
                if data:
                    os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise storage_error(self.dead_letters, error) from error

    def _cut_dead_letters(self) -> None:
        """Remove lines of a batch that was not written to its end."""
        written = self.fact("dead letter bytes") or 0
        size = self.dead_letters.stat().st_size if self.dead_letters.exists() else 0
        if size > written:
            os.truncate(self.dead_letters, written)
        elif size < written:  # ``forget`` has removed some
            self.write_facts({"dead letter bytes": size})


def digest_of(user: str) -> str:
    """Stands for a deleted user, whose id is not kept."""
    return hashlib.sha256(user.encode()).hexdigest()


def _event(row: Sequence[Any]) -> StoredEvent:
    user, item, time, columns, rank, key = row
    return StoredEvent(user, item, time, None if columns is None else parse_json(columns), rank, key)
