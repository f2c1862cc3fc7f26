"""A SQLite file whose errors are one line, and whose writes are complete or absent after a kill."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from recbole_llm_interest.errors import DataError, StorageError
from recbole_llm_interest.io.files import make_folder
from recbole_llm_interest.io.opening import shown_path

#: SQLite takes a bounded number of parameters in one statement
_MOST_PARAMETERS = 500
#: how long a statement waits for other processes that write, s
_PATIENCE = 20.0


class SqliteFile:
    """A database in one file, with a version of its tables. One thread at a time uses it.

    Args:
        path: of the file; its folder is made.
        versions: statements that make the tables of each version from those of the one before, separated by ``;``.
        writes: whether it may be written to.

    Raises:
        StorageError: it cannot be written to.
        DataError: it is damaged, or of another version.

    Example:
        >>> from tempfile import mkdtemp
        >>> SqliteFile(Path(mkdtemp()) / "new.sqlite", ["create table facts(name text)"], writes=True).close()
    """

    def __init__(self, path: Path, versions: Sequence[str], *, writes: bool) -> None:
        self.path = path
        with self._explained():
            if not writes:
                self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
                return
            make_folder(path.parent)
            self._database = sqlite3.connect(path, _PATIENCE, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = wal", "synchronous = full", "secure_delete = on"):
                self._database.execute(f"pragma {setting}")
            with self._transaction():
                self._prepare(versions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prepare(self, versions: Sequence[str]) -> None:
        """Make the tables of a new file, or those that a former version lacks.

        Raises:
            DataError: it is of a later version, or of something else.
        """
        ((version,),) = self._database.execute("pragma user_version")
        ((tables,),) = self._database.execute("select count(*) from sqlite_master")
        if version > len(versions) or (tables and not version):
            raise DataError(f"{shown_path(self.path)} is of another version, or no stream: name another folder")
        for statements in versions[version:]:
            for statement in filter(str.strip, statements.split(";")):
                self._database.execute(statement)
        self._database.execute(f"pragma user_version = {len(versions)}")

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._explained():
            return self._database.execute(query, values).fetchall()

    def _rows_of(self, keys: Sequence[str], query: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        """The rows of a query for some keys, for which it has ``{}``, in parts that SQLite takes."""
        for start in range(0, len(keys), _MOST_PARAMETERS):
            part = keys[start : start + _MOST_PARAMETERS]
            yield from self._rows(query.format(", ".join("?" * len(part))), (*part, *values))

    def _empty_journal(self) -> None:
        """Remove deleted rows from the journal, too.

        Raises:
            StorageError: another process reads the file, so that former pages stay.
        """
        with self._explained():
            (is_busy, *_), *_ = self._database.execute("pragma wal_checkpoint(truncate)").fetchall()
        if is_busy:
            raise StorageError(f"{shown_path(self.path)} is read by another process: end it, and repeat the command")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write all of the ``with`` block, or nothing."""
        with self._explained():
            self._database.execute("begin immediate")
            try:
                yield
                self._database.execute("commit")
            except BaseException:
                if self._database.in_transaction:  # a full disk ends it by itself
                    self._database.execute("rollback")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one line what SQLite could not do.

        Raises:
            StorageError: it cannot write.
            DataError: the file is damaged.
        """
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(f"{shown_path(self.path)}: {error}: free some space, or name another folder") from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"{shown_path(self.path)} cannot be read: {error}: name another folder") from error
