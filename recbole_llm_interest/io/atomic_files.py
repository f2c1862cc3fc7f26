"""Reads RecBole's atomic files as they stand: a field is what lies between two tabs, and no row is lost unsaid.

RecBole's own reader takes a leading quote for the start of a quoted field, which may swallow the rows after it, reads
the ids ``NA`` and ``null`` as missing and drops their rows, and fails on marks and line ends of other systems.
Everything here goes over columns or blobs of the file, never over single lines: an interaction file may have
hundreds of millions.
"""

from __future__ import annotations

import codecs
import csv
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.row_report import RowReport

#: the types that a header may state
TYPES = ("token", "token_seq", "float", "float_seq")
#: RecBole keeps every id in as much room as the longest one takes
MAX_TOKEN_CHARACTERS = 255
MAX_LINE_BYTES = 64 * 2**20
_PIECE_BYTES = 4 * 2**20
#: what stands for a number that is not known; RecBole puts the column's mean in its place
_MISSING_NUMBERS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none")
#: times above are seconds since 1970, a thousand times that, milliseconds, and so on; below, the unit is not known
_FIRST_SECOND = 1e8
_DAY = 86_400
_MARKS_OF_OTHER_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

_Lines = NDArray[np.int64]


@dataclass(frozen=True)
class AtomicFormat:
    """How the atomic files of a data set are written.

    Attributes:
        separator: what stands between two columns, one character of ASCII.
        sequence_separator: what stands between the values of a sequence.
        encoding: as Python names it. A mark at the beginning of UTF-8 is passed over.
    """

    separator: str = "\t"
    sequence_separator: str = " "
    encoding: str = "utf-8"

    @classmethod
    def from_config(cls, config: Any) -> AtomicFormat:
        """What RecBole's settings say of it."""
        return cls(config["field_separator"], config["seq_separator"], config["encoding"] or "utf-8")

    @property
    def codec(self) -> str:
        """The encoding, less the mark that some editors put at the beginning of UTF-8."""
        return "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding


def format_columns(columns: Iterable[str], at_most: int = 20) -> str:
    """Columns in words; a hostile header may have a million, or one of a million characters."""
    words = [column[:40] for column in columns]
    return ", ".join(words[:at_most]) + (", …" if len(words) > at_most else "")


def read_header(path: Path, layout: AtomicFormat) -> dict[str, str]:
    """The columns of an atomic file with their types.

    Raises:
        DataError: the file is not there or empty, is not in its encoding, or its first line is no such header.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is no file")
    first = next(_whole_lines(path, layout), b"").split(b"\n")[0].decode().removesuffix("\r")
    if not first.strip():
        raise DataError(f"{path} is empty, or its first line is: it has to name each column with its type")
    names: dict[str, str] = {}
    for column in first.split(layout.separator):
        name, colon, kind = column.partition(":")
        if not name or not colon or kind not in TYPES or "\0" in name:
            raise DataError(
                f"{path}: the first line has to name each column with its type, as in user_id:token, not "
                f"{column[:80]!r}; types are {', '.join(TYPES)}, and {layout.separator!r} stands between columns"
            )
        if name in names:
            raise DataError(f"{path}: the first line names the column {name[:80]!r} twice")
        names[name] = kind
    return names


def read_atomic_file(
    path: Path,
    layout: AtomicFormat,
    columns: Mapping[str, str],
    *,
    ids: Sequence[str] = (),
    unique: bool = False,
    time_field: str | None = None,
    strict: bool = False,
) -> pd.DataFrame:
    """Rows of an atomic file, in its order, without those that cannot be used; how many and why is logged.

    Args:
        path: the file.
        layout: how it is written.
        columns: those that are wanted, each with how it is read: the types of a header, or ``text``, as it stands.
            A token that is empty becomes NaN, as does a number that is; sequences become arrays.
        ids: columns in which a row needs something.
        unique: whether a row whose ids came before is refused.
        time_field: a column in which a row needs a finite number.
        strict: whether a row that is refused, or a time that looks wrong, is an error.

    Raises:
        DataError: the file cannot be read, lacks a column that is needed, holds no usable row, or ``strict`` is set
            and some are refused or look wrong.
    """
    header = read_header(path, layout)
    for name in (*ids, *columns):
        if name not in header:
            raise DataError(f"{path} has no column {name!r}; it has {format_columns(header)}")
    report = RowReport(path, strict)
    scan = _scan(path, layout, len(header), report)
    table = _Table(_parse(path, layout, header, columns, scan, ids), scan, report)
    if scan.longest > MAX_TOKEN_CHARACTERS:
        _refuse_long_tokens(table, [name for name, kind in columns.items() if kind == "token" or name in ids])
    wanted_ids = [name for name in ids if name in columns]
    for name in wanted_ids:
        table.refuse((table.frame[name] == "").to_numpy(), f"without {name!r}")
    for name, kind in columns.items():
        if kind == "float":
            _take_numbers(table, name, is_needed=name == time_field)
        elif kind.endswith("_seq"):
            _split(table, name, kind, layout.sequence_separator)
        elif kind == "token" and name not in ids:
            _mark_missing(table, name)
    if unique and wanted_ids:
        table.refuse(table.frame.duplicated(wanted_ids).to_numpy(), f"whose {' and '.join(wanted_ids)} came before")
    report.doubts += _doubtful_times(table.frame[time_field].to_numpy()) if time_field in columns else ()
    report.finish(scan.rows)
    return table.frame


def drop_rows(path: Path, layout: AtomicFormat, column: str, tokens: Sequence[str]) -> Iterator[bytes]:
    """The file, some whole lines at a time, less the rows that have one of ``tokens`` in ``column``.

    Raises:
        DataError: as ``read_header``.
    """
    place = list(read_header(path, layout)).index(column)
    separator = re.escape(layout.separator.encode())
    cell = b"[^%b\n]*%b" % (separator, separator)
    wanted = b"|".join(re.escape(token.encode()) for token in tokens)
    row = re.compile(b"^(?:%b){%d}(?:%b)(?:%b[^\n]*|\r?)\n" % (cell, place, wanted, separator), re.MULTILINE)
    encoder = codecs.getincrementalencoder(layout.encoding)()
    with path.open("rb") as file:
        has_mark = file.read(3) == codecs.BOM_UTF8 and layout.codec == "utf-8-sig"
    mark = codecs.BOM_UTF8 if has_mark else b""
    for lines in _whole_lines(path, layout):
        yield mark + encoder.encode(row.sub(b"", lines).decode())
        mark = b""


# --- the file as bytes


def _whole_lines(path: Path, layout: AtomicFormat) -> Iterator[bytes]:
    """The file as UTF-8, some whole lines at a time; the last one ends in a line feed, too."""
    rest, number = b"", 1
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        other = _MARKS_OF_OTHER_ENCODINGS.get(start)
        if other and layout.codec == "utf-8-sig":
            raise DataError(f"{path} is {other}, not {layout.encoding}: save it as UTF-8, or set encoding: {other}")
        try:
            decoder = codecs.getincrementaldecoder(layout.codec)()
        except LookupError as error:
            raise DataError(f"encoding={layout.encoding!r} is no encoding that Python knows") from error
        while piece := file.read(_PIECE_BYTES):
            try:
                lines = rest + decoder.decode(piece).encode()
            except UnicodeError as error:
                raise _not_encoded(path, layout, number) from error
            end = lines.rfind(b"\n") + 1
            rest = lines[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(f"{path}: a line behind line {number} is longer than {MAX_LINE_BYTES} bytes")
            if end:
                yield lines[:end]
                number += lines.count(b"\n", 0, end)
        try:
            rest += decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise _not_encoded(path, layout, number) from error
    if rest:
        yield rest + b"\n"


def _not_encoded(path: Path, layout: AtomicFormat, number: int) -> DataError:
    return DataError(
        f"{path} is not {layout.encoding} (behind line {number}): save it as UTF-8, or set encoding to what it is"
    )


@dataclass(frozen=True)
class _Scan:
    """What the bytes of a file say of its lines.

    Attributes:
        rows: lines below the header that hold something.
        skipped: numbers of the lines, from 2, that hold nothing or are refused.
        last: number of the last line.
        longest: bytes of the longest line below the header.
        has_returns: whether lines end in a carriage return.
    """

    rows: int
    skipped: _Lines
    last: int
    longest: int
    has_returns: bool


def _scan(path: Path, layout: AtomicFormat, width: int, report: RowReport) -> _Scan:
    """Find the lines that are no rows, and note which are refused."""
    if len(layout.separator.encode()) != 1 or layout.separator in "\r\n\0":
        raise DataError(f"field_separator={layout.separator!r}: columns have to be separated by one character of ASCII")
    separator = ord(layout.separator)
    empty, uneven, with_nul = [], [], []
    before, longest, has_returns = 0, 0, False
    for lines in _whole_lines(path, layout):
        data = np.frombuffer(lines, dtype=np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        numbers = before + 1 + np.arange(len(ends))
        lengths = np.diff(ends, prepend=-1) - 1
        has_return = (lengths > 0) & (data[ends - 1] == ord("\r"))
        lengths -= has_return
        separators = np.diff(np.searchsorted(np.flatnonzero(data == separator), ends), prepend=0)
        nuls = np.diff(np.searchsorted(np.flatnonzero(data == 0), ends), prepend=0)
        is_row = numbers > 1
        empty.append(numbers[is_row & (lengths == 0)])
        uneven.append(numbers[is_row & (lengths > 0) & (separators != width - 1)])
        with_nul.append(numbers[is_row & (separators == width - 1) & (nuls > 0)])
        before += len(ends)
        longest = max(longest, int(lengths[is_row].max(initial=0)))
        has_returns |= bool(has_return.any())
    reasons = {f"with another number of columns than the header's {width}": uneven, "with a NUL": with_nul}
    for reason, found in reasons.items():
        numbers = np.concatenate(found)
        report.skip(reason, len(numbers), [str(number) for number in numbers[:5]])
    blank = np.concatenate(empty)
    skipped = np.sort(np.concatenate([blank, *uneven, *with_nul]))
    return _Scan(before - 1 - len(blank), skipped, before, longest, has_returns)


# --- the file as columns


def _parse(
    path: Path,
    layout: AtomicFormat,
    header: Mapping[str, str],
    columns: Mapping[str, str],
    scan: _Scan,
    ids: Sequence[str],
) -> pd.DataFrame:
    kinds: dict[str, Any] = {name: np.float64 if kind == "float" else str for name, kind in columns.items()}
    if not scan.has_returns:  # ids come again and again: as strings of their own, they take five times the memory
        kinds |= {name: "category" for name in ids if name in columns}
    if scan.last - 1 == len(scan.skipped):
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})

    def read(types: Mapping[str, Any]) -> pd.DataFrame:
        return pd.read_csv(
            path,
            sep=layout.separator,
            encoding=layout.codec,
            header=None,
            names=list(header),
            usecols=list(columns),
            index_col=False,
            dtype=types,
            skiprows=[0, *(scan.skipped - 1).tolist()],
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            skip_blank_lines=False,
            lineterminator="\n",
            float_precision="round_trip",
        )

    try:
        frame = read(kinds)
    except ValueError:  # a number that is none; which, is found in the text
        frame = read(dict.fromkeys(columns, str))
    last = list(header)[-1]
    if scan.has_returns and last in frame and frame[last].dtype == object:
        frame[last] = frame[last].str.removesuffix("\r")
    return frame[list(columns)]


class _Table:
    """A frame from which rows are taken, noting where in the file they stand."""

    def __init__(self, frame: pd.DataFrame, scan: _Scan, report: RowReport) -> None:
        self.frame = frame
        self._scan = scan
        self._report = report
        self._lines: _Lines | None = None

    def refuse(self, rows: NDArray[np.bool_], reason: str) -> None:
        """Take ``rows``, ``[R]``, out."""
        if not rows.any():
            return
        if self._lines is None:
            self._lines = np.delete(np.arange(2, self._scan.last + 1), self._scan.skipped - 2)
        lines = self._lines[rows]
        self._report.skip(reason, len(lines), [str(line) for line in lines[:5]])
        self._lines = self._lines[~rows]
        self.frame = self.frame[~rows].reset_index(drop=True)


def _refuse_long_tokens(table: _Table, names: Sequence[str]) -> None:
    for name in names:
        is_long = (table.frame[name].str.len() > MAX_TOKEN_CHARACTERS).to_numpy()
        table.refuse(is_long, f"with more than {MAX_TOKEN_CHARACTERS} characters in {name!r}")


def _mark_missing(table: _Table, name: str) -> None:
    is_missing = table.frame[name] == ""
    if is_missing.any():
        table.frame[name] = table.frame[name].mask(is_missing, np.nan)


def _take_numbers(table: _Table, name: str, is_needed: bool) -> None:
    values = table.frame[name]
    is_missing = np.zeros(len(values), dtype=bool)
    if values.dtype == object:
        is_missing = values.str.strip().isin(_MISSING_NUMBERS).to_numpy(dtype=bool)
        table.frame[name] = values = pd.to_numeric(values.mask(is_missing), errors="coerce").astype(np.float64)
    is_wrong = ~np.isfinite(values.to_numpy()) & (is_needed | ~is_missing)
    table.refuse(is_wrong, f"without a finite number in {name!r}")


def _split(table: _Table, name: str, kind: str, separator: str) -> None:
    words = [[word for word in cell.split(separator) if word] for cell in table.frame[name]]
    convert: Callable[[list[str]], NDArray[Any] | None] = _numbers if kind == "float_seq" else _tokens
    arrays = [convert(row) for row in words]
    values = pd.Series(arrays, index=table.frame.index, dtype=object)
    is_wrong = np.array([array is None for array in arrays], dtype=bool)
    table.frame[name] = values
    reason = "something else than finite numbers" if kind == "float_seq" else "words of absurd length"
    table.refuse(is_wrong, f"with {reason} in {name!r}")


def _numbers(words: list[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _tokens(words: list[str]) -> NDArray[np.str_] | None:
    return np.array(words) if max(map(len, words), default=0) <= MAX_TOKEN_CHARACTERS else None


def _doubtful_times(times: NDArray[np.float64]) -> Iterator[str]:
    """What looks wrong about the times of events, which may be in any unit."""
    if negative := int((times < 0).sum()):
        yield f"{negative} with a time below zero"
    future, by_unit = 0, []
    for scale in (1.0, 1e3, 1e6, 1e9):  # seconds, milliseconds, microseconds, nanoseconds
        first, latest = _FIRST_SECOND * scale, (time.time() + _DAY) * scale
        is_of_unit = (times >= first) & ((times < 1000 * first) | (scale == 1e9))
        by_unit.append(int(is_of_unit.sum()))
        future += int((is_of_unit & (times > latest)).sum())
    undated = int(((times >= 0) & (times < _FIRST_SECOND)).sum())
    if 0 < undated < sum(by_unit):
        yield f"{undated} with a time that is missing, or of another unit than the others'"
    units = [count for count in by_unit if count]
    if len(units) > 1:
        yield f"times in several units, in {', '.join(map(str, units))} rows, which puts events in a wrong order"
    if future:
        yield f"{future} with a time that is still to come"
