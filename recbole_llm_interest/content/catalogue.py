"""Reads what items and users are, from ``content/*.jsonl`` or from columns of the atomic files.

RecBole's own reader keeps no raw text (it splits titles into words), takes a leading quote as the start of a
quoted field and drops ids such as ``NA``; here a field is what stands between two tabs.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import (
    MAX_TOKEN_CHARACTERS,
    AtomicFormat,
    format_columns,
    read_atomic_file,
    read_header,
)
from recbole_llm_interest.io.row_report import RowReport
from recbole_llm_interest.settings import Modality

_logger = logging.getLogger(__name__)
#: modality -> the column that names a file below ``content/``, as Hugging Face's folder data sets name it
MEDIA_COLUMNS: dict[Modality, str] = {"image": "image_file_name", "audio": "audio_file_name"}

_Row = dict[str, Any]


@dataclass
class Catalogue:
    """What is known of the items, or of the users, of one data set.

    Attributes:
        kind: item or user.
        id_field: what the column of their ids is called.
        folder: the data set's folder.
        tokens: every row's id, in the file's order.
        blobs: modality -> token -> content; a token whose content is empty is left out.
        labels: token -> the first column of its text that is not empty, as a title.
    """

    kind: str
    id_field: str
    folder: Path
    tokens: list[str] = field(default_factory=list)
    blobs: dict[Modality, dict[str, Blob]] = field(default_factory=lambda: {"text": {}, "image": {}, "audio": {}})
    labels: dict[str, str] = field(default_factory=dict)


def read_catalogue(
    folder: Path,
    dataset: str,
    kind: str,
    id_field: str,
    text_fields: Sequence[str] | None = None,
    text_template: str | None = None,
    layout: AtomicFormat = AtomicFormat(),  # noqa: B008  (it is frozen)
    strict: bool = False,
) -> Catalogue:
    """Read the content of every item or user of a data set.

    ``content/items.jsonl`` goes before the columns of ``<dataset>.item``; neither is required. A row that cannot be
    used (no id or one that came before, no JSON object, another number of columns than the header's) is left out,
    and counted with its reason in the log.

    Args:
        folder: the data set's folder.
        dataset: its name.
        kind: ``item`` or ``user``.
        id_field: the column that holds the token.
        text_fields: the columns that make up the text, in order; ``None`` for every column but the id and
            ``*_file_name``. The text names each column that is not empty: ``title: Toy Story, year: 1995``.
        text_template: the text as a sentence, ``"{title} ({year}) with {actors}"``, instead of ``text_fields``. A
            column that is empty takes along what touches it behind, up to a space, and what stands before it, from
            that space on: without a year and actors it is the title alone.
        layout: how the atomic file is written; JSON lines are UTF-8.
        strict: whether a row that is left out is an error.

    Raises:
        DataError: a named column does not exist, the id column is missing, the file is not in its encoding, none of
            its rows can be used, or ``strict`` is set and one cannot.
        SettingsError: the template cannot be read.
    """
    write_text, named = text_writer(kind, id_field, text_fields, text_template)
    setting = f"{kind}_text_fields" if text_template is None else f"{kind}_text_template"
    jsonl, atomic = folder / "content" / f"{kind}s.jsonl", folder / f"{dataset}.{kind}"
    if jsonl.is_file():
        source, rows = jsonl, _json_rows(jsonl, id_field, strict)
    elif atomic.is_file():
        source, rows = atomic, _atomic_rows(atomic, id_field, layout, strict)
    else:
        if named:  # often in the data set's own settings file, which nobody should have to edit to leave content out
            _logger.warning("%s has no effect: there is no %s and no %s", setting, jsonl, atomic)
        return Catalogue(kind, id_field, folder)
    catalogue = Catalogue(kind, id_field, folder)
    columns: dict[str, None] = {}
    for row in rows:
        token = _as_is(row[id_field])
        catalogue.tokens.append(token)
        columns.update(dict.fromkeys(row))
        if text := write_text(row):
            catalogue.blobs["text"][token] = Text(text)
            values = (_as_text(row.get(column)) for column in named or _text_columns(row, id_field))
            catalogue.labels[token] = next(filter(None, values), text)
        for modality, column in MEDIA_COLUMNS.items():
            if name := _as_is(row.get(column)):
                catalogue.blobs[modality][token] = MediaFile(folder / "content", name)
    _check_columns(setting, named, columns, source)
    return catalogue


def read_column(
    folder: Path,
    dataset: str,
    kind: str,
    id_field: str,
    column: str,
    layout: AtomicFormat = AtomicFormat(),  # noqa: B008  (it is frozen)
    strict: bool = False,
) -> dict[str, list[str]]:
    """What one column says of each item or user, by token: one value, or the parts of a list or a ``token_seq``.

    What is empty is left out. Arguments are those of ``read_catalogue``. A title that is a ``token_seq`` is its words,
    with the layout's sequence separator in between.

    Raises:
        DataError: there is no such column, or as ``read_catalogue``.
    """
    jsonl, atomic = folder / "content" / f"{kind}s.jsonl", folder / f"{dataset}.{kind}"
    source = jsonl if jsonl.is_file() else atomic
    if not source.is_file():
        raise DataError(f"column {column!r} of {kind}s: there is no {jsonl} and no {atomic}")
    is_sequence = source is atomic and read_header(atomic, layout).get(column) == "token_seq"
    rows = _json_rows(jsonl, id_field, strict) if source is jsonl else _atomic_rows(atomic, id_field, layout, strict)
    columns: dict[str, None] = {}
    values: dict[str, list[str]] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
        value = row.get(column)
        parts = (
            value.split(layout.sequence_separator)
            if is_sequence and value
            else value
            if isinstance(value, list)
            else [value]
        )
        if found := list(filter(None, map(_as_text, parts))):
            values[_as_is(row.get(id_field))] = found
    _check_columns("the report", [column], columns, source)
    return values


def _check_columns(setting: str, named: Iterable[str], columns: Mapping[str, None], source: Path) -> None:
    for name in named:
        if columns and name not in columns:
            nearest = difflib.get_close_matches(name, columns, n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else f"; it has {format_columns(columns)}"
            raise DataError(f"{setting} names {name!r}, which {source} does not have{hint}")


def text_writer(
    kind: str, id_field: str, fields: Sequence[str] | None, template: str | None
) -> tuple[Callable[[_Row], str], Sequence[str]]:
    """What makes a row's text, and the columns that it names. Arguments and errors are those of ``read_catalogue``."""
    if template is not None:
        try:
            fields_of = list(string.Formatter().parse(template))
        except ValueError as error:
            raise SettingsError(f"{kind}_text_template={template!r} cannot be read: {error}") from error
        parsed = [(words, name) for words, name, _, _ in fields_of]
        named = [name for _, name in parsed if name is not None]
        if not named or not all(named) or any(style or conversion for _, _, style, conversion in fields_of):
            raise SettingsError(
                f"{kind}_text_template={template!r} needs columns in it, each as {{column}} and no more"
            )
        parts = _parts(parsed)
        return lambda row: _fill(parts, row), named

    def join(row: _Row) -> str:
        names: Iterable[str] = fields if fields is not None else _text_columns(row, id_field)
        return ", ".join(f"{name}: {value}" for name in names if (value := _as_text(row.get(name))))

    return join, fields or ()


@dataclass
class _Part:
    """A column of a template with the words that stand or fall with it; without a column, words alone."""

    before: str
    column: str | None
    behind: str = ""


def _parts(parsed: Sequence[tuple[str, str | None]]) -> list[_Part]:
    parts: list[_Part] = []
    for words, column in parsed:
        if parts:
            touching = re.match(r"\S*", words)
            parts[-1].behind = touching[0] if touching else ""
            words = words.removeprefix(parts[-1].behind)
        parts.append(_Part(words, column))
    return parts


def _fill(parts: Sequence[_Part], row: _Row) -> str:
    values = [_as_text(row.get(part.column)) if part.column else "" for part in parts]
    if not any(values):
        return ""
    filled = zip(parts, values, strict=True)
    return "".join(part.before + value + part.behind for part, value in filled if value or not part.column).strip()


def _text_columns(row: _Row, id_field: str) -> list[str]:
    return [column for column in row if column != id_field and not column.endswith("_file_name")]


def _as_is(value: Any) -> str:
    """An id or a file's name: what stands there, with every space."""
    return "" if value is None or value != value else str(value)


def _as_text(value: Any) -> str:
    """One column's value as one line of text; nothing is the empty string."""
    if value is None or value != value:  # JSON's NaN, which pandas writes for what is missing, is not itself
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_as_text, value)))
    return " ".join(str(value).split())


def _json_rows(path: Path, id_field: str, strict: bool) -> Iterator[_Row]:
    """Rows of a file of JSON lines. Only a line feed ends a line."""
    report = RowReport(path, strict)
    seen: set[str] = set()
    number, read = 0, 0
    # utf-8-sig reads UTF-8 with and without the mark that some editors put first
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                read += 1
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:  # ValueError: not JSON, or thousands of digits
                    report.skip("not a JSON object", 1, [f"{number}: {error}"])
                    continue
                reason = _reason_against(row, id_field, seen)
                if reason:
                    report.skip(reason, 1, [str(number)])
                else:
                    seen.add(_as_is(row[id_field]))
                    yield row
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not utf-8 (behind line {number}): save it as UTF-8") from error
    report.finish(read)


def _reason_against(row: Any, id_field: str, seen: Set[str]) -> str | None:
    if not isinstance(row, dict):
        return f"not a JSON object but a {type(row).__name__}"
    value = row.get(id_field)
    if value is None or value == "":
        return f"without {id_field!r}"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return f"whose {id_field} is no string and no whole number"
    token = _as_is(value)
    if "\0" in token or len(token) > MAX_TOKEN_CHARACTERS:
        return f"with a NUL, or more than {MAX_TOKEN_CHARACTERS} characters, in {id_field!r}"
    return f"with a duplicate {id_field}" if token in seen else None


def _atomic_rows(path: Path, id_field: str, layout: AtomicFormat, strict: bool) -> Iterator[_Row]:
    """Rows of a RecBole atomic file, each cell as it stands."""
    columns = dict.fromkeys(read_header(path, layout), "text")
    rows = read_atomic_file(path, layout, columns, ids=[id_field], unique=True, strict=strict)
    for cells in rows.itertuples(index=False, name=None):
        yield dict(zip(columns, cells, strict=True))
