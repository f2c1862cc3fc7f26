"""Recognises columns of images and audio, and finds their files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recbole_llm_interest.conversion.table_files import Skipped
from recbole_llm_interest.conversion.values import is_blank
from recbole_llm_interest.conversion.wording import counted
from recbole_llm_interest.errors import DataError

Modality = Literal["image", "audio"]

#: the column of ``content/*.jsonl`` that names an item's or user's file
FILE_NAMES: dict[Modality, str] = {"image": "image_file_name", "audio": "audio_file_name"}
#: the folder below ``content/`` for files that are copied, by items and users
_FOLDERS: dict[Modality, str] = {"image": "images", "audio": "audio"}
_SUFFIXES: dict[str, Modality] = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "ppm"), "image"),
    **dict.fromkeys(("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "m4a", "aac", "wma"), "audio"),
}
#: the first bytes of a file, and the ending of its name
_FIRST_BYTES = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
    b"\xff\xfb": "mp3",
}
_URL = re.compile(r"(?:https?|ftp|s3|gs|az|hf|data):(?://)?\S+$", re.IGNORECASE)
_FILE = re.compile(r"[^\n]{0,4000}\.(\w{2,4})$")
_SAMPLE = 500
#: more than this share of a column's cells has to be URLs, or files of one modality
_MOST = 0.5


@dataclass
class MediaColumn:
    """A column of images or audio.

    Attributes:
        column: its name.
        folder: of copies, below ``content/``.
        names: of each row's file, relative to ``content/``; None where it has none.
        copied: what to copy into ``content/``, by name: a file, or its bytes.
        present: names of files that are in ``content/`` already.
        missing: cells whose file does not exist.
    """

    column: str
    folder: str
    names: list[str | None] = field(default_factory=list)
    copied: dict[str, Path | bytes] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    missing: list[Skipped] = field(default_factory=list)

    def add_present(self, name: str) -> None:
        """Add a row whose file is in ``content/`` already."""
        self.names.append(name)
        self.present.add(name)

    def add_copy(self, name: str, source: Path | bytes) -> None:
        """Add a row whose file, or its bytes, are to be copied.

        Raises:
            DataError: another row's file has this name.
        """
        self.names.append(name)
        if self.copied.setdefault(name, source) != source:
            raise DataError(f"column {self.column!r}: two files would be content/{name}: rename one of them")

    def __str__(self) -> str:
        files = counted(len({name for name in self.names if name}), "file")
        return f"{files}, {len(self.copied):,} of them copied to content/{self.folder}" if self.copied else files


def are_urls(cells: Iterable[Any]) -> bool:
    """Return whether most cells are addresses.

    Example:
        >>> are_urls(["https://example.org/1.jpg", None]), are_urls(["covers/1.jpg"])
        (True, False)
    """
    known = _known(cells)
    return bool(known) and sum(
        isinstance(cell, str) and bool(_URL.match(cell.strip())) for cell in known
    ) > _MOST * len(known)


def modality_of(cells: Iterable[Any]) -> Modality | None:
    """Return the modality of the files that most cells name or hold; None if they name none.

    Example:
        >>> modality_of(["covers/1.jpg", "covers/2.PNG", None]), modality_of(["Heat", "Alien.com"])
        ('image', None)
    """
    known = _known(cells)
    found = [_SUFFIXES.get(_suffix(cell)) for cell in known]
    for modality in FILE_NAMES:
        if known and found.count(modality) > _MOST * len(known):
            return modality
    return None


def copies_folder(modality: Modality, kind: str) -> str:
    """Return the folder below ``content/`` for copies of the files of items or users.

    Example:
        >>> copies_folder("image", "user")
        'images/users'
    """
    return f"{_FOLDERS[modality]}/{kind}s"


def find_files(column: str, cells: Sequence[Any], copies: str, folders: Sequence[Path], content: Path) -> MediaColumn:
    """Find the files of a column.

    Readers open only files inside ``content/``. A file that is there is named; others are to be copied.

    Args:
        column: its name.
        cells: paths; or dictionaries with ``bytes`` and ``path``, as Hugging Face has them.
        copies: the folder below ``content/`` for files that are copied.
        folders: where paths begin, in this order.
        content: the data set's folder of content.

    Raises:
        DataError: none of the files exists, or two would have one name.
    """
    sources = [_source(cell, folders) for cell in cells]
    outside = [path.parent for path in sources if isinstance(path, Path) and not path.is_relative_to(content)]
    root = Path(os.path.commonpath(outside)) if outside else content
    found = MediaColumn(column, copies)
    for number, (cell, source) in enumerate(zip(cells, sources, strict=True)):
        if source is None:
            found.names.append(None)
        elif isinstance(source, Path) and source.is_relative_to(content):
            found.add_present(source.relative_to(content).as_posix())
        else:
            found.add_copy(f"{copies}/{_name(cell, source, root, number)}", source)
    _report_missing(found, cells, folders)
    return found


def _report_missing(found: MediaColumn, cells: Sequence[Any], folders: Sequence[Path]) -> None:
    """Count the cells that name a file that does not exist.

    Raises:
        DataError: none exists.
    """
    lacking = [row for row, name in enumerate(found.names) if name is None and not is_blank(cells[row])]
    if not lacking:
        return
    example = f"row {lacking[0] + 1}, {str(cells[lacking[0]])[:80]!r}"
    if not any(found.names):
        places = ", ".join(dict.fromkeys(map(str, folders)))
        raise DataError(
            f"no file of the column {found.column!r} exists in {places} ({counted(len(lacking), 'name')}, the first: "
            f"{example}): put them there, or leave the column out by drop={found.column!r}"
        )
    found.missing.append(Skipped(len(lacking), f"of {found.column!r} name a file that does not exist", example))


def _known(cells: Iterable[Any]) -> list[Any]:
    known = [cell for cell in cells if not is_blank(cell)]
    return known[:: max(1, len(known) // _SAMPLE)]


def _suffix(cell: Any) -> str:
    """Return the ending of the name of a file that a cell names or holds, in lower case; empty if it is no file."""
    if isinstance(cell, dict) and isinstance(data := cell.get("bytes"), bytes):
        return _suffix_of_bytes(data) or _suffix(cell.get("path"))
    if isinstance(cell, dict):
        cell = cell.get("path")
    match = _FILE.match(cell.strip()) if isinstance(cell, str) else None
    return match[1].lower() if match else ""


def _suffix_of_bytes(data: bytes) -> str:
    if data[:4] == b"RIFF":
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(data[8:12], "")
    return next((suffix for first, suffix in _FIRST_BYTES.items() if data.startswith(first)), "")


def _source(cell: Any, folders: Sequence[Path]) -> Path | bytes | None:
    """Return a cell's file or its bytes; None if there is neither."""
    if isinstance(cell, dict):
        if isinstance(cell.get("bytes"), bytes):
            return cell["bytes"]
        cell = cell.get("path")
    if not isinstance(cell, str) or is_blank(cell) or "\0" in cell:
        return None
    paths = (folder / os.path.expanduser(cell.strip()) for folder in folders)
    return next((Path(os.path.realpath(path)) for path in paths if os.path.isfile(path)), None)


def _name(cell: Any, source: Path | bytes, root: Path, number: int) -> str:
    """Return the name of a copy: below the folder that all files share, or by the row's number for bytes."""
    return source.relative_to(root).as_posix() if isinstance(source, Path) else f"row-{number + 1}.{_suffix(cell)}"
