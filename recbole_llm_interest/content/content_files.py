"""Reads the rows of a data set's content files: JSON lines, or RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.text_template import is_missing
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS, AtomicFormat, read_atomic_file, read_header
from recbole_llm_interest.io.opening import FileKind, is_there, parse_json, read_lines
from recbole_llm_interest.io.row_report import RowReport

_JSON_LINES = FileKind("content file", DataError, None, "save it as UTF-8, with one JSON object in each line")


@dataclass(frozen=True)
class ContentFiles:
    """The files that may have the content of a data set's items or users.

    Attributes:
        folder: the data set's folder.
        dataset: its name.
        kind: item or user.
        id_field: the column of the IDs.
        layout: of the atomic file; JSON lines are UTF-8.
        strict: whether a row that cannot be used is an error.
    """

    folder: Path
    dataset: str
    kind: str
    id_field: str
    layout: AtomicFormat
    strict: bool

    @property
    def jsonl(self) -> Path:
        """The file of JSON lines, which takes precedence."""
        return self.folder / "content" / f"{self.kind}s.jsonl"

    @property
    def atomic(self) -> Path:
        """RecBole's atomic file."""
        return self.folder / f"{self.dataset}.{self.kind}"

    @property
    def path(self) -> Path | None:
        """The file that is read; None if neither exists."""
        return next((path for path in (self.jsonl, self.atomic) if is_there(path)), None)

    @property
    def sequence_columns(self) -> set[str]:
        """Columns of the atomic file whose values are lists of tokens; empty for JSON lines.

        Raises:
            DataError: the atomic file has no valid header.
        """
        if self.path != self.atomic:
            return set()
        return {name for name, kind in read_header(self.atomic, self.layout).items() if kind == "token_seq"}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the usable rows as columns by name. Each has an ID of its own; the log counts the other rows.

        Raises:
            DataError: the file is not in its encoding, has no ID column, or no row can be used; or ``strict`` is set
                and a row cannot.
        """
        return self._json_rows() if self.path == self.jsonl else self._atomic_rows()

    def _json_rows(self) -> Iterator[dict[str, Any]]:
        report = RowReport(self.jsonl, self.strict)
        seen: set[str] = set()
        count = 0
        for number, line in enumerate(read_lines(self.jsonl, _JSON_LINES), start=1):
            if not line.strip():
                continue
            count += 1
            row, reason, detail = _parse_row(line, self.id_field, seen)
            if reason:
                report.skip(reason, 1, [f"{number}{detail}"])
            else:
                seen.add(as_token(row[self.id_field]))
                yield row
        report.finish(count)

    def _atomic_rows(self) -> Iterator[dict[str, Any]]:
        columns = dict.fromkeys(read_header(self.atomic, self.layout), "text")
        table = read_atomic_file(
            self.atomic, self.layout, columns, ids=[self.id_field], unique=True, strict=self.strict
        )
        for cells in table.itertuples(index=False, name=None):
            yield dict(zip(columns, cells, strict=True))


def as_token(value: Any) -> str:
    """Return an ID or file name as in the file, with all spaces; an empty string for a missing value."""
    return "" if is_missing(value) else str(value)


def _parse_row(line: str, id_field: str, seen: Set[str]) -> tuple[dict[str, Any], str, str]:
    """Return a line's JSON object, and why it cannot be used, with details; the reason is empty if it can."""
    try:
        row = parse_json(line, long_integers=True)  # an ID may be one
    except ValueError as error:
        return {}, "not a JSON object", f": {error}"
    return row, _skip_reason(row, id_field, seen), ""


def _skip_reason(row: Any, id_field: str, seen: Set[str]) -> str:
    """Return why a row cannot be used; empty if it can."""
    fault = id_fault(row, id_field)
    return fault or (f"with a duplicate {id_field}" if as_token(row[id_field]) in seen else "")


def id_fault(row: Any, id_field: str) -> str:
    """Return why a row has no usable id; empty if it has one.

    Example:
        >>> id_fault({"item_id": ["i1"]}, "item_id")
        'whose item_id is neither a string nor an integer'
    """
    if not isinstance(row, dict):
        return f"not a JSON object but a {type(row).__name__}"
    value = row.get(id_field)
    if value is None or value == "":
        return f"without {id_field!r}"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return f"whose {id_field} is neither a string nor an integer"
    token = as_token(value)
    if "\0" in token or len(token) > MAX_TOKEN_CHARACTERS:
        return f"with a NUL, or more than {MAX_TOKEN_CHARACTERS} characters, in {id_field!r}"
    return ""
