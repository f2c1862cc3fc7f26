"""Searches the bytes of all files for the erased ids, as each format writes them, after everything was erased."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from recbole_llm_interest.erasure.artifacts import contains_id
from recbole_llm_interest.erasure.data_files import DataFiles
from recbole_llm_interest.erasure.inventory import Inventory
from recbole_llm_interest.erasure.request import Erasure, ErasureRequest
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import find_tokens, read_header, read_rows

#: where RecBole writes logs, whatever the settings
_LOGS = Path("log")


def report_remaining_ids(
    files: DataFiles, inventory: Inventory, checkpoint_dir: Path, request: ErasureRequest, erasure: Erasure
) -> None:
    """Report every file that still contains one of the ids as left.

    Args:
        files: of the data set.
        inventory: files that were made from it.
        checkpoint_dir: is searched completely, like the folder of logs.
        request: the users or items.
        erasure: records what is left.
    """
    for path in sorted(files.folder.rglob("*")):
        if path.is_file() and (why := _id_in_data_folder(files, path, request, erasure)):
            erasure.leave(path, why)
    for path in _searched_files(inventory, checkpoint_dir):
        pattern = request.in_report if path.suffix == ".html" else request.quoted
        if contains_id(path, pattern, erasure):
            erasure.leave(path, "still contains the id: remove it there, or delete the file")


def _searched_files(inventory: Inventory, checkpoint_dir: Path) -> Iterator[Path]:
    """Yield files that were made from the data set, and files that no manifest lists."""
    for artifact in inventory.own:
        if artifact.path.is_file():
            yield artifact.path
        elif artifact.path.is_dir():
            yield from filter(Path.is_file, sorted(artifact.path.rglob("*")))
    for folder in (checkpoint_dir, _LOGS):
        yield from inventory.unrecorded(folder)


def _id_in_data_folder(files: DataFiles, path: Path, request: ErasureRequest, erasure: Erasure) -> str:
    """Return why a file of the data set's folder is left; empty if it does not contain an id."""
    is_listed = path == files.event_lines and request.kind == "item"
    if is_listed and contains_id(path, request.json_element, erasure):
        return "contains the id in lists of other events: write the file again without it"
    if path in (files.content_lines("user"), files.content_lines("item"), files.event_lines):
        return "contains the id in another row" if contains_id(path, request.json_member, erasure) else ""
    if path.parent == files.folder:
        with suppress(DataError):
            header = read_header(path, files.layout)
            return _id_in_table(files, path, header, request)
    pattern = re.compile(request.json_member.pattern + b"|" + request.quoted.pattern)
    return "still contains the id: remove it there, or delete the file" if contains_id(path, pattern, erasure) else ""


def _id_in_table(files: DataFiles, path: Path, header: Iterable[str], request: ErasureRequest) -> str:
    columns = list(header)
    if request.id_field in columns and find_tokens(path, files.layout, request.id_field, request.tokens):
        return "has rows of them: remove these rows"
    listed = f"{request.id_field}_list"
    for cells in read_rows(path, files.layout) if {request.id_field, listed} & set(columns) else ():
        if len(cells) != len(columns):
            if request.tokens.intersection(cells):
                return "contains the id in a line with too many or too few columns: remove that line if it is theirs"
        elif listed in columns:
            values = cells[columns.index(listed)].split(files.layout.sequence_separator)
            if request.tokens.intersection(values):
                return f"contains the id in lists of the column {listed}: create the file again without it"
    return ""
