"""Reads tables from files: CSV and TSV, JSON lines, all of them also compressed, and Parquet."""

from __future__ import annotations

import csv
import gzip
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import FileKind, open_regular, parse_json

if TYPE_CHECKING:
    import pandas as pd

_TABLE = FileKind("table", DataError, None, "give a CSV, TSV, JSON lines or Parquet file with named columns")
_SEPARATORS = ",\t;|"
_SKIPPED_LINE = re.compile(r"Skipping line (\d+): expected (\d+) fields, saw (\d+)")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")


@dataclass(frozen=True)
class Skipped:
    """Rows that are left out for one reason.

    Attributes:
        count: of the rows.
        reason: follows the count, as in "3 rows without a user".
        example: the first of them: its row or line, and what is wrong there.
    """

    count: int
    reason: str
    example: str = ""

    def __str__(self) -> str:
        rows = f"{self.count:,} {'row' if self.count == 1 else 'rows'} {self.reason}"
        return f"{rows} (the first: {self.example})" if self.example else rows


def read_table_file(path: Path, encoding: str) -> tuple[pd.DataFrame, list[Skipped]]:
    """Read a table by the ending of its name.

    Cells of CSV and TSV stay text: ``007`` is not 7, and ``NA`` is a word.

    Args:
        path: of the file.
        encoding: of text files.

    Returns:
        The rows, and the lines that are no rows.

    Raises:
        DataError: the format is unknown, or the file cannot be read.
    """
    suffix = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if (reader := _READERS.get(suffix.lower())) is None:
        raise DataError(
            f"{path} ends in {suffix or 'nothing'!r}: known are {', '.join(_READERS)}, all but .parquet also with .gz"
        )
    try:
        return reader(path, encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise _TABLE.error(f"{path} is not {encoding}: name its encoding, as in --encoding=latin-1") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _TABLE.refusal(path, f"is damaged: {error}") from error


def _read_separated(path: Path, encoding: str) -> tuple[pd.DataFrame, list[Skipped]]:
    import pandas as pd

    header = _first_line(path, encoding)
    separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", header).count)
    _check_header(path, next(csv.reader([header], delimiter=separator)))
    with (
        open_regular(path, _TABLE) as file,
        _progress(file, path) as bar,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                CallbackIOWrapper(bar.update, file),
                sep=separator,
                encoding=_with_mark(encoding),
                compression="gzip" if path.suffix == ".gz" else None,
                dtype="category",  # a column of a million rows has few distinct values, and each is interpreted once
                na_filter=False,
                on_bad_lines="warn",
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise _TABLE.refusal(path, f"cannot be read: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first columns for an index
        raise _TABLE.refusal(path, "has more fields in its rows than names in its first line")
    lines = [found for warning in caught for found in _SKIPPED_LINE.findall(str(warning.message))]
    if not lines:
        return frame, []
    number, expected, count = lines[0]
    reason = f"with another number of fields than the {expected} of the first line"
    return frame, [Skipped(len(lines), reason, f"line {number} has {count}")]


def _read_json_lines(path: Path, encoding: str) -> tuple[pd.DataFrame, list[Skipped]]:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        found, reason = _json_rows(line.decode(_with_mark(encoding) if number == 1 else encoding))
        rows += found
        wrong += [f"line {number}, {reason}"] if reason else []
    if wrong and len(wrong) >= len(rows):
        raise _TABLE.refusal(path, f"has {len(wrong):,} lines that are no JSON objects, such as {wrong[0]}")
    skipped = [Skipped(len(wrong), "that are no JSON objects", wrong[0])] if wrong else []
    return pd.DataFrame(rows, dtype=object), skipped


def _json_rows(line: str) -> tuple[list[dict[str, Any]], str]:
    """Return the objects of a line, which may be a list of them, and why there is none; empty for an empty line."""
    if not line.strip():
        return [], ""
    try:
        found = parse_json(line, long_integers=True)  # an id may be one
    except ValueError as error:
        return [], str(error)
    rows = found if isinstance(found, list) else [found]
    return (rows, "") if all(isinstance(row, dict) for row in rows) else ([], f"a {type(found).__name__}")


def _read_parquet(path: Path, encoding: str) -> tuple[pd.DataFrame, list[Skipped]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{path} needs pyarrow: pip install 'recbole_llm_interest[parquet]'") from error
    with open_regular(path, _TABLE) as file:
        try:
            return frame_of_arrow(parquet.read_table(file)), []
        except ArrowException as error:
            raise _TABLE.refusal(path, f"cannot be read: {error}") from error


def frame_of_arrow(table: Any) -> pd.DataFrame:
    """Return a table of Arrow as a data frame. Integers stay integers beside missing ones.

    Args:
        table: a ``pyarrow.Table``.
    """
    import pandas as pd
    from pyarrow.types import is_nested

    columns = [
        # pyarrow has no conversion of lists with Polars' type of text
        pd.Series(column.to_pylist(), dtype=object)
        if is_nested(column.type)
        else column.to_pandas(integer_object_nulls=True)
        for column in table.columns
    ]
    return pd.DataFrame(dict(enumerate(columns))).set_axis(table.column_names, axis=1)


#: what reads a file, by the ending of its name
_READERS: dict[str, Callable[[Path, str], tuple[pd.DataFrame, list[Skipped]]]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab"), _read_separated),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _read_json_lines),
    ".parquet": _read_parquet,
}


def _lines(path: Path) -> Iterator[bytes]:
    with open_regular(path, _TABLE) as file:
        yield from _unpacked(path, file)


def _unpacked(path: Path, file: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file


def _progress(file: BinaryIO, path: Path) -> tqdm[Any]:
    """Return a progress bar of a file's bytes, which shows if reading takes more than two seconds."""
    size = os.fstat(file.fileno()).st_size
    return tqdm(desc=path.name, total=size, unit="B", unit_scale=True, leave=False, delay=2)


def _first_line(path: Path, encoding: str) -> str:
    """Return the first line.

    Raises:
        DataError: the file is empty.
    """
    line = next(_lines(path), b"")
    if not line.strip():
        raise _TABLE.refusal(path, "is empty, or its first line is")
    return line.decode(_with_mark(encoding)).rstrip("\r\n")


def _check_header(path: Path, names: list[str]) -> None:
    """Check that the first line is no row of values, and that names differ.

    Raises:
        DataError: most of its fields are numbers, or two are the same.
    """
    if doubled := [name for number, name in enumerate(names) if name in names[:number]]:
        raise _TABLE.error(f"{path} has several columns {doubled[0]!r}: rename all but one")
    numbers = sum(bool(_NUMBER.fullmatch(name.strip('" '))) for name in names)
    if 2 * numbers > len(names):
        shown = ", ".join(names[:5])
        raise _TABLE.error(f"{path} has values in its first line ({shown}): add a first line with names of columns")


def _with_mark(encoding: str) -> str:
    """Return the encoding; for UTF-8 the one that skips a byte order mark."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
