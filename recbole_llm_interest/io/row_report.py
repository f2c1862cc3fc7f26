"""What became of the rows of a file: how many were read and kept, and why the others were not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llm_interest.errors import DataError

_logger = logging.getLogger(__name__)
#: lines of one reason that are named
_NAMED = 5


@dataclass
class _Refused:
    """How many rows share one reason, and the first of them."""

    count: int = 0
    lines: list[str] = field(default_factory=list)


class RowReport:
    """Counts the rows of one file, and says what was left out, by reason and line. It names no user and no item.

    Args:
        path: the file.
        strict: whether rows that are refused, or look wrong, are an error.

    Attributes:
        doubts: what looks wrong in rows that are kept, in words.
    """

    def __init__(self, path: Path, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self._refused: dict[str, _Refused] = {}
        self.doubts: list[str] = []

    @property
    def refused(self) -> int:
        """How many rows were left out."""
        return sum(refused.count for refused in self._refused.values())

    def skip(self, reason: str, count: int, lines: list[str]) -> None:
        """Note rows that are left out.

        Args:
            reason: as it reads behind "3 rows".
            count: how many.
            lines: the first of them, by their number in the file, the header being line 1; or with details.
        """
        if count:
            refused = self._refused.setdefault(reason, _Refused())
            refused.count += count
            refused.lines += lines[: _NAMED - len(refused.lines)]

    def finish(self, read: int) -> None:
        """Say what became of the file's ``read`` rows.

        Raises:
            DataError: no row is left; or some were refused or look wrong, and that is to be an error.
        """
        kept = read - self.refused
        findings = [
            f"{refused.count} {reason} (line {', '.join(refused.lines)}{', …' * (refused.count > len(refused.lines))})"
            for reason, refused in self._refused.items()
        ]
        if not read:
            raise DataError(f"{self.path} has no rows below its header, or none at all: fill it, or take it away")
        if not kept:
            raise DataError(f"{self.path}: none of its {read} rows can be used: {'; '.join(findings)}")
        counts = f"{self.path}: {read} rows read, {kept} kept, {self.refused} skipped"
        if not findings and not self.doubts:
            _logger.info(counts)
            return
        message = f"{counts}: {'; '.join([*findings, *self.doubts])}"
        if self.strict:
            raise DataError(f"{message}. Mend the file, or set strict_data=False to go on without what is refused")
        _logger.warning("%s", message)
