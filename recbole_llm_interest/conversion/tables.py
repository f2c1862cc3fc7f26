"""Takes tables from files and from other libraries as data frames of pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_llm_interest.conversion.table_files import Skipped, frame_of_arrow, read_table_file
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import format_columns

if TYPE_CHECKING:
    import pandas as pd

#: names of an index without a name in files that pandas wrote
_UNNAMED = ("Unnamed: ", "__index_level_")
#: how to install what reads Parquet and tables of Arrow
PARQUET_REMEDY = "pip install 'recbole_llm_interest[parquet]'"


@dataclass
class Table:
    """A table that a user gave.

    Attributes:
        name: of the file, or what the table is, for messages.
        frame: its rows, with names of columns that are strings.
        folder: of the file; None for a table in memory.
        skipped: lines of the file that are no rows.
    """

    name: str
    frame: pd.DataFrame
    folder: Path | None = None
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def row_count(self) -> int:
        """The number of rows, with the lines that are none."""
        return len(self.frame) + sum(lines.count for lines in self.skipped)


def take_table(source: Any, what: str, encoding: str) -> Table:
    """Return a table of any of the kinds that are known.

    Args:
        source: a path; a data frame of pandas; a table of Arrow, Polars or another library with Arrow's PyCapsule
            interface; a Hugging Face ``Dataset``; a list of dictionaries; or a dictionary of columns.
        what: events, items or users.
        encoding: of text files.

    Raises:
        DataError: it is of another kind, cannot be read, or has no rows.

    Example:
        >>> take_table([{"user": 7, "item": "a"}], "events", "utf-8").frame.columns.tolist()
        ['user', 'item']
    """
    if isinstance(source, str | Path):
        path = Path(source)
        frame, skipped = read_table_file(path, encoding)
        table = Table(path.name, _with_plain_names(frame, path.name), path.parent, skipped)
    else:
        table = Table(what, _with_plain_names(_as_frame(source, what), what))
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


def _with_plain_names(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the frame with names that are strings, without an index that was saved as a column without a name.

    Raises:
        DataError: two columns have the same name.
    """
    frame = frame.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    unnamed = [column for column in frame.columns if not column.strip() or column.startswith(_UNNAMED)]
    frame = frame.drop(columns=unnamed)
    if doubled := frame.columns[frame.columns.duplicated()].tolist():
        raise DataError(f"{name} has several columns {doubled[0]!r}: rename all but one; it has {_names(frame)}")
    return frame


def _names(frame: pd.DataFrame) -> str:
    return format_columns(frame.columns)
