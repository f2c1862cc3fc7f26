"""Writes a data set's files: ``.inter``, ``content/*.jsonl``, and the images and audio that these name."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm_interest.conversion.content import Content
from recbole_llm_interest.conversion.copies import Copies, plan_copies
from recbole_llm_interest.conversion.events import EventRows
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.config_files import DEFAULT_DATASET
from recbole_llm_interest.io.files import exclusive_data_set_lock, make_folder, storage_error
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.io.opening import FileKind, is_there, name_fault, open_regular

#: no reader opens a larger image or audio file
MEDIA = FileKind("media file", DataError, 2 * 1024**3, "leave its column out by drop='column'")
_BLOCK_ROWS = 200_000


@dataclass(frozen=True)
class DatasetFiles:
    """What was written and removed.

    Attributes:
        files: the files, without images and audio.
        obsolete: former images and audio that no row names any more: they were removed.
    """

    files: list[Path]
    obsolete: list[Path]


def dataset_folder(data_path: Path, name: str, *, overwrite: bool) -> Path:
    """Return the folder of a data set that is to be written.

    Raises:
        SettingsError: as ``data_set_name``; or the data set exists and stays as it is.
    """
    folder = data_path / data_set_name(name)
    there = [path for path in written_files(folder, name) if is_there(path)]
    if there and not overwrite:
        raise SettingsError(f"{there[0]} exists: give another name, or overwrite=True to replace the data set")
    return folder


def data_set_name(name: str) -> str:
    """Return the name of a data set.

    Raises:
        SettingsError: it is none of a folder, or is RecBole's.

    Example:
        >>> data_set_name("mine")
        'mine'
    """
    fault = name_fault(f"{name}.inter") or ("is no name of a folder" if name in ("", ".", "..") or "/" in name else "")
    if fault:
        raise SettingsError(f"name={name!r} {fault}: give a name such as mine")
    if name == DEFAULT_DATASET:  # it comes with RecBole, which ignores data_path for it
        raise SettingsError(f"name={name!r}: RecBole reads its own data of this name: give another name")
    return name


def written_files(folder: Path, name: str) -> list[Path]:
    """Return the files that a conversion may write, without images and audio."""
    return [folder / f"{name}.inter", *(folder / "content" / f"{kind}s.jsonl" for kind in ("item", "user"))]


def former_files(folder: Path, name: str, kinds: Sequence[str]) -> list[Path]:
    """Return the files of the data set that are there, hold content, and are not written.

    Args:
        folder: of the data set.
        name: of the data set.
        kinds: of the content that is written: item, user.
    """
    read = [folder / f"{name}.{kind}" for kind in ("item", "user")]
    read += [folder / "content" / f"{kind}s.jsonl" for kind in ("item", "user") if kind not in kinds]
    return [path for path in read if is_there(path)]


def write_dataset(folder: Path, name: str, events: EventRows, contents: Sequence[Content]) -> DatasetFiles:
    """Write all files, or none if it fails. Then remove former images and audio that no row names any more.

    Args:
        folder: of the data set.
        name: of the data set.
        events: for ``.inter``.
        contents: of items and users.

    Raises:
        StorageError: a file cannot be written.
        DataError: an image or audio file cannot be read, or another file has the name of its copy.
    """
    written = [Path(f"{name}.inter"), *(Path("content", f"{content.kind}s.jsonl") for content in contents)]
    with exclusive_data_set_lock(folder):
        copies = _replace(folder, written, events, contents)
        for path in copies.obsolete:
            path.unlink(missing_ok=True)
    return DatasetFiles([folder / path for path in written], copies.obsolete)


def _replace(folder: Path, written: Sequence[Path], events: EventRows, contents: Sequence[Content]) -> Copies:
    """Replace the data set's files, and return what was copied and is not needed any more."""
    with replace_files(folder) as new:
        copies = plan_copies(folder / "content", contents)
        write_new_file(new / written[0], partial(_write_events, events))
        for path, content in zip(written[1:], contents, strict=True):
            write_new_file(new / path, partial(_write_rows, content.rows()))
        sources = tqdm(copies.sources.items(), desc="files", unit="file", leave=False, delay=2)
        for target, source in sources:
            write_new_file(new / "content" / target, partial(_copy, source))
    return copies


def write_new_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of a folder that is replaced as a whole.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        make_folder(path.parent)
        with path.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(path, error) from error


def _write_events(events: EventRows, file: BinaryIO) -> None:
    frame = events.frame
    table = frame.iloc[:, :0].assign(
        **{
            name: _shortest(frame[name].to_numpy()) if kind == "float" else frame[name]
            for name, kind in events.kinds.items()
        }
    )
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    header = [f"{name}:{kind}" for name, kind in events.kinds.items()]
    starts = range(0, len(table), _BLOCK_ROWS)
    for start in tqdm(starts, desc="events", unit="block", leave=False, delay=2):
        block = table.iloc[start : start + _BLOCK_ROWS]
        names = header if start == 0 else False
        block.to_csv(text, sep="\t", index=False, header=names, quoting=csv.QUOTE_NONE, lineterminator="\n")
    text.detach()


def _shortest(numbers: NDArray[np.float64]) -> NDArray[Any]:
    """Return numbers, ``[E]``, as integers where all are whole, else as the shortest texts; "" for a missing one."""
    known = np.isfinite(numbers)
    if known.all() and (numbers == np.floor(numbers)).all() and np.abs(numbers).max(initial=0) < 2**53:
        return numbers.astype(np.int64)
    texts = [
        f"{number:.0f}" if number == int(number) and abs(number) < 2**53 else repr(number)
        for number in numbers[known].tolist()
    ]
    cells = np.full(len(numbers), "", dtype=object)
    cells[known] = texts
    return cells


def _write_rows(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _copy(source: Path | bytes, file: BinaryIO) -> None:
    if isinstance(source, bytes):
        file.write(source)
        return
    with open_regular(source, MEDIA) as opened:
        shutil.copyfileobj(opened, file)
