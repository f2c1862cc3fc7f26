"""Takes tables from files and from other libraries as data frames of pandas."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm_interest.conversion.options import Options
from recbole_llm_interest.conversion.table_files import Skipped, frame_of_arrow, read_table_file
from recbole_llm_interest.conversion.values import as_numbers, has_containers
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import format_columns
from recbole_llm_interest.io.table_parts import PARQUET_REMEDY

if TYPE_CHECKING:
    import pandas as pd

#: names of an index without a name in files that pandas wrote
_UNNAMED = ("Unnamed: ", "__index_level_")


@dataclass
class Table:
    """A table that a user gave.

    Attributes:
        name: of the file, or what the table is, for messages.
        frame: its rows, with names of columns that are strings.
        folder: of the file; None for a table in memory.
        skipped: lines of the file that are no rows.
        left_out: columns without a name, and why they are not in the frame.
        remarks: on how the file was read.
    """

    name: str
    frame: pd.DataFrame
    folder: Path | None = None
    skipped: list[Skipped] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def row_count(self) -> int:
        """The number of rows, with the lines that are none."""
        return len(self.frame) + sum(lines.count for lines in self.skipped)


def take_table(source: Any, what: str, options: Options) -> Table:
    """Return a table of any of the kinds that are known.

    Args:
        source: a path; a data frame of pandas; a table of Arrow, Polars or another library with Arrow's PyCapsule
            interface; a Hugging Face ``Dataset``; a list of dictionaries; or a dictionary of columns.
        what: events, items or users.
        options: how text files are written.

    Raises:
        DataError: it is of another kind, cannot be read, or has no rows.

    Example:
        >>> from recbole_llm_interest.conversion.options import complete
        >>> take_table([{"user": 7, "item": "a"}], "events", complete({})).frame.columns.tolist()
        ['user', 'item']
    """
    if isinstance(source, str | Path):
        path = Path(os.path.expanduser(source))
        rows = read_table_file(path, options)
        table = Table(path.name, rows.frame, path.parent, rows.skipped, remarks=rows.remarks)
    else:
        table = Table(what, _as_frame(source, what))
    _settle_names(table)
    if table.frame.empty:
        raise DataError(f"{table.name} has no rows: give a table with a line of column names and rows below it")
    return table


def _as_frame(source: Any, what: str) -> pd.DataFrame:
    """Return a table in memory as a data frame.

    Raises:
        DataError: it is of an unknown kind.
    """
    import pandas as pd

    if isinstance(source, pd.DataFrame):  # an index with a name is a column
        return source.reset_index(drop=source.index.names == [None])
    if hasattr(source, "__arrow_c_stream__"):
        return _from_arrow(source, what)
    if _is_hugging_face(source):  # its own to_pandas makes floats of integers beside missing ones
        return frame_of_arrow(source.with_format("arrow")[:])
    if hasattr(source, "to_pandas"):
        return source.to_pandas()
    if isinstance(source, Mapping):
        return _from_columns(source, what)
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return pd.DataFrame.from_records(list(map(dict, source))).astype(object)
    raise DataError(
        f"{what} is a {type(source).__name__}: give a path, a table of pandas, Polars, Arrow or Hugging Face, "
        "or a list of dictionaries"
    )


def _is_hugging_face(source: Any) -> bool:
    """Whether it is a ``Dataset``, rather than a dictionary of such or a stream."""
    return hasattr(source, "with_format") and isinstance(getattr(source, "num_rows", None), int)


def _from_columns(source: Mapping[Any, Any], what: str) -> pd.DataFrame:
    """Return a dictionary of columns as a data frame.

    Raises:
        DataError: it is a dictionary of tables, as Hugging Face has it, or its columns have several lengths.
    """
    import pandas as pd

    if parts := [str(name) for name, part in source.items() if hasattr(part, "to_pandas")]:
        raise DataError(f"{what} has the parts {', '.join(parts)}: give one of them, such as dataset[{parts[0]!r}]")
    try:
        return pd.DataFrame(dict(source))
    except ValueError as error:
        raise DataError(f"{what} is a dictionary that is no table: {error}") from error


def _from_arrow(source: Any, what: str) -> pd.DataFrame:
    """Return a table of any library by Arrow's PyCapsule interface.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{what}: a {type(source).__name__} needs pyarrow: {PARQUET_REMEDY}") from error
    return frame_of_arrow(pyarrow.table(source))


def _settle_names(table: Table) -> None:
    """Make the names of columns strings, and leave out columns without a name: an index that was saved with the table.

    Raises:
        DataError: two columns have the same name.
    """
    frame = table.frame.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    is_unnamed = [not column.strip() or column.startswith(_UNNAMED) for column in frame.columns]
    for column, values in frame.loc[:, is_unnamed].items():
        if not _counts_rows(values):
            table.left_out[column] = "has no name: give it one to keep it"
    table.frame = frame.loc[:, [not unnamed for unnamed in is_unnamed]]
    names = table.frame.columns
    if doubled := names[names.duplicated()].tolist():
        raise DataError(
            f"{table.name} has several columns {doubled[0]!r}: rename all but one; it has {format_columns(names)}"
        )


def _counts_rows(values: pd.Series) -> bool:
    """Whether a column numbers the rows, from 0 or from 1."""
    numbers = None if has_containers(values) else as_numbers(values)
    return numbers is not None and any(
        np.array_equal(numbers, np.arange(first, first + len(numbers))) for first in (0, 1)
    )
