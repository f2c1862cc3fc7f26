"""Joins data sets into one, so that a model is trained on several shops, or on another shop's events beside its own."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_llm_interest.conversion.joined_ids import JoinedIds
from recbole_llm_interest.conversion.media import FILE_NAMES
from recbole_llm_interest.conversion.wording import counted
from recbole_llm_interest.conversion.writing import MEDIA, data_set_name, write_new_file
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_header, read_rows
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import exclusive_data_set_lock
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.io.opening import FileKind, is_there, open_regular, parse_json, read_lines

_LAYOUT = AtomicFormat()
_ROWS = FileKind("content file", DataError, None, "save it as UTF-8, with one JSON object in each line")
#: the columns of ids in each kind of file
_IDS = {
    "inter": ("user_id", "item_id"),
    "item": ("item_id",),
    "user": ("user_id",),
    "items": ("item_id",),
    "users": ("user_id",),
    "events": ("user_id", "item_id"),
}


@dataclass
class JoinedData:
    """A data set that was made of several. ``print`` shows what is in it.

    Attributes:
        dataset: its name.
        data_path: the folder of its folder.
        events: number of events of each data set.
        skipped: rows of each data set that have no id, or are none of their file, and are left out.
        shared: number of ids of users and items that several of them have.
        files: that were written, without images and audio.
        missing: images and audio files that content names and that cannot be read.
    """

    dataset: str
    data_path: Path
    events: dict[str, int]
    skipped: dict[str, int]
    shared: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    missing: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**vars(self), "data_path": str(self.data_path), "files": [*map(str, self.files)]}

    def __str__(self) -> str:
        left_out = {name: f"; {counted(rows, 'row')} left out" for name, rows in self.skipped.items() if rows}
        lines = [f"{name}: {counted(events, 'event')}{left_out.get(name, '')}" for name, events in self.events.items()]
        both = [counted(count, kind) for kind, count in self.shared.items()]
        lines.append(f"in several of them: {', '.join(both)}")
        if self.missing:
            lines.append(f"{counted(self.missing, 'file')} that content names cannot be read")
        lines.append(f"written: {', '.join(map(str, self.files))}")
        return "\n".join(map(one_line, lines))


def join_data_sets(
    names: Sequence[str], name: str, *, data_path: str | Path = "data", output: str | Path = "data", ids: str = "unique"
) -> JoinedData:
    """Write one data set with the events and the content of several.

    Columns are those of all of them, empty where one has no such column. Files of images and audio are copied.

    Args:
        names: of the data sets, each with a ``NAME.inter`` that is not split yet; for those elsewhere, their folders.
        name: of the new data set.
        data_path: holds their folders.
        output: gets the folder of the new one.
        ids: ``unique`` if no user and no item is in two of them; ``shared`` if the same id means the same user or item
            in all: the first content of an item counts; ``prefixed`` to write each id as ``DATASET:ID``.

    Raises:
        SettingsError: the names or ``ids`` cannot be used, or the new data set exists.
        DataError: a file cannot be read, columns do not fit, or an id is in two data sets and ``ids`` is ``unique``.
        StorageError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from recbole_llm_interest import from_pandas
        >>> folder = tempfile.mkdtemp()
        >>> for shop in "ab":
        ...     events = [{"user": f"{shop}{day}", "item": shop, "time": f"2024-01-0{day}"} for day in (1, 2)]
        ...     _ = from_pandas(events, name=shop, data_path=folder)
        >>> join_data_sets(["a", "b"], "both", data_path=folder, output=folder).events
        {'a': 2, 'b': 2}
    """
    parts = _parts([Path(data_path, one) for one in names])
    new_ids = JoinedIds(ids)
    folder = Path(output) / data_set_name(name)
    if is_there(folder / f"{name}.inter"):
        raise SettingsError(f"{folder / f'{name}.inter'} exists: give another name")
    joined = JoinedData(name, Path(output), dict.fromkeys(parts, 0), dict.fromkeys(parts, 0))
    with exclusive_data_set_lock(folder), replace_files(folder) as new:
        _Join(parts, new_ids, new, joined).write()
    joined.files = [folder / path for path in joined.files]
    return joined


def _parts(folders: Sequence[Path]) -> dict[str, Path]:
    """The folder of each data set by its name."""
    parts = {data_set_name(folder.name): folder for folder in folders}
    if len(parts) < 2 or len(parts) < len(folders):
        raise SettingsError(f"joins two data sets or more, of different names: not {', '.join(map(str, folders))}")
    for name, folder in parts.items():
        if not is_there(folder / f"{name}.inter"):
            raise DataError(f"{folder / f'{name}.inter'} does not exist: --data_path is the folder that holds {name}")
    return parts


@dataclass
class _Join:
    """Writes the files of a joined data set.

    Attributes:
        parts: folder of each data set.
        ids: of users and items, as they are written.
        target: folder of the new files.
        joined: what has been done.
    """

    parts: Mapping[str, Path]
    ids: JoinedIds
    target: Path
    joined: JoinedData

    def write(self) -> None:
        """Write all files, and say what is in them."""
        for kind in ("inter", "item", "user"):
            self.atomic_files(kind)
        for kind in ("items", "users", "events"):
            self.json_lines(kind)
        self.joined.shared = {f"{kind} id": count for kind, count in self.ids.shared().items()}

    def atomic_files(self, kind: str) -> None:
        """Join RecBole's files of one kind, if there are any."""
        sources = {name: path for name in self.parts if is_there(path := self._atomic(name, kind))}
        if not sources:
            return
        headers = {name: read_header(path, _LAYOUT) for name, path in sources.items()}
        columns = _columns(sources, headers, _IDS[kind])
        rows = (row for name, header in headers.items() for row in self._atomic_rows(name, kind, kind, [*header]))
        lines = ("\t".join(row.get(column, "") for column in columns) for row in rows)
        first = "\t".join(f"{column}:{type_}" for column, type_ in columns.items())
        self._write(Path(f"{self.joined.dataset}.{kind}"), itertools.chain([first], lines))

    def json_lines(self, kind: str) -> None:
        """Join ``content/*.jsonl`` of one kind; data sets that have none have their content in RecBole's file."""
        if not any(is_there(self._content(name, kind)) for name in self.parts):
            return
        rows = itertools.chain.from_iterable(self._content_rows(name, kind) for name in self.parts)
        self._write(Path("content", f"{kind}.jsonl"), (json.dumps(row, ensure_ascii=False) for row in rows))

    def _atomic(self, name: str, kind: str) -> Path:
        return self.parts[name] / f"{name}.{kind}"

    def _content(self, name: str, kind: str) -> Path:
        return self.parts[name] / "content" / f"{kind}.jsonl"

    def _write(self, path: Path, lines: Iterable[str]) -> None:
        encoded = (f"{line}\n".encode("utf-8", "replace") for line in lines)
        write_new_file(self.target / path, lambda file: file.writelines(encoded))
        self.joined.files.append(path)

    def _atomic_rows(self, name: str, kind: str, written_as: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
        """The rows of one data set's file by columns, with the new ids. A row that is left out is counted once."""
        path = self._atomic(name, kind)
        for cells in tqdm(read_rows(path, _LAYOUT), desc=path.name, unit="row", leave=False, delay=2):
            row = dict(zip(columns, cells, strict=False))
            if len(cells) != len(columns) or not all(row[column] for column in _IDS[kind]):
                self.joined.skipped[name] += kind == written_as
            elif self._renames(name, written_as, row):
                self.joined.events[name] += kind == "inter"
                yield row

    def _content_rows(self, name: str, kind: str) -> Iterator[dict[str, Any]]:
        """The rows of one data set's content: of its JSON lines, or of RecBole's file, whose sequences become lists."""
        atomic = self._atomic(name, kind.removesuffix("s"))
        if is_there(self._content(name, kind)):
            yield from self._json_rows(name, kind)
        elif is_there(atomic):
            header = read_header(atomic, _LAYOUT)
            lists = {column for column, type_ in header.items() if type_ == "token_seq"}
            for row in self._atomic_rows(name, kind.removesuffix("s"), kind, [*header]):
                yield {column: value.split(" ") if column in lists else value for column, value in row.items()}

    def _json_rows(self, name: str, kind: str) -> Iterator[dict[str, Any]]:
        """The objects of one data set's file, with the new ids and the new names of files."""
        path = self._content(name, kind)
        for line in tqdm(read_lines(path, _ROWS), desc=f"{name} {path.name}", unit="row", leave=False, delay=2):
            row: Any = None
            with suppress(ValueError):
                row = parse_json(line, long_integers=True)
            if not isinstance(row, dict) or not all(_is_id(row.get(column)) for column in _IDS[kind]):
                self.joined.skipped[name] += bool(line.strip())
            elif self._renames(name, kind, row):
                self._copy_media(name, row)
                yield row

    def _renames(self, name: str, kind: str, row: dict[str, Any]) -> bool:
        """Give a row its new ids; whether it is the first about its item or user."""
        for column in _IDS[kind]:
            row[column] = self.ids.of(name, column.removesuffix("_id"), str(row[column]))
        return len(_IDS[kind]) > 1 or self.ids.is_first(kind, row[_IDS[kind][0]])

    def _copy_media(self, name: str, row: dict[str, Any]) -> None:
        """Copy the files that a row names into a folder of their data set."""
        content = self.parts[name] / "content"
        for column in FILE_NAMES.values():
            if not isinstance(file := row.get(column), str) or not file:
                continue
            row[column] = f"{name}/{file}"
            target = self.target / "content" / name / file
            if is_there(target) or not target.resolve().is_relative_to((self.target / "content" / name).resolve()):
                continue
            try:
                opened = open_regular(content / file, MEDIA, inside=content)
            except DataError:  # what reads the new data set reports it, too
                self.joined.missing += 1
                continue
            with opened:
                write_new_file(target, partial(shutil.copyfileobj, opened))


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _columns(
    sources: Mapping[str, Path], headers: Mapping[str, Mapping[str, str]], ids: Iterable[str]
) -> dict[str, str]:
    """The type of each column of all files.

    Raises:
        DataError: a file has no ids, or two files have different types of one column.
    """
    columns: dict[str, str] = {}
    for name, header in headers.items():
        for column in ids:
            if column not in header:
                raise DataError(f"{sources[name]} has no column {column!r}")
        for column, type_ in header.items():
            if columns.setdefault(column, type_) != type_:
                raise DataError(
                    f"{sources[name]} has {column}:{type_}, and another one {column}:{columns[column]}: give both the "
                    "same type, or one of them another name"
                )
    return columns
