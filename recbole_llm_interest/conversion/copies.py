"""Decides which images and audio files are copied into ``content/``, and which of a replaced data set's are removed."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.conversion.content import Content
from recbole_llm_interest.conversion.media import FILE_NAMES, copies_folder
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import FileKind, is_there, open_regular, parse_json

_ROWS = FileKind("content file", DataError, None, "remove it, or name another data set")


@dataclass(frozen=True)
class Copies:
    """What becomes of the images and audio files of a data set.

    Attributes:
        sources: files to copy, or their bytes, by name below ``content/``.
        obsolete: former copies that no row names any more.
    """

    sources: dict[str, Path | bytes]
    obsolete: list[Path]


def plan_copies(folder: Path, contents: Sequence[Content]) -> Copies:
    """Find what to copy and what to remove, before the content is written.

    A copy replaces a file only if the content that is replaced is all that names it.

    Args:
        folder: ``content/``, with the former content.
        contents: of items and users, which are written.

    Raises:
        DataError: another file has the name of a copy.
    """
    media = [found for content in contents for found in content.media.values()]
    sources = {name: source for found in media for name, source in found.copied.items()}
    kinds = {content.kind for content in contents}
    kept = _named(folder, {"item", "user"} - kinds).union(*(found.present for found in media))
    replaced = _named(folder, kinds) - kept
    for name in sources.keys() - replaced:
        if is_there(folder / name):
            raise DataError(f"{folder / name} exists, and is another file than that to be copied there: move it")
    return Copies(sources, _copies_among(folder, kinds, replaced - sources.keys()))


def _copies_among(folder: Path, kinds: Collection[str], names: Iterable[str]) -> list[Path]:
    """Return the files of these names that are in the folders of copies, and not elsewhere by a link."""
    folders = tuple(f"{copies_folder(modality, kind)}/" for modality in FILE_NAMES for kind in kinds)
    paths = [folder / name for name in sorted(names) if name.startswith(folders)]
    return [path for path in paths if path.parent.resolve().is_relative_to(folder.resolve()) and is_there(path)]


def _named(folder: Path, kinds: Iterable[str]) -> set[str]:
    """Return the names of files in the former content of these kinds."""
    paths = [folder / f"{kind}s.jsonl" for kind in kinds]
    return {
        posixpath.normpath(name)
        for path in paths
        if path.is_file()
        for row in _rows(path)
        for column in FILE_NAMES.values()
        if isinstance(name := row.get(column), str)
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; other lines name nothing."""
    with open_regular(path, _ROWS) as file:
        for line in file:
            with suppress(ValueError):
                row = parse_json(line.decode("utf-8-sig", "replace"), long_integers=True)
                if isinstance(row, dict):
                    yield row
