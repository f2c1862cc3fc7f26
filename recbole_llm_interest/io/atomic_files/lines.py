"""Finds the lines of an atomic file that are not rows, by its bytes alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.io.atomic_files.file_format import AtomicFormat, read_line_blocks
from recbole_llm_interest.io.row_report import RowReport

LineNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class LineScan:
    """What the bytes of a file say about its lines. Line 1 is the header.

    Attributes:
        row_count: lines below the header that are not empty.
        skipped: numbers of the lines that are empty or malformed, ascending.
        line_count: all lines, with the header.
        longest: bytes of the longest line below the header.
        has_carriage_returns: whether a line ends in CR LF.
    """

    row_count: int
    skipped: LineNumbers
    line_count: int
    longest: int
    has_carriage_returns: bool

    @property
    def row_lines(self) -> LineNumbers:
        """Line number of each row, in the file's order."""
        return np.delete(np.arange(2, self.line_count + 1), self.skipped - 2)


def scan_lines(path: Path, atomic_format: AtomicFormat, column_count: int, report: RowReport) -> LineScan:
    """Find empty lines, and report lines with a wrong number of columns or a NUL.

    Args:
        path: the file.
        atomic_format: how it is written.
        column_count: the header's number of columns.
        report: counts the malformed lines.

    Raises:
        DataError: the file cannot be read, or the separator is not one ASCII character.
    """
    blocks = []
    separator, line_count = atomic_format.separator_byte, 0
    for data in read_line_blocks(path, atomic_format):
        block = _scan_block(np.frombuffer(data, dtype=np.uint8), separator, column_count, line_count + 1)
        line_count += block.line_count
        blocks.append(block)
    empty, uneven, with_nul = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("empty", "uneven", "with_nul")
    )
    report.skip_lines(f"with a different number of columns than the header's {column_count}", uneven)
    report.skip_lines("with a NUL", with_nul)
    return LineScan(
        row_count=line_count - 1 - len(empty),
        skipped=np.sort(np.concatenate([empty, uneven, with_nul])),
        line_count=line_count,
        longest=max(block.longest for block in blocks),
        has_carriage_returns=any(block.has_carriage_returns for block in blocks),
    )


@dataclass(frozen=True)
class _BlockScan:
    """The same for a block of lines, by the kind of line."""

    line_count: int
    empty: LineNumbers
    uneven: LineNumbers
    with_nul: LineNumbers
    longest: int
    has_carriage_returns: bool


def _scan_block(data: NDArray[np.uint8], separator: int, column_count: int, first_line: int) -> _BlockScan:
    """Scan the bytes of whole lines; the first has line number ``first_line``."""
    ends = np.flatnonzero(data == ord("\n"))
    numbers = first_line + np.arange(len(ends))
    lengths = np.diff(ends, prepend=-1) - 1
    has_carriage_return = (lengths > 0) & (data[ends - 1] == ord("\r"))
    lengths -= has_carriage_return
    is_below_header = numbers > 1
    is_even = _count_per_line(data == separator, ends) == column_count - 1
    has_nul = _count_per_line(data == 0, ends) > 0
    return _BlockScan(
        line_count=len(ends),
        empty=numbers[is_below_header & (lengths == 0)],
        uneven=numbers[is_below_header & (lengths > 0) & ~is_even],
        with_nul=numbers[is_below_header & is_even & has_nul],
        longest=int(lengths[is_below_header].max(initial=0)),
        has_carriage_returns=bool(has_carriage_return.any()),
    )


def _count_per_line(is_counted: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the marked bytes of each line."""
    return np.diff(np.searchsorted(np.flatnonzero(is_counted), ends), prepend=0)
