"""Reads the content of items and users from ``content/*.jsonl`` or from columns of the atomic files.

RecBole's own reader is not used: it splits text into words, treats a leading quote as the start of a quoted field, and
drops IDs such as ``NA``. Here a field is the text between two tabs.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.categories import CategoryColumns
from recbole_llm_interest.content.content_files import ContentFiles, as_token
from recbole_llm_interest.content.text_template import Columns, as_text, text_columns, text_writer
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, format_columns
from recbole_llm_interest.settings import Modality

_logger = logging.getLogger(__name__)
#: by modality, the column of a file's name below ``content/``, as in Hugging Face's folder data sets
MEDIA_COLUMNS: dict[Modality, str] = {"image": "image_file_name", "audio": "audio_file_name"}


@dataclass
class Catalogue:
    """Content of a data set's items or users.

    Attributes:
        kind: item or user.
        id_field: the column of the IDs.
        folder: the data set's folder.
        tokens: IDs, in the file's order.
        blobs: content by modality and token, without empty content.
        labels: by token, the first column of the text that is not empty, such as a title.
        category_columns: the columns of the text that may have categories.
    """

    kind: str
    id_field: str
    folder: Path
    tokens: list[str] = field(default_factory=list)
    blobs: dict[Modality, dict[str, Blob]] = field(default_factory=lambda: {"text": {}, "image": {}, "audio": {}})
    labels: dict[str, str] = field(default_factory=dict)
    category_columns: CategoryColumns = field(default_factory=CategoryColumns)


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
    """Read the content of all items or users of a data set.

    ``content/items.jsonl`` takes precedence over ``<dataset>.item``; without both, the catalogue is empty. Rows that
    cannot be used are skipped, and the log counts them by reason.

    Args:
        folder: the data set's folder.
        dataset: its name.
        kind: ``item`` or ``user``.
        id_field: the column of the IDs.
        text_fields: the columns of the text, as for ``text_writer``.
        text_template: a template of the text, as for ``text_writer``.
        layout: of the atomic file; JSON lines are UTF-8.
        strict: whether a row that cannot be used is an error.

    Raises:
        DataError: a named column or the ID column does not exist, or the file or (if ``strict``) a row cannot be used.
        SettingsError: the template is invalid.
    """
    write_text, named_columns = text_writer(kind, id_field, text_fields, text_template)
    setting = f"{kind}_text_fields" if text_template is None else f"{kind}_text_template"
    files = ContentFiles(folder, dataset, kind, id_field, layout, strict)
    if files.path is None:
        # Not an error: the settings file often belongs to the data set, and content should be removable without edits.
        if named_columns:
            _logger.warning("%s has no effect: there is no %s and no %s", setting, files.jsonl, files.atomic)
        return Catalogue(kind, id_field, folder)
    catalogue, columns = _read_rows(files, write_text, named_columns)
    check_named_columns(setting, named_columns, columns, files.path)
    return catalogue


def _read_rows(
    files: ContentFiles, write_text: Callable[[Columns], str], named_columns: Sequence[str]
) -> tuple[Catalogue, dict[str, None]]:
    """Return the catalogue, and the names of all columns."""
    catalogue = Catalogue(files.kind, files.id_field, files.folder)
    catalogue.category_columns.sequences = dict.fromkeys(files.sequence_columns, files.layout.sequence_separator)
    columns: dict[str, None] = {}
    for row in files.rows():
        columns.update(dict.fromkeys(row))
        _add_row(catalogue, row, write_text(row), named_columns or text_columns(row, files.id_field))
    return catalogue, columns


def _add_row(catalogue: Catalogue, row: Mapping[str, Any], text: str, label_columns: Sequence[str]) -> None:
    token = as_token(row[catalogue.id_field])
    catalogue.tokens.append(token)
    if text:
        catalogue.blobs["text"][token] = Text(text)
        values = (as_text(row.get(column)) for column in label_columns)
        catalogue.labels[token] = next(filter(None, values), text)
        catalogue.category_columns.add(token, row, label_columns)
    for modality, column in MEDIA_COLUMNS.items():
        if name := as_token(row.get(column)):
            catalogue.blobs[modality][token] = MediaFile(catalogue.folder / "content", name)


def read_column(
    folder: Path,
    dataset: str,
    kind: str,
    id_field: str,
    column: str,
    layout: AtomicFormat = AtomicFormat(),  # noqa: B008  (it is frozen)
    strict: bool = False,
) -> dict[str, list[str]]:
    """Read one column of all items or users.

    Args:
        folder: the data set's folder.
        dataset: its name.
        kind: ``item`` or ``user``.
        id_field: the column of the IDs.
        column: to read.
        layout: of the atomic file.
        strict: whether a row that cannot be used is an error.

    Returns:
        By token, one value, or the elements of a list or a ``token_seq``; without empty values.

    Raises:
        DataError: the column does not exist, or as for ``read_catalogue``.
    """
    files = ContentFiles(folder, dataset, kind, id_field, layout, strict)
    path = files.path
    if path is None:
        raise DataError(f"column {column!r} of {kind}s: there is no {files.jsonl} and no {files.atomic}")
    separator = layout.sequence_separator if column in files.sequence_columns else None
    columns: dict[str, None] = {}
    values: dict[str, list[str]] = {}
    for row in files.rows():
        columns.update(dict.fromkeys(row))
        elements = [as_text(element) for element in _elements(row.get(column), separator)]
        if any(elements):
            values[as_token(row.get(id_field))] = list(filter(None, elements))
    check_named_columns("the report", [column], columns, path)
    return values


def _elements(value: Any, separator: str | None) -> list[Any]:
    """Return the elements of a list or of a sequence with this separator; a list of any other value."""
    if separator and value:
        return list(value.split(separator))
    return value if isinstance(value, list) else [value]


def check_named_columns(setting: str, named: Iterable[str], columns: Mapping[str, None], path: Path) -> None:
    """Check that the columns that a setting names exist.

    Args:
        setting: for the message.
        named: the columns that it names.
        columns: those that the file has; if there are none, nothing is checked.
        path: the file.

    Raises:
        DataError: one does not.
    """
    for name in named:
        if columns and name not in columns:
            nearest = difflib.get_close_matches(name, columns, n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else f"; it has {format_columns(columns)}"
            raise DataError(f"{setting} names {name!r}, which {path} does not have{hint}")
