"""Reports how many rows of a file were read and kept, and why the others were skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llm_interest.errors import DataError

_logger = logging.getLogger(__name__)
#: examples that are listed for each reason
_MAX_EXAMPLES = 5


@dataclass
class _SkippedRows:
    """The number of rows that were skipped for one reason, and the first of their lines."""

    count: int = 0
    lines: list[str] = field(default_factory=list)


class RowReport:
    """Counts the skipped rows of one file, by reason and line. It never names a user or an item.

    Args:
        path: the file.
        strict: whether skipped and suspicious rows are an error.

    Attributes:
        warnings: what looks wrong in rows that are kept.

    Example:
        >>> report = RowReport(Path("ml-100k.inter"), strict=True)
        >>> report.skip("without 'user_id'", count=1, lines=["7"])
        >>> report.finish(row_count=9)
        Traceback (most recent call last):
        recbole_llm_interest.errors.DataError: ml-100k.inter: 9 rows read, 8 kept, 1 skipped: 1 without 'user_id' ...
    """

    def __init__(self, path: Path, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self.warnings: list[str] = []
        self._skipped: dict[str, _SkippedRows] = {}

    @property
    def skipped(self) -> int:
        """The number of skipped rows."""
        return sum(rows.count for rows in self._skipped.values())

    def skip(self, reason: str, count: int, lines: list[str]) -> None:
        """Count rows as skipped.

        Args:
            reason: follows "3 rows".
            count: the number of rows.
            lines: the line numbers of the first of them, where the header is line 1, with details if there are any.
        """
        if count:
            rows = self._skipped.setdefault(reason, _SkippedRows())
            rows.count += count
            rows.lines += lines[: _MAX_EXAMPLES - len(rows.lines)]

    def skip_lines(self, reason: str, lines: Iterable[int]) -> None:
        """Count the rows on these lines as skipped.

        Args:
            reason: follows "3 rows".
            lines: their line numbers, where the header is line 1.
        """
        numbers = list(lines)
        self.skip(reason, len(numbers), [str(number) for number in numbers[:_MAX_EXAMPLES]])

    def finish(self, row_count: int) -> None:
        """Log how many of the file's rows were kept and skipped.

        Args:
            row_count: the number of rows that were read.

        Raises:
            DataError: no row is left, or the report is strict and rows were skipped or look wrong.
        """
        kept = row_count - self.skipped
        if not row_count:
            raise DataError(f"{self.path} has no rows below its header, or is empty: add rows, or remove the file")
        if not kept:
            raise DataError(f"{self.path}: none of its {row_count} rows can be used: {'; '.join(self._reasons())}")
        counts = f"{self.path}: {row_count} rows read, {kept} kept, {self.skipped} skipped"
        remarks = [*self._reasons(), *self.warnings]
        if not remarks:
            _logger.info(counts)
            return
        message = f"{counts}: {'; '.join(remarks)}"
        if self.strict:
            raise DataError(f"{message}. Correct the file, or set strict_data=False to continue without these rows")
        _logger.warning("%s", message)

    def _reasons(self) -> list[str]:
        return [
            f"{rows.count} {reason} (line {', '.join(rows.lines)}{', …' if rows.count > len(rows.lines) else ''})"
            for reason, rows in self._skipped.items()
        ]
