"""The check at the end: searches the bytes of every file around a data set for the ids, as its format writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from recbole_llm_interest.erasure.artifacts import has_trace
from recbole_llm_interest.erasure.data_files import DataFiles
from recbole_llm_interest.erasure.inventory import Inventory
from recbole_llm_interest.erasure.request import Erasure, Forgotten
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import find_tokens, read_header, read_rows

#: where RecBole writes logs, whatever the settings
_LOGS = Path("log")


def leave_traces(
    files: DataFiles, inventory: Inventory, checkpoint_dir: Path, request: Forgotten, erasure: Erasure
) -> None:
    """Say of every file that still has one of the ids that it is left.

    Args:
        files: of the data set.
        inventory: of what was made from it.
        checkpoint_dir: is searched as a whole, as the folder of logs is.
        request: the erased.
        erasure: of all files.
    """
    for path in sorted(files.folder.rglob("*")):
        if path.is_file() and (why := _trace_in_data(files, path, request, erasure)):
            erasure.leave(path, why)
    for path in _made_from(inventory, checkpoint_dir):
        pattern = request.in_report if path.suffix == ".html" else request.quoted
        if has_trace(path, pattern, erasure):
            erasure.leave(path, "still has the id: remove it there, or delete the file")


def _made_from(inventory: Inventory, checkpoint_dir: Path) -> Iterator[Path]:
    """Files that were made from the data set, and those of which nobody knows."""
    for artifact in inventory.own:
        if artifact.path.is_file():
            yield artifact.path
        elif artifact.path.is_dir():
            yield from filter(Path.is_file, sorted(artifact.path.rglob("*")))
    for folder in (checkpoint_dir, _LOGS):
        yield from inventory.unrecorded(folder)


def _trace_in_data(files: DataFiles, path: Path, request: Forgotten, erasure: Erasure) -> str:
    """Why a file of the data set's folder is left; empty if it has no id."""
    if path in (files.content_lines("user"), files.content_lines("item")):
        return "names them in a row of another" if has_trace(path, request.json_member, erasure) else ""
    if path.parent == files.folder:
        with suppress(DataError):
            header = read_header(path, files.layout)
            return _trace_in_table(files, path, header, request)
    pattern = re.compile(request.json_member.pattern + b"|" + request.quoted.pattern)
    return "still has the id: remove it there, or delete the file" if has_trace(path, pattern, erasure) else ""


def _trace_in_table(files: DataFiles, path: Path, header: Iterable[str], request: Forgotten) -> str:
    columns = list(header)
    if request.id_field in columns and find_tokens(path, files.layout, request.id_field, request.tokens):
        return "has rows of them: remove these"
    listed = f"{request.id_field}_list"
    for cells in read_rows(path, files.layout) if {request.id_field, listed} & set(columns) else ():
        if len(cells) != len(columns):
            if request.tokens.intersection(cells):
                return "has them in a line with too many or too few columns: remove that line if it is theirs"
        elif listed in columns:
            values = cells[columns.index(listed)].split(files.layout.sequence_separator)
            if request.tokens.intersection(values):
                return f"has them in lists of the column {listed}: make the file again without them"
    return ""
