"""Erases users or items from files that were made from a data set, by the kind of file.

| kind | action |
|---|---|
| log | lines with a quoted id are removed |
| features | those of removed content are deleted |
| saved data set | deleted: it has every event |
| recommendations | deleted: they have items for each user; so are parts of unfinished ones |
| user state | deleted, or rewritten without the user |
| event store | events and states of the user, or with the item, are removed |
| dead letters | lines with the id are removed |
| grown data set | rows of the user or item are removed |
| report | deleted if it names one of them; otherwise left, or deleted on request |
| table, tuning | left, or deleted on request: its metrics are of events that are removed |
| export | texts of the items are removed; the rest is left, or deleted on request |
| checkpoint, resume state | left, or deleted on request: weights cannot unlearn |
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.erasure.data_files import tokens_of_line
from recbole_llm_interest.erasure.request import ANY_FILE, Erasure, ErasureRequest
from recbole_llm_interest.erasure.states import erase_from_state
from recbole_llm_interest.errors import DataError, StorageError
from recbole_llm_interest.io.event_store import EventStore
from recbole_llm_interest.io.files import remove_unfinished, write_atomically
from recbole_llm_interest.io.folders import finish_replacing, replace_files
from recbole_llm_interest.io.manifest import Artifact, Kind
from recbole_llm_interest.io.opening import FileReadError, open_file, parse_json, read_bytes
from recbole_llm_interest.io.table_parts import find_parts, remove_parts
from recbole_llm_interest.training.model_folder.format import CONFIG, TEXTS

_DATA_URL = re.compile(rb"base64,([A-Za-z0-9+/]+=*)")
_PAGE = "report.html"
#: files that are made again from what is left
_OF_ALL_USERS: tuple[Kind, ...] = ("saved data set", "recommendations", "embeddings")
_MODELS, _RESULTS = "give --checkpoints to delete it", "give --results to delete it"


@dataclass(frozen=True)
class DeletionOptions:
    """Files that are deleted only on request.

    Attributes:
        checkpoints: trained models: checkpoints, resume states, exported folders and programs.
        results: tables, results of tuning, and reports.
    """

    checkpoints: bool = False
    results: bool = False


def erase_artifacts(
    artifacts: Sequence[Artifact], request: ErasureRequest, options: DeletionOptions, erasure: Erasure
) -> None:
    """Erase users or items from every file that was made from a data set, except from features.

    Args:
        artifacts: of this data set.
        request: the users or items.
        options: what is deleted on request.
        erasure: records what is done.
    """
    by_kind: dict[Kind, list[Path]] = defaultdict(list)
    for artifact in artifacts:
        by_kind[artifact.kind].append(artifact.path)
    for paths in by_kind.values():
        for path in paths:
            remove_unfinished(path)
    for path in filter(Path.is_file, by_kind["log"]):
        erasure.rewrite_lines(path, lambda line: request.quoted.search(line) is not None)
    for path in filter(Path.is_file, by_kind["dead letters"]):
        erasure.rewrite_lines(path, lambda line: _is_letter_of(request, line))
    _delete_files_of_all_users(by_kind, erasure)
    _erase_from_files_of_users(by_kind, request, erasure)
    _erase_reports(by_kind["report"], request, options, erasure)
    _erase_exports(by_kind["export"], request, options, erasure)
    for kind, is_requested, why in (
        ("table", options.results, f"its metrics may include their events: {_RESULTS}"),
        ("tuning", options.results, f"its search may have used their events: {_RESULTS}"),
        ("checkpoint", options.checkpoints, f"may have been trained on them: train again, and {_MODELS}"),
        ("resume state", options.checkpoints, f"may have been trained on them: {_MODELS}"),
    ):
        _delete_or_leave(by_kind[kind], is_requested, why, erasure)  # type: ignore[index]


def _delete_files_of_all_users(by_kind: Mapping[Kind, Sequence[Path]], erasure: Erasure) -> None:
    """Delete the files of ``_OF_ALL_USERS``, and parts of unfinished ones."""
    for path in [path for kind in _OF_ALL_USERS for path in by_kind[kind]]:
        erasure.delete(path)
    for folder in by_kind["recommendation parts"]:
        for path in find_parts(folder):
            erasure.delete(path)
        remove_parts(folder)


def _is_letter_of(request: ErasureRequest, line: bytes) -> bool:
    """Whether a line that could not be read has one of the ids."""
    try:
        text = parse_json(line.decode())["line"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return request.quoted.search(line) is not None
    return bool(tokens_of_line(request, text)) or request.quoted.search(text) is not None


def _erase_from_stream(path: Path, request: ErasureRequest, erasure: Erasure) -> None:
    try:
        with EventStore(path.parent) as store:
            deleted = store.forget(**{f"{request.kind}s": request.tokens})
    except DataError as error:
        erasure.leave(path, f"cannot be read ({error}): delete it")
        return
    if deleted:
        erasure.rewritten.append(path)


#: files of several users, from which some are removed
_REWRITTEN: tuple[tuple[Kind, Callable[[Path, ErasureRequest, Erasure], None]], ...] = (
    ("user state", erase_from_state),
    ("event store", _erase_from_stream),
)


def _erase_from_files_of_users(
    by_kind: Mapping[Kind, Sequence[Path]], request: ErasureRequest, erasure: Erasure
) -> None:
    for kind, erase_from in _REWRITTEN:
        for path in filter(Path.is_file, by_kind[kind]):
            erase_from(path, request, erasure)


def _delete_or_leave(paths: Iterable[Path], is_requested: bool, why: str, erasure: Erasure) -> None:
    for path in filter(Path.exists, paths):
        if is_requested:
            erasure.delete(path)
        else:
            erasure.leave(path, why)


def _erase_reports(paths: Sequence[Path], request: ErasureRequest, options: DeletionOptions, erasure: Erasure) -> None:
    """Erase from reports. The page is deleted last: it tells whether the pictures beside it show an erased id."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    why = f"its figures may include their events: {_RESULTS}"
    for folder, files in folders.items():
        page = folder / _PAGE
        is_named = page.exists() and contains_id(page, request.in_report, erasure)
        in_order = sorted(files, key=lambda path: path == page)
        _delete_or_leave(in_order, options.results or is_named or not page.exists(), why, erasure)


def contains_id(path: Path, pattern: re.Pattern[bytes], erasure: Erasure) -> bool:
    """Return whether a file contains an id, including SVG images in a page. A file that cannot be read is left."""
    try:
        return any(pattern.search(block) for block in _blocks(path))
    except FileReadError as error:
        erasure.leave(path, f"{error.reason}: search it for the id")
        return False


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield overlapping blocks of a file; of a tensor file, its header alone; of a page, its SVG images as well."""
    with open_file(path) as file:
        if path.suffix == ".safetensors":
            size = int.from_bytes(file.read(8), "little")
            yield file.read(min(size, 2**30))
        elif path.suffix == ".html":
            page = file.read()
            yield page
            for encoded in _DATA_URL.findall(page):
                try:
                    yield base64.b64decode(encoded)
                except binascii.Error:
                    continue
        else:
            end = b""
            while block := file.read(2**24):
                yield end + block
                end = block[-4096:]


def _erase_exports(paths: Sequence[Path], request: ErasureRequest, options: DeletionOptions, erasure: Erasure) -> None:
    """Erase from exported folders and their programs."""
    folders = [path.parent for path in paths if path.name == CONFIG]
    for folder in filter(Path.is_dir, folders):
        finish_replacing(folder)
        if request.kind == "item" and not options.checkpoints:
            _erase_texts(folder, request, erasure)
    why = f"the model may have been trained on them: {_MODELS}"
    _delete_or_leave(paths, options.checkpoints, why, erasure)


def _erase_texts(folder: Path, request: ErasureRequest, erasure: Erasure) -> None:
    """Remove texts and titles of items from an exported folder, and update its hash."""
    try:
        texts, config = (parse_json(read_bytes(folder / name, ANY_FILE).decode()) for name in (TEXTS, CONFIG))
        kept = {key: {item: text for item, text in texts[key].items() if item not in request.tokens} for key in texts}
        is_intact = config["sha256"][TEXTS] == hashlib.sha256(read_bytes(folder / TEXTS, ANY_FILE)).hexdigest()
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        return  # deleted or changed since: the search at the end reports it
    if kept == texts or not is_intact:
        return
    data = json.dumps(kept, ensure_ascii=False).encode()
    config["sha256"][TEXTS] = hashlib.sha256(data).hexdigest()
    parts: dict[str, Any] = {TEXTS: data, CONFIG: json.dumps(config, indent=1, ensure_ascii=False).encode()}
    with replace_files(folder) as new:
        for name, content in parts.items():
            write_atomically(new / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    erasure.rewritten += [folder / TEXTS, folder / CONFIG]
