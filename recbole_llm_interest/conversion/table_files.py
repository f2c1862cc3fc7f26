"""Reads tables from files: CSV and TSV, JSON lines, both also compressed, Parquet, and saved Hugging Face datasets."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from recbole_llm_interest.conversion.options import Options
from recbole_llm_interest.conversion.values import distinct
from recbole_llm_interest.conversion.wording import counted
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat
from recbole_llm_interest.io.opening import FileKind, is_folder, is_there, open_regular, parse_json, read_json
from recbole_llm_interest.io.table_parts import PARQUET_REMEDY

if TYPE_CHECKING:
    import pandas as pd

_TABLE = FileKind("table", DataError, None, "give a CSV, TSV, JSON lines or Parquet file with named columns")
_SAVED_DATASET = FileKind(
    "saved dataset", DataError, 100_000_000, "give a file, or a folder that save_to_disk of Hugging Face has written"
)
_SEPARATORS = ",\t;|"
_QUOTING: dict[str, Any] = {"minimal": csv.QUOTE_MINIMAL, "none": csv.QUOTE_NONE}
_SKIPPED_LINE = re.compile(r"Skipping line (\d+): expected (\d+) fields, saw (\d+)")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
_WITHOUT_QUOTES = "if quotes in this file are characters, give quoting='none'"


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
        rows = f"{counted(self.count, 'row')} {self.reason}"
        return f"{rows} (the first: {self.example})" if self.example else rows


@dataclass(frozen=True)
class FileRows:
    """What a file has.

    Attributes:
        frame: the rows.
        skipped: the lines that are no rows.
        remarks: on rows that may have been read otherwise than they were meant.
    """

    frame: pd.DataFrame
    skipped: list[Skipped] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def read_table_file(path: Path, options: Options) -> FileRows:
    """Read a table by the ending of its name; a folder is one that ``save_to_disk`` of Hugging Face has written.

    Cells of CSV and TSV stay text: ``007`` is not 7, and ``NA`` is a word.

    Args:
        path: of the file.
        options: ``encoding`` and ``quoting`` of text files.

    Raises:
        DataError: the format is unknown, or the file cannot be read.
    """
    if is_folder(path):
        return _read_saved_dataset(path)
    suffix = Path(path.stem).suffix if _is_gzip(path) else path.suffix
    reader = _READERS.get(suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} ends in {suffix or path.suffix or 'nothing'!r}: known are {', '.join(_READERS)}, "
            "all but .parquet also with .gz"
        )
    if reader is _read_parquet and _is_gzip(path):
        raise DataError(f"{path} is Parquet inside of gzip: unpack it by gunzip, and give the .parquet file")
    try:
        return reader(path, options)
    except UnicodeError as error:
        raise _TABLE.error(
            f"{path} is not {options['encoding']}: name its encoding, as in encoding='latin-1' or encoding='utf-16'"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _TABLE.refusal(path, f"is damaged: {error}") from error


def _read_separated(path: Path, options: Options) -> FileRows:
    import pandas as pd

    quoting = _QUOTING[options["quoting"]]
    header = _first_line(path, options["encoding"])
    separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", header).count)
    _check_header(path, next(csv.reader([header], delimiter=separator, quoting=quoting)))
    with _opened_text(path, options["encoding"]) as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                file,
                sep=separator,
                quoting=quoting,
                dtype="category",  # a column of a million rows has few distinct values, and each is interpreted once
                na_filter=False,
                on_bad_lines="warn",
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            hint = f" ({_WITHOUT_QUOTES})" if "EOF inside string" in str(error) else ""
            raise _TABLE.refusal(path, f"cannot be read: {error}{hint}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first columns for an index
        raise _TABLE.refusal(path, "has more fields in its rows than names in its first line")
    lines = [found for warning in caught for found in _SKIPPED_LINE.findall(str(warning.message))]
    return FileRows(frame, _skipped_lines(lines), _line_ends_in_quotes(frame))


def _skipped_lines(lines: list[tuple[str, str, str]]) -> list[Skipped]:
    """Count lines of which each is given by its number, the number of fields it should have, and that it has."""
    if not lines:
        return []
    number, expected, count = lines[0]
    reason = f"with another number of fields than the {expected} of the first line"
    return [Skipped(len(lines), reason, f"line {number} has {count}")]


def _line_ends_in_quotes(frame: pd.DataFrame) -> list[str]:
    """Count the lines that a quote has made part of a cell: a single one at the start of a cell swallows rows."""
    counts = np.zeros(len(frame), dtype=np.int64)
    for name in frame:
        codes, values = distinct(frame[name])
        counts += np.array([*(value.count("\n") for value in values), 0])[codes]
    if not counts.any():
        return []
    ends = f"{counted(int(counts.sum()), 'line end')} inside of quotes (the first: row {np.argmax(counts > 0) + 1})"
    return [f"{ends}: {_WITHOUT_QUOTES}"]


def _read_json_lines(path: Path, options: Options) -> FileRows:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    with _opened_text(path, options["encoding"]) as file:
        for number, line in enumerate(file, start=1):
            found, reason = _json_rows(line)
            rows += found
            wrong += [f"line {number}, {reason}"] if reason else []
    if wrong and len(wrong) >= len(rows):
        raise _TABLE.refusal(path, f"has {len(wrong):,} lines that are no JSON objects, such as {wrong[0]}")
    skipped = [Skipped(len(wrong), "that are no JSON objects", wrong[0])] if wrong else []
    return FileRows(pd.DataFrame(rows, dtype=object), skipped)


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


def _read_parquet(path: Path, options: Options) -> FileRows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{path} needs pyarrow: {PARQUET_REMEDY}") from error
    with _opened(path) as file:
        try:
            return FileRows(frame_of_arrow(parquet.read_table(file)))
        except ArrowException as error:
            raise _TABLE.refusal(path, f"cannot be read: {error}") from error


def _read_saved_dataset(folder: Path) -> FileRows:
    """Read the Arrow files that a saved ``Dataset`` names.

    Raises:
        DataError: the folder is another one, has several parts or is damaged, or pyarrow is missing.
    """
    try:
        from pyarrow import ArrowException, concat_tables, ipc
    except ImportError as error:
        raise DataError(f"{folder} needs pyarrow: {PARQUET_REMEDY}") from error
    tables = []
    try:
        for name in _files_of_saved_dataset(folder):
            with open_regular(folder / name, _TABLE, inside=folder) as file:
                tables.append(ipc.open_stream(file).read_all())
        return FileRows(frame_of_arrow(concat_tables(tables)))
    except ArrowException as error:
        raise _TABLE.refusal(folder, f"cannot be read: {error}") from error


def _files_of_saved_dataset(folder: Path) -> list[str]:
    """Return the names of a saved dataset's Arrow files, in order."""
    try:
        if is_there(parts := folder / "dataset_dict.json"):
            first, *others = map(str, read_json(parts, _SAVED_DATASET, inside=folder)["splits"])
            raise DataError(f"{folder} has the parts {', '.join([first, *others])}: give one, such as {folder / first}")
        files = read_json(folder / "state.json", _SAVED_DATASET, inside=folder)["_data_files"]
        first, *others = (str(one["filename"]) for one in files)
    except (KeyError, TypeError, ValueError) as error:
        raise _SAVED_DATASET.refusal(folder, "is damaged") from error
    return [first, *others]


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
_READERS: dict[str, Callable[[Path, Options], FileRows]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab"), _read_separated),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _read_json_lines),
    ".parquet": _read_parquet,
}


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file, unpacked. A progress bar of its bytes shows if reading takes more than two seconds."""
    with open_regular(path, _TABLE) as file:
        size = os.fstat(file.fileno()).st_size
        with tqdm(desc=path.name, total=size, unit="B", unit_scale=True, leave=False, delay=2) as bar:
            counting = CallbackIOWrapper(lambda count: bar.update(min(count, size - bar.n)), file)
            # a TextIOWrapper calls read1 where there is one
            counting.wrapper_setattr("read1", counting.read)  # type: ignore[no-untyped-call]
            yield gzip.GzipFile(fileobj=counting) if _is_gzip(path) else counting


@contextmanager
def _opened_text(path: Path, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Open a file of text; line ends stay as they are."""
    with _opened(path) as file:
        yield io.TextIOWrapper(file, encoding=AtomicFormat(encoding=encoding).codec, newline="")


def _first_line(path: Path, encoding: str) -> str:
    """Return the first line.

    Raises:
        DataError: the file is empty.
    """
    with _opened_text(path, encoding) as file:
        line = file.readline()
    if not line.strip():
        raise _TABLE.refusal(path, "is empty, or its first line is")
    return line.rstrip("\r\n")


def _check_header(path: Path, names: list[str]) -> None:
    """Check that the first line is no row of values, and that names differ.

    Raises:
        DataError: most of its fields are numbers, or two are the same.
    """
    if doubled := [name for number, name in enumerate(names) if name.strip() and name in names[:number]]:
        raise _TABLE.error(f"{path} has several columns {doubled[0]!r}: rename all but one")
    numbers = sum(bool(_NUMBER.fullmatch(name.strip('" '))) for name in names)
    if 2 * numbers > len(names):
        shown = ", ".join(names[:5])
        raise _TABLE.error(f"{path} has values in its first line ({shown}): add a first line with names of columns")
