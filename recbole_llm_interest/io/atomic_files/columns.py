"""Converts the columns of an atomic file to their types, and skips rows with invalid values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.io.atomic_files.file_format import MAX_TOKEN_CHARACTERS
from recbole_llm_interest.io.atomic_files.lines import LineNumbers, LineScan
from recbole_llm_interest.io.row_report import RowReport

if TYPE_CHECKING:
    import pandas as pd

#: stands for an unknown number; RecBole replaces it with the column's mean
_MISSING_NUMBERS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none")


@dataclass(frozen=True)
class Column:
    """A column to read.

    Attributes:
        name: its name in the header.
        kind: one of the header's types, or ``text`` for values as they are in the file.
        is_required: whether a row without a value is skipped.
        sequence_separator: separates the values of a sequence.
    """

    name: str
    kind: str
    is_required: bool
    sequence_separator: str


class RowTable:
    """The rows of a file with their line numbers, from which invalid rows are skipped.

    Args:
        frame: one row for each row of the file.
        scan: the file's lines.
        report: counts the skipped rows.
    """

    def __init__(self, frame: pd.DataFrame, scan: LineScan, report: RowReport) -> None:
        self.frame = frame
        self._scan = scan
        self._report = report
        self._lines: LineNumbers | None = None  # as large as a column, and rarely needed

    def skip(self, is_skipped: NDArray[np.bool_], reason: str) -> None:
        """Remove rows and report them.

        Args:
            is_skipped: whether to remove each row, ``[R]``.
            reason: follows "3 rows" in the report.
        """
        if not is_skipped.any():
            return
        if self._lines is None:
            self._lines = self._scan.row_lines
        self._report.skip_lines(reason, self._lines[is_skipped])
        self._lines = self._lines[~is_skipped]
        self.frame = self.frame[~is_skipped].reset_index(drop=True)

    def skip_long_tokens(self, name: str) -> None:
        """Skip rows whose token in the column ``name`` is longer than RecBole can store."""
        is_long = (self.frame[name].str.len() > MAX_TOKEN_CHARACTERS).to_numpy()
        self.skip(is_long, f"with more than {MAX_TOKEN_CHARACTERS} characters in {name!r}")

    def skip_empty(self, name: str) -> None:
        """Skip rows without a value in the column ``name``."""
        self.skip((self.frame[name] == "").to_numpy(), f"without {name!r}")

    def skip_duplicates(self, names: list[str]) -> None:
        """Skip rows whose ids in the columns ``names`` are those of an earlier row."""
        self.skip(self.frame.duplicated(names).to_numpy(), f"with a duplicate {' and '.join(names)}")

    def convert(self, column: Column) -> None:
        """Convert a column from text to its type, and skip rows whose value is invalid."""
        _CONVERTERS[column.kind](self, column)


def _keep_text(table: RowTable, column: Column) -> None:
    """Leave a column of text as it is."""


def _convert_token(table: RowTable, column: Column) -> None:
    """Replace empty tokens by NaN. A required column has none, and NaN would turn its categories into objects."""
    if column.is_required:
        return
    is_missing = table.frame[column.name] == ""
    if is_missing.any():
        table.frame[column.name] = table.frame[column.name].mask(is_missing, np.nan)


def _convert_float(table: RowTable, column: Column) -> None:
    import pandas as pd  # here because it takes half a second, which checks of headers should not wait for

    values = table.frame[column.name]
    is_missing = np.zeros(len(values), dtype=bool)
    if values.dtype == object:
        is_missing = values.str.strip().isin(_MISSING_NUMBERS).to_numpy(dtype=bool)
        values = pd.to_numeric(values.mask(is_missing), errors="coerce").astype(np.float64)
        table.frame[column.name] = values
    is_invalid = ~np.isfinite(values.to_numpy()) & (column.is_required | ~is_missing)
    table.skip(is_invalid, f"without a finite number in {column.name!r}")


def _convert_float_sequence(table: RowTable, column: Column) -> None:
    _convert_sequence(table, column, _finite_numbers, "values that are not finite numbers")


def _convert_token_sequence(table: RowTable, column: Column) -> None:
    _convert_sequence(table, column, _short_tokens, f"a word of more than {MAX_TOKEN_CHARACTERS} characters")


def _convert_sequence(
    table: RowTable, column: Column, to_array: Callable[[list[str]], NDArray[Any] | None], reason: str
) -> None:
    import pandas as pd  # as above

    arrays = [
        to_array([word for word in cell.split(column.sequence_separator) if word]) for cell in table.frame[column.name]
    ]
    table.frame[column.name] = pd.Series(arrays, index=table.frame.index, dtype=object)
    is_invalid = np.array([array is None for array in arrays], dtype=bool)
    table.skip(is_invalid, f"with {reason} in {column.name!r}")


def _finite_numbers(words: list[str]) -> NDArray[np.float64] | None:
    """Return words as numbers, or None if one of them is not a finite number."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _short_tokens(words: list[str]) -> NDArray[np.str_] | None:
    """Return words as an array, or None if one of them is too long for RecBole to store."""
    return np.array(words) if max(map(len, words), default=0) <= MAX_TOKEN_CHARACTERS else None


_CONVERTERS: dict[str, Callable[[RowTable, Column], None]] = {
    "text": _keep_text,
    "token": _convert_token,
    "token_seq": _convert_token_sequence,
    "float": _convert_float,
    "float_seq": _convert_float_sequence,
}
