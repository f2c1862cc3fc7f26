"""Converts tables into a data set: reads them, finds their columns, filters the events, writes, and says so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from recbole_llm_interest.conversion.columns import KnownIds, check_named, find_ids
from recbole_llm_interest.conversion.content import Content, modalities_of, read_content
from recbole_llm_interest.conversion.described import items_of_events
from recbole_llm_interest.conversion.events import EventRows, make_events
from recbole_llm_interest.conversion.filters import apply_filters
from recbole_llm_interest.conversion.options import Options, complete
from recbole_llm_interest.conversion.reports import count, report_of_content, report_of_events
from recbole_llm_interest.conversion.summary import Conversion
from recbole_llm_interest.conversion.tables import Table, take_table
from recbole_llm_interest.conversion.values import as_tokens
from recbole_llm_interest.conversion.wording import known_columns
from recbole_llm_interest.conversion.writing import dataset_folder, former_files, write_dataset
from recbole_llm_interest.errors import DataError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Conversion", "from_pandas"]


def from_pandas(
    events: Any,
    items: Any = None,
    users: Any = None,
    *,
    name: str | None = None,
    data_path: str | Path = "data",
    **options: Unpack[Options],
) -> Conversion:
    """Write a data set from tables of events, items and users.

    A table is a data frame of pandas or Polars, a table of Arrow, a Hugging Face ``Dataset``, a list of dictionaries,
    or the path of a CSV, TSV, JSON lines or Parquet file.

    Args:
        events: one row an event: a user, an item, a time and any other columns.
        items: one row an item: its id, and texts, paths of images and audio, or other columns.
        users: the same of users.
        name: of the data set; None for the file's name, if ``events`` is a path.
        data_path: the folder where the data set's folder is made.
        **options: as in ``Options``.

    Returns:
        What was done. ``print`` shows it; ``command`` is the command to run next.

    Raises:
        LLMInterestError: a table cannot be read, a column is missing or ambiguous, an option is invalid, or the data
            set exists or cannot be written. Nothing is written then.

    Example:
        >>> import tempfile
        >>> events = [{"user": 7, "item": "a", "time": "2014-01-01"}, {"user": 7, "item": "b", "time": "2014-01-02"}]
        >>> made = from_pandas(events, name="mine", data_path=tempfile.mkdtemp())
        >>> made.counts.events, made.counts.users, made.counts.items
        (2, 1, 2)
    """
    data_path = Path(os.path.expanduser(data_path))
    return _convert(events, {"item": items, "user": users}, _name(name, events), data_path, complete(options))


def _convert(events: Any, sources: Mapping[str, Any], name: str, data_path: Path, options: Options) -> Conversion:
    """Do the same with settled options and tables by kind.

    Raises:
        DataError: no event is left.
    """
    folder = dataset_folder(data_path, name, overwrite=options["overwrite"])
    table = take_table(events, "events", options)
    given = {kind: source for kind, source in sources.items() if source is not None}
    others = {kind: take_table(source, f"{kind}s", options) for kind, source in given.items()}
    _check_dropped(options["drop"], [table, *others.values()])
    found = make_events(table, options, {kind: _ids_by_name(other, kind, options) for kind, other in others.items()})
    if "item" not in others and (described := items_of_events(table, found)) is not None:
        others = {"item": described, **others}
    contents = {kind: _read_content(other, kind, found, options, folder) for kind, other in others.items()}
    reports = [report_of_events(table, found, former_files(folder, name, [*others]))]
    found.frame, removed = apply_filters(found.frame, options)
    if found.frame.empty:
        raise DataError(f"no event is left: {'; '.join(map(str, removed))}: give smaller numbers")
    written = write_dataset(folder, name, found, [*contents.values()])
    reports += [report_of_content(others[kind], content, found) for kind, content in contents.items()]
    counts = count(table.row_count, found.frame)
    modalities = modalities_of(contents.values())
    return Conversion(name, data_path, counts, reports, removed, written.files, written.obsolete, modalities)


def _name(name: str | None, events: Any) -> str:
    """Return the data set's name, by default that of the file of events.

    Raises:
        SettingsError: there is neither a name nor a file.
    """
    if name is not None:
        return name
    if not isinstance(events, str | Path):
        raise SettingsError("name is missing: name the data set, as in name='mine'")
    return Path(events).name.partition(".")[0]


def _check_dropped(dropped: Sequence[str], tables: Sequence[Table]) -> None:
    """Check that there is each column to leave out.

    Raises:
        SettingsError: a column is in none of the tables.
    """
    known = [column for table in tables for column in table.frame.columns]
    for column in dropped:
        if column not in known:
            raise SettingsError(f"drop={column!r}: no table has such a column: {known_columns(column, known)}")


def _ids_by_name(table: Table, kind: str, options: Options) -> KnownIds:
    """Return what finds the ids of a table of items or users by its columns' names; they are not always needed."""

    def known() -> pd.Index | None:
        try:
            return as_tokens(table.frame[_id_column(table, kind, options)]).categories
        except DataError:
            return None

    return known


def _id_column(table: Table, kind: str, options: Options, events: EventRows | None = None) -> str:
    """Return the column of ids of a table of items or users.

    It is the one that the option names, one with the name of the events' column, ``id``, one whose name says so, or one
    with ids of the events.
    """
    option = f"{kind}s_id"
    if (given := options[option]) is not None:  # type: ignore[literal-required]
        return check_named(table, given, option)
    columns = list(table.frame.columns)
    preferred = [events.columns[kind]] if events is not None else []
    for name in (*preferred, "id", "ID", "Id", "_id"):
        if name in columns:
            return name
    known = None if events is None else lambda: events.frame[f"{kind}_id"].cat.categories
    return find_ids(table, kind, option, options["drop"], known)


def _read_content(table: Table, kind: str, events: EventRows, options: Options, folder: Path) -> Content:
    """Return the content of items or users.

    Raises:
        DataError: it is of none of the events' items or users.
    """
    column = _id_column(table, kind, options, events)
    content = read_content(table, kind, column, options, folder / "content")
    tokens = events.frame[f"{kind}_id"].cat.categories
    if not tokens.isin(content.tokens).any():
        examples = f", such as {content.tokens[0]!r} and {tokens[0]!r}" if kind == "item" else ""  # users are not named
        raise DataError(
            f"{table.name} has none of the events' {kind}s: the ids of its column {column!r} and of the events' "
            f"{events.columns[kind]!r} differ{examples}: give its column of ids by {kind}s_id='column'"
        )
    return content
