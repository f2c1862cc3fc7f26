"""Reads the rows of atomic files as tables, and removes the rows of given ids from a file."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files.columns import Column, RowTable
from recbole_llm_interest.io.atomic_files.file_format import (
    ATOMIC_FILE,
    MAX_TOKEN_CHARACTERS,
    AtomicFormat,
    format_columns,
    read_header,
    read_line_blocks,
)
from recbole_llm_interest.io.atomic_files.lines import LineScan, scan_lines
from recbole_llm_interest.io.atomic_files.timestamps import timestamp_warnings
from recbole_llm_interest.io.opening import open_regular
from recbole_llm_interest.io.row_report import RowReport

if TYPE_CHECKING:
    import pandas as pd


def read_atomic_file(
    path: Path,
    atomic_format: AtomicFormat,
    columns: Mapping[str, str],
    *,
    ids: Sequence[str] = (),
    unique: bool = False,
    time_field: str | None = None,
    strict: bool = False,
) -> pd.DataFrame:
    """Read the valid rows of an atomic file, in its order. The number of skipped rows is logged with the reasons.

    Args:
        path: the file.
        atomic_format: how it is written.
        columns: how to read each column: as one of the header's types, or as ``text``. Empty tokens and missing
            numbers become NaN; sequences become arrays.
        ids: columns that must not be empty.
        unique: whether to skip rows with the ids of an earlier row.
        time_field: a column that must hold a finite number.
        strict: whether skipped rows and suspicious timestamps are an error.

    Raises:
        DataError: the file cannot be read, lacks a column or has no valid row, or ``strict`` is set and a row is
            skipped or suspicious.
    """
    header = read_header(path, atomic_format)
    _check_columns(path, header, [*ids, *columns])
    report = RowReport(path, strict)
    scan = scan_lines(path, atomic_format, len(header), report)
    table = RowTable(_read_columns(path, atomic_format, header, columns, scan, ids), scan, report)
    id_columns = [name for name in ids if name in columns]
    _skip_invalid_tokens(table, columns, id_columns, scan.longest)
    for name, kind in columns.items():
        table.convert(Column(name, kind, name in ids or name == time_field, atomic_format.sequence_separator))
    if unique and id_columns:
        table.skip_duplicates(id_columns)
    report.warnings += timestamp_warnings(table.frame[time_field].to_numpy()) if time_field in columns else ()
    report.finish(scan.row_count)
    return table.frame


def drop_rows(path: Path, atomic_format: AtomicFormat, column: str, tokens: Collection[str]) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines, without the rows whose ``column`` is one of ``tokens``.

    All other lines stay byte for byte the same.

    Raises:
        DataError: as ``read_header``.
    """
    row = _row_pattern(path, atomic_format, column, tokens)
    encoder = codecs.getincrementalencoder(atomic_format.encoding)()
    with open_regular(path, ATOMIC_FILE) as file:
        has_mark = file.read(3) == codecs.BOM_UTF8 and atomic_format.codec == "utf-8-sig"
    mark = codecs.BOM_UTF8 if has_mark else b""
    for header, block in _blocks_below_header(path, atomic_format):
        yield mark + encoder.encode((header + row.sub(b"", block)).decode())
        mark = b""


def find_tokens(path: Path, atomic_format: AtomicFormat, column: str, tokens: Collection[str]) -> set[str]:
    """Return those of ``tokens`` that are in a column.

    Raises:
        DataError: as ``read_header``.
    """
    row = _row_pattern(path, atomic_format, column, tokens)
    blocks = _blocks_below_header(path, atomic_format)
    return {match[1].decode() for _, block in blocks for match in row.finditer(block)}


def read_rows(path: Path, atomic_format: AtomicFormat) -> Iterator[list[str]]:
    """Yield the cells of every line below the header as they are, also of lines that are no rows.

    It is for small files, and for what the other functions skip.

    Raises:
        DataError: as ``read_header``.
    """
    for _, block in _blocks_below_header(path, atomic_format):
        for line in block.decode().split("\n")[:-1]:
            yield line.removesuffix("\r").split(atomic_format.separator)


def _row_pattern(path: Path, atomic_format: AtomicFormat, column: str, tokens: Collection[str]) -> re.Pattern[bytes]:
    """A pattern of a whole line whose column is one of the tokens, which is its first group."""
    index = list(read_header(path, atomic_format)).index(column)
    separator = re.escape(atomic_format.separator.encode())
    cell = b"[^%b\n]*%b" % (separator, separator)
    cells = [token for token in tokens if atomic_format.separator not in token and "\n" not in token]
    alternatives = b"|".join(re.escape(token.encode("utf-8", "surrogatepass")) for token in cells) or b"(?!)"
    return re.compile(b"^(?:%b){%d}(%b)(?:%b[^\n]*|\r?)\n" % (cell, index, alternatives, separator), re.MULTILINE)


def _blocks_below_header(path: Path, atomic_format: AtomicFormat) -> Iterator[tuple[bytes, bytes]]:
    """Yield blocks of whole lines, the first with the header apart."""
    is_first = True
    for block in read_line_blocks(path, atomic_format):
        end = block.index(b"\n") + 1 if is_first else 0
        yield block[:end], block[end:]
        is_first = False


def _check_columns(path: Path, header: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        if name not in header:
            raise DataError(f"{path} has no column {name!r}; it has {format_columns(header)}")


def _skip_invalid_tokens(table: RowTable, columns: Mapping[str, str], ids: Sequence[str], longest: int) -> None:
    """Skip rows with a token that is too long, or without an id."""
    if longest > MAX_TOKEN_CHARACTERS:  # counts bytes: a token has at least as many bytes as characters
        for name, kind in columns.items():
            if kind == "token" or name in ids:
                table.skip_long_tokens(name)
    for name in ids:
        table.skip_empty(name)


def _read_columns(
    path: Path,
    atomic_format: AtomicFormat,
    header: Mapping[str, str],
    columns: Mapping[str, str],
    scan: LineScan,
    ids: Sequence[str],
) -> pd.DataFrame:
    """Read the columns of all well-formed lines: numbers as float64 if all of them are, everything else as text."""
    import pandas as pd  # here because it takes half a second, which checks of headers should not wait for

    types = _column_types(columns, ids, scan)
    if scan.line_count - 1 == len(scan.skipped):
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    try:
        frame = _read_csv(path, atomic_format, header, types, scan)
    except ValueError:  # a value is not a number: converting the text finds which
        frame = _read_csv(path, atomic_format, header, dict.fromkeys(columns, str), scan)
    last = list(header)[-1]
    if scan.has_carriage_returns and last in frame and frame[last].dtype == object:
        frame[last] = frame[last].str.removesuffix("\r")
    return frame[list(columns)]


def _column_types(columns: Mapping[str, str], ids: Sequence[str], scan: LineScan) -> dict[str, Any]:
    types: dict[str, Any] = {name: np.float64 if kind == "float" else str for name, kind in columns.items()}
    if not scan.has_carriage_returns:  # ids repeat: as separate strings they take five times the memory
        types |= {name: "category" for name in ids if name in columns}
    return types


def _read_csv(
    path: Path, atomic_format: AtomicFormat, header: Mapping[str, str], types: Mapping[str, Any], scan: LineScan
) -> pd.DataFrame:
    """Read columns by pandas, with everything off that would interpret their values."""
    import pandas as pd  # as above

    with open_regular(path, ATOMIC_FILE) as file:
        return pd.read_csv(
            file,
            sep=atomic_format.separator,
            encoding=atomic_format.codec,
            header=None,
            names=list(header),
            usecols=list(types),
            index_col=False,
            dtype=types,
            skiprows=[0, *(scan.skipped - 1).tolist()],
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            skip_blank_lines=False,
            lineterminator="\n",
            float_precision="round_trip",
        )
