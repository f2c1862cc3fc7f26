"""Reads what items and users are: text by token, from ``content/*.jsonl`` or from columns of the atomic files.

RecBole's own reader keeps no raw text (it splits titles into words), takes a leading quote as the start of a
quoted field and drops ids such as ``NA``; here a field is what stands between two tabs.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import DataError

#: token -> text; a token whose text is empty is left out
Texts = dict[str, str]


def read_texts(
    folder: Path,
    dataset: str,
    kind: str,
    id_field: str,
    fields: Sequence[str] | None,
    separator: str = "\t",
    encoding: str = "utf-8",
) -> Texts:
    """Read the text of every item or user of a data set.

    ``content/items.jsonl`` goes before the columns of ``<dataset>.item``; neither is required. A row's text names
    each column that is not empty: ``title: Toy Story, year: 1995``.

    Args:
        folder: the data set's folder.
        dataset: its name.
        kind: ``item`` or ``user``.
        id_field: the column that holds the token.
        fields: the columns to join, in order; ``None`` for every column but the id and ``*_file_name``.
        separator: what stands between two columns of the atomic file.
        encoding: the atomic file's; JSON lines are UTF-8.

    Raises:
        DataError: a named column does not exist, the id column is missing, an id comes twice, or a line is not in
            the file's form or encoding.
    """
    jsonl, atomic = folder / "content" / f"{kind}s.jsonl", folder / f"{dataset}.{kind}"
    if jsonl.is_file():
        source, rows = jsonl, _json_rows(jsonl)
    elif atomic.is_file():
        source, rows = atomic, _atomic_rows(atomic, separator, encoding)
    elif fields:
        raise DataError(
            f"{kind}_text_fields names {', '.join(fields)}, but neither {jsonl} nor {atomic} exists: "
            f"add one of them, or leave {kind}_text_fields unset"
        )
    else:
        return {}
    texts: Texts = {}
    columns: dict[str, None] = {}
    seen: set[str] = set()
    for number, row in rows:
        if id_field not in row or str(row[id_field]) == "":
            raise DataError(f"{source}, line {number}: no {id_field!r}; every row needs one")
        token = str(row[id_field])
        if token in seen:
            raise DataError(f"{source}, line {number}: {id_field} {token!r} comes a second time; keep one of the rows")
        seen.add(token)
        columns.update(dict.fromkeys(row))
        names = fields if fields is not None else [c for c in row if c != id_field and not c.endswith("_file_name")]
        text = ", ".join(f"{name}: {value}" for name in names if (value := _as_text(row.get(name))))
        if text:
            texts[token] = text
    for name in fields or ():
        if name not in columns:
            nearest = difflib.get_close_matches(name, columns, n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(columns)}"
            raise DataError(f"{kind}_text_fields names {name!r}, which {source} does not have{hint}")
    return texts


def _as_text(value: Any) -> str:
    """One column's value as one line of text; nothing is the empty string."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_as_text, value)))
    return " ".join(str(value).split())


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers. Only a line feed ends a line."""
    # utf-8-sig reads UTF-8 with and without the mark that some editors put first
    with path.open(encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not {encoding}: save it as UTF-8, or set encoding for atomic files") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path, "utf-8"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not a JSON object ({error.msg})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not a JSON object but a {type(row).__name__}")
        yield number, row


def _atomic_rows(path: Path, separator: str, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a RecBole atomic file, whose header says ``name:type`` for each column."""
    lines = _lines(path, encoding)
    _, first = next(lines, (1, ""))
    header = [column.split(":")[0] for column in first.split(separator)]
    for number, line in lines:
        cells = line.split(separator)
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} columns where the header has {len(header)}")
        yield number, dict(zip(header, cells, strict=True))
