"""Erases users or items from a data set's own files: atomic files, JSON lines, images and audio."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS
from recbole_llm_interest.content.content_files import as_token
from recbole_llm_interest.content.event_catalogue import event_lines
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.erasure.request import ANY_FILE, Erasure, ErasureRequest
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, drop_rows, find_tokens, read_header, read_rows
from recbole_llm_interest.io.opening import open_regular, parse_json
from recbole_llm_interest.settings import MODALITIES, ContentSettings

_MEDIA = re.compile(
    b'"(?:%b)"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*")' % b"|".join(column.encode() for column in MEDIA_COLUMNS.values())
)


@dataclass(frozen=True)
class DataFiles:
    """The files of a data set.

    Attributes:
        folder: of the data set.
        dataset: its name.
        layout: format of its atomic files.
        id_fields: names of the id columns, by kind.
    """

    folder: Path
    dataset: str
    layout: AtomicFormat
    id_fields: dict[str, str]

    @classmethod
    def of(cls, config: Config) -> DataFiles:
        """Return the files that a configuration names."""
        fields = {"user": config["USER_ID_FIELD"], "item": config["ITEM_ID_FIELD"]}
        return cls(Path(config["data_path"]), config["dataset"], AtomicFormat.from_config(config), fields)

    @property
    def content(self) -> Path:
        """The folder of JSON lines, images and audio."""
        return self.folder / "content"

    def content_lines(self, kind: str) -> Path:
        """Return the JSON lines file of users or items."""
        return self.content / f"{kind}s.jsonl"

    @property
    def event_lines(self) -> Path:
        """The JSON lines file of events."""
        return event_lines(self.folder)

    def atomic_files(self, column: str) -> list[Path]:
        """Return the data set's atomic files that have a column, including files of splits."""
        found = []
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(f"{self.dataset}.") and path.is_file():
                with suppress(DataError):  # not an atomic file
                    if column in read_header(path, self.layout):
                        found.append(path)
        return found


def erase_media(files: DataFiles, requests: Iterable[ErasureRequest], erasure: Erasure) -> None:
    """Delete images and audio of the erased rows, except those that other rows also use."""
    erased, kept = _media(files, {request.kind: request for request in requests})
    root = files.content.resolve()
    in_use = {(root / name).resolve() for name in kept}
    for name in erased:
        for target in dict.fromkeys(((root / name).resolve(), Path(os.path.normpath(root / name)))):
            if os.path.islink(target) or target.is_file():
                _erase_medium(target, root, in_use, erasure)


def _erase_medium(path: Path, root: Path, in_use: set[Path], erasure: Erasure) -> None:
    if not path.is_relative_to(root):
        erasure.leave(path, "is outside the content folder: delete it if only they use it")
    elif path.resolve() in in_use:
        erasure.leave(path, "is also used by another row: give that row its own file")
    else:
        erasure.delete(path)


def _media(files: DataFiles, requests: dict[str, ErasureRequest]) -> tuple[dict[str, None], set[str]]:
    """Return names of images and audio in the erased rows, and in all other rows, including duplicates."""
    erased: dict[str, None] = {}
    kept: set[str] = set()
    both = [requests.get(kind) or ErasureRequest(kind, files.id_fields[kind], frozenset()) for kind in ("user", "item")]
    for is_erased, names in _media_of_rows(files, both):
        usable = [name for name in names if name and "\0" not in name]
        if is_erased:
            erased.update(dict.fromkeys(usable))
        else:
            kept.update(usable)
    return erased, kept


def _media_of_rows(files: DataFiles, requests: Sequence[ErasureRequest]) -> Iterator[tuple[bool, list[str]]]:
    """Whether each row of the content and of the tables is erased, and the files that it names."""
    yield from _media_of_lines(files.event_lines, requests)
    for request in requests:
        yield from _media_of_lines(files.content_lines(request.kind), [request])
    for path in dict.fromkeys(path for request in requests for path in files.atomic_files(request.id_field)):
        yield from _media_of_table(files, path, requests)


def _media_of_lines(path: Path, requests: Sequence[ErasureRequest]) -> Iterator[tuple[bool, list[str]]]:
    if path.is_file():
        with open_regular(path, ANY_FILE) as file:
            for line in file:
                names = []
                for quoted in _MEDIA.findall(line):
                    with suppress(ValueError):
                        names.append(str(json.loads(quoted)))
                yield any(tokens_of_line(request, line) for request in requests), names


def _media_of_table(
    files: DataFiles, path: Path, requests: Sequence[ErasureRequest]
) -> Iterator[tuple[bool, list[str]]]:
    header = list(read_header(path, files.layout))
    columns = [header.index(name) for name in MEDIA_COLUMNS.values() if name in header]
    own = [(header.index(request.id_field), request.tokens) for request in requests if request.id_field in header]
    for cells in read_rows(path, files.layout) if columns else ():
        padded = [*cells, *[""] * len(header)]  # a malformed line may lack columns
        yield any(padded[at] in tokens for at, tokens in own), [padded[at] for at in columns]


def tokens_of_line(request: ErasureRequest, line: bytes) -> set[str]:
    """Return the erased ids that a JSON line belongs to. A malformed line belongs to every id that it contains."""
    try:
        row = parse_json(line.decode("utf-8-sig"), long_integers=True)
    except ValueError:
        if request.json_member.search(line) is None:
            return set()
        alone = (ErasureRequest(request.kind, request.id_field, frozenset([token])) for token in request.tokens)
        return {token for one in alone if one.json_member.search(line) for token in one.tokens}
    return {as_token(row.get(request.id_field))} & request.tokens if isinstance(row, dict) else set()


def erase_rows(files: DataFiles, request: ErasureRequest, erasure: Erasure) -> None:
    """Remove rows of the erased ids from JSON lines and from every atomic file with their id column."""
    found: set[str] = set()

    def is_theirs(line: bytes) -> bool:
        tokens = tokens_of_line(request, line)
        found.update(tokens)
        return bool(tokens)

    for lines in (files.content_lines(request.kind), files.event_lines):
        if lines.is_file():
            erasure.rewrite_lines(lines, is_theirs)
    for path in files.atomic_files(request.id_field):
        found |= erase_from_table(files.layout, path, request, erasure)
    for token in sorted(request.tokens - found):
        erasure.unknown.append(f"{request.kind} {token!r} is in no file of the data set {files.dataset!r}")


def erase_from_table(layout: AtomicFormat, path: Path, request: ErasureRequest, erasure: Erasure) -> set[str]:
    """Remove rows of the erased ids from an atomic file, and return those ids that it had."""
    try:
        in_file = find_tokens(path, layout, request.id_field, request.tokens)
        if in_file:
            erasure.rewrite(path, drop_rows(path, layout, request.id_field, sorted(request.tokens)))
    except DataError as error:
        erasure.leave(path, f"cannot be read as an atomic file ({error}): remove their rows by hand")
        return set()
    return in_file


def leave_precomputed_features(
    files: DataFiles, settings: ContentSettings, request: ErasureRequest, erasure: Erasure
) -> None:
    """Report precomputed features of the erased ids as left: this package does not write their formats."""
    for modality in MODALITIES:
        name = getattr(settings, f"{request.kind}_{modality}_features")
        if name is not None:
            with suppress(DataError):  # no features of these ids
                read_features(files.folder / name, sorted(request.tokens), request.kind, request.id_field)
                erasure.leave(
                    files.folder / name, "has precomputed features of them: create the file again without them"
                )
