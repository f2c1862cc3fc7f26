"""Makes the rows of ``content/items.jsonl`` and ``content/users.jsonl`` of a table of items or users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from recbole_llm_interest.conversion.media import (
    FILE_NAMES,
    MediaColumn,
    Modality,
    are_urls,
    copies_folder,
    find_files,
    modality_of,
)
from recbole_llm_interest.conversion.options import Options
from recbole_llm_interest.conversion.table_files import Skipped
from recbole_llm_interest.conversion.tables import Table
from recbole_llm_interest.conversion.values import MISSING_WORDS, as_json, as_tokens, is_blank
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS

if TYPE_CHECKING:
    import pandas as pd

#: separates the values of a cell, as in MovieLens' genres
_LIST_SEPARATOR = "|"
_LONGEST_PART = 40
#: types that JSON has, or that are written as text or a list
_WRITABLE = (str, int, float, Decimal, date, time, UUID, np.generic, list, tuple, set, frozenset, np.ndarray)


@dataclass
class Content:
    """The content of items or users.

    Attributes:
        kind: item or user.
        id_column: the table's column of ids.
        tokens: the ids, each once, in the table's order.
        columns: values by column and row, in the order of ``tokens``; None for an empty cell.
        media: the columns of images and audio.
        lists: columns whose cells were split at ``|``.
        left_out: columns that are not written, and why.
        skipped: rows that are left out.
    """

    kind: str
    id_column: str
    tokens: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    media: dict[Modality, MediaColumn] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def modalities(self) -> list[str]:
        """What there is: text, image, audio."""
        return [*(["text"] if self.columns else []), *self.media]

    def rows(self) -> list[dict[str, Any]]:
        """Return the JSON objects: the id, and what is not empty."""
        columns = self.columns | {FILE_NAMES[modality]: found.names for modality, found in self.media.items()}
        return [
            {f"{self.kind}_id": token}
            | {name: cells[number] for name, cells in columns.items() if cells[number] is not None}
            for number, token in enumerate(self.tokens)
        ]


def modalities_of(contents: Iterable[Content]) -> list[str]:
    """Return what there is in any of the contents, in the order text, image, audio."""
    present = {modality for content in contents for modality in content.modalities}
    return [modality for modality in ("text", *FILE_NAMES) if modality in present]


def read_content(table: Table, kind: str, id_column: str, options: Options, content_folder: Path) -> Content:
    """Return the content of a table of items or users.

    Args:
        table: one row an item or user.
        kind: item or user.
        id_column: the column of their ids.
        options: which columns to leave out.
        content_folder: of the data set, where the files of images and audio have to be.

    Raises:
        DataError: ids are lists, or none of the files that a column names exists.
    """
    frame, tokens, skipped = _with_ids(table, id_column)
    content = Content(kind, id_column, tokens, left_out={**table.left_out}, skipped=table.skipped + skipped)
    folders = [folder.absolute() for folder in (table.folder, Path(), content_folder) if folder is not None]
    for column in frame.columns.drop(id_column):
        if column in options["drop"]:
            content.left_out[column] = "dropped"
        else:
            _add_column(content, column, list(frame[column]), folders, content_folder.resolve())
    return content


def _with_ids(table: Table, id_column: str) -> tuple[pd.DataFrame, list[str], list[Skipped]]:
    """Return the rows with an id of their own, the ids, and how many rows have none."""
    tokens = as_tokens(table.frame[id_column])
    reasons = {
        "without an id": tokens.codes < 0,
        "whose id is a word for a missing value": tokens.isin(MISSING_WORDS),
        f"whose id has more than {MAX_TOKEN_CHARACTERS} characters": np.append(
            tokens.categories.str.len() > MAX_TOKEN_CHARACTERS, False
        )[tokens.codes],
    }
    is_repeated = table.frame.iloc[:, :0].assign(token=tokens).duplicated("token").to_numpy()
    reasons["with the id of an earlier row"] = is_repeated & (tokens.codes >= 0)
    skipped = []
    kept = np.ones(len(table.frame), dtype=bool)
    for reason, is_wrong in reasons.items():
        rows = np.flatnonzero(is_wrong & kept)
        if len(rows):
            skipped.append(Skipped(len(rows), reason, f"row {rows[0] + 1}"))
        kept &= ~is_wrong
    return table.frame[kept], list(tokens[kept]), skipped


def _add_column(content: Content, column: str, cells: Sequence[Any], folders: Sequence[Path], root: Path) -> None:
    if are_urls(cells):
        content.left_out[column] = "URLs, and nothing is downloaded: save the files and give a column of their paths"
    elif modality := modality_of(cells):
        if (other := content.media.get(modality)) is not None:
            content.left_out[column] = f"a second column of {modality}, beside {other.column!r}"
        else:
            content.media[modality] = find_files(column, cells, copies_folder(modality, content.kind), folders, root)
    elif strange := next((cell for cell in cells if not isinstance(cell, _WRITABLE) and not is_blank(cell)), None):
        content.left_out[column] = f"objects of the type {type(strange).__name__}"
    elif column == f"{content.kind}_id" or column in FILE_NAMES.values():
        content.left_out[column] = "has the name of another column"
    else:
        _add_values(content, column, as_json(cells))


def _add_values(content: Content, column: str, values: list[Any]) -> None:
    known = [value for value in values if value is not None]
    if not known:
        content.left_out[column] = "empty"
        return
    if 3 * sum(map(_is_list, known)) > len(known) and all(isinstance(value, str) for value in known):
        values = [None if value is None else _parts(value) for value in values]
        content.lists.append(column)
    content.columns[column] = values


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(_LIST_SEPARATOR) if part.strip()]


def _is_list(value: Any) -> bool:
    """Whether a value is text of several short parts, as in ``Action|Sci-Fi``."""
    parts = _parts(value) if isinstance(value, str) else []
    return len(parts) > 1 and max(map(len, parts)) <= _LONGEST_PART
