"""Makes the rows of ``.inter`` of a table of events."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.conversion.columns import (
    KnownIds,
    TimeColumn,
    check_named,
    find_ids,
    find_times,
    is_id_name,
    times_of,
)
from recbole_llm_interest.conversion.media import are_urls, modality_of
from recbole_llm_interest.conversion.options import Options
from recbole_llm_interest.conversion.table_files import Skipped
from recbole_llm_interest.conversion.tables import Table
from recbole_llm_interest.conversion.times import parse_times
from recbole_llm_interest.conversion.values import (
    MISSING_WORDS,
    as_numbers,
    as_tokens,
    clean_text,
    distinct,
    has_containers,
    is_blank,
)
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS

if TYPE_CHECKING:
    import pandas as pd

#: the token that RecBole gives to what is no item and no user
_PADDING = "[PAD]"
_LEADING_ZERO = re.compile(r"-?0\d")
_NOT_IN_NAMES = re.compile(r"[\s:]+")


@dataclass
class EventRows:
    """Events as ``.inter`` has them.

    Attributes:
        frame: with the columns user_id, item_id and timestamp, and others, in the order of time.
        kinds: the type of each column.
        columns: of the table, by what they became: user, item, time.
        time_meaning: what the times were recognised as.
        span: the first and the last time.
        left_out: columns that are not written, and why.
        skipped: rows that are left out.
    """

    frame: pd.DataFrame
    kinds: dict[str, str]
    columns: dict[str, str]
    time_meaning: str
    span: str
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def others(self) -> dict[str, str]:
        """The type of each column beside user, item and time."""
        return {name: kind for name, kind in self.kinds.items() if name not in ("user_id", "item_id", "timestamp")}

    def leave_out(self, name: str, column: str, reason: str) -> None:
        """Remove a column.

        Args:
            name: in the atomic file.
            column: in the table.
            reason: why, for the report.
        """
        del self.kinds[name], self.frame[name]
        self.left_out[column] = reason


def column_name(column: str) -> str:
    """Return the name in an atomic file of a table's column, where a colon and spaces would end it.

    Example:
        >>> column_name("Book Rating")
        'Book_Rating'
    """
    return _NOT_IN_NAMES.sub("_", column.strip())


def make_events(table: Table, options: Options, known: Mapping[str, KnownIds]) -> EventRows:
    """Return the events of a table, in the order of time.

    Args:
        table: one row an event.
        options: which columns are what.
        known: what finds the ids of the tables of items and users, by kind.

    Raises:
        DataError: a column is missing or ambiguous, most times are none, or no row can be used.
        SettingsError: an option names a column that is not there, or needs times that are not there.
    """
    columns, times = _find_columns(table, options, known)
    ids = {f"{kind}_id": as_tokens(table.frame[columns[kind]]) for kind in ("user", "item")}
    kept, skipped = _usable(table, columns, ids, times)
    if not kept.any():
        raise DataError(
            f"{table.name}: none of its {table.row_count:,} rows can be used: {'; '.join(map(str, skipped))}"
        )
    frame = table.frame.iloc[:, :0].assign(**ids)[kept]
    if times is None:
        frame["timestamp"] = frame.groupby("user_id", observed=True).cumcount().astype(float)
        meaning, span = (
            "no column of times: the order of the rows counts, and times are positions in a user's history",
            "",
        )
    else:
        frame["timestamp"] = times.times.seconds[kept]
        meaning, span = times.times.meaning, times.times.span
    made = EventRows(frame, {"user_id": "token", "item_id": "token", "timestamp": "float"}, columns, meaning, span)
    made.skipped += table.skipped + skipped
    made.left_out |= table.left_out
    _add_others(made, table.frame[kept], options["drop"])
    if times is not None:
        made.frame = made.frame.sort_values("timestamp", kind="stable")
    return made


def _add_others(made: EventRows, frame: pd.DataFrame, dropped: Collection[str]) -> None:
    """Add the columns beside user, item and time."""
    for column in frame.columns.difference([*made.columns.values()], sort=False):
        name = column_name(column)
        if column in dropped:
            kind, cells = "", "dropped"
        elif name in made.kinds:
            kind, cells = "", "has the name of another column"
        else:
            kind, cells = _as_column(frame[column])
        if kind:
            made.kinds[name], made.frame[name] = kind, cells
        else:
            made.left_out[column] = cells


def _find_columns(
    table: Table, options: Options, known: Mapping[str, KnownIds]
) -> tuple[dict[str, str], TimeColumn | None]:
    """Return the columns of users, items and times, and the times.

    Raises:
        SettingsError: users and items are one column, or there are no times to compare.
    """
    columns = {role: check_named(table, name, role) for role in ("user", "item", "time") if (name := options[role])}
    for role in ("user", "item"):
        if role not in columns:
            columns[role] = find_ids(table, role, role, {*columns.values(), *options["drop"]}, known.get(role))
    if columns["user"] == columns["item"]:
        raise SettingsError(f"{table.name}: {columns['user']!r} is given as the users' and as the items' column")
    if "time" in columns:
        return columns, times_of(table, columns["time"], options["time_format"])
    times = find_times(table, {*columns.values(), *options["drop"]}, options["time_format"])
    if times is None and options["deduplicate"] == "exact":
        raise SettingsError(
            f"deduplicate='exact' compares times, and {table.name} has none: name their column by time='column', or "
            "give deduplicate='consecutive'"
        )
    return (columns if times is None else {**columns, "time": times.name}), times


def _usable(
    table: Table, columns: dict[str, str], ids: Mapping[str, pd.Categorical], times: TimeColumn | None
) -> tuple[NDArray[np.bool_], list[Skipped]]:
    """Return which rows have a user, an item and a time, ``[R]``, and how many have not."""
    kept = np.ones(len(table.frame), dtype=bool)
    skipped = []

    def skip(is_wrong: NDArray[np.bool_], reason: str, column: str | None = None) -> None:
        rows = np.flatnonzero(is_wrong & kept)
        if len(rows):
            value = "" if column is None else f", {str(table.frame[column].iloc[rows[0]])[:80]!r}"
            skipped.append(Skipped(len(rows), reason, f"row {rows[0] + 1}{value}"))
            kept[rows] = False

    for kind in ("user", "item"):
        tokens = ids[f"{kind}_id"]
        lengths = np.append(tokens.categories.str.len().to_numpy(dtype=np.int64), 0)[tokens.codes]
        skip(lengths == 0, f"without {'a user' if kind == 'user' else 'an item'}")
        skip(tokens.isin(MISSING_WORDS), f"whose {kind} is a word for a missing value", columns[kind])
        skip(lengths > MAX_TOKEN_CHARACTERS, f"whose {kind} has more than {MAX_TOKEN_CHARACTERS} characters")
        skip(tokens == _PADDING, f"whose {kind} is {_PADDING}, which RecBole reserves")
    if times is not None:
        skip(~np.isfinite(times.times.seconds), f"without a time in {times.name!r}", times.name)
    return kept, skipped


def _as_column(values: pd.Series) -> tuple[str, Any]:
    """Return the type and the cells of a column beside user, item and time.

    If it is left out, the type is empty, and the reason is in place of the cells.
    """
    if values.dtype.kind == "M":
        return "float", parse_times(values).seconds
    if has_containers(values):
        return "", "lists or dictionaries"
    _, cells = distinct(values)
    if are_urls(cells):
        return "", "URLs"
    if modality := modality_of(cells):
        return "", f"files of {modality} of events, which are not read"
    return _as_numbers_or_words(values)


def _as_numbers_or_words(values: pd.Series) -> tuple[str, Any]:
    codes, cells = distinct(values)
    texts = ["" if is_blank(cell) else clean_text(str(cell)) for cell in cells]
    if not any(texts):
        return "", "empty"
    numbers = as_numbers(values)
    if numbers is not None and not _are_codes(str(values.name), texts, numbers):
        return "float", numbers
    kind = _kind_of_text(texts, len(values) if not is_id_name(str(values.name)) else 2 * len(texts))
    if kind == "token":
        return kind, as_tokens(values)
    words = np.append(np.array(texts, dtype=object), "")[codes]
    return (kind, words) if kind else ("", f"a word of more than {MAX_TOKEN_CHARACTERS} characters")


def _are_codes(name: str, texts: Sequence[str], numbers: NDArray[np.float64]) -> bool:
    """Whether numbers stand for something else: they are in a column of ids, or have leading zeros."""
    known = numbers[np.isfinite(numbers)]
    is_whole = bool((known == np.floor(known)).all())
    return is_whole and (is_id_name(name) or any(map(_LEADING_ZERO.match, texts)))


def _kind_of_text(texts: Sequence[str], row_count: int) -> str:
    """Return whether distinct texts are tokens or sequences of words; empty if a word is too long for RecBole."""
    is_short = max(map(len, texts)) <= MAX_TOKEN_CHARACTERS
    if is_short and (2 * len(texts) <= row_count or not any(" " in text for text in texts)):
        return "token"
    longest = max(len(word) for text in texts for word in text.split() or [""])
    return "token_seq" if longest <= MAX_TOKEN_CHARACTERS else ""
