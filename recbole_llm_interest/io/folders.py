"""Replaces several files of a folder atomically: after a kill, all are old or all are new.

The new files are written to a subfolder. Renaming the subfolder is the commit: from then on, readers use its files.
Then the files are moved up; after a kill, the next writer does this. Other files of the folder do not change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_llm_interest.io.files import exclusive_lock, storage_error, sync_folder

_STAGING, _COMMITTED = ".incomplete", ".complete"
_HINT = "name another folder"


@contextmanager
def replace_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for new files. They replace those of ``folder`` if the ``with`` block succeeds.

    Args:
        folder: is created if it does not exist.

    Raises:
        StorageError: another process is writing to the folder, or it cannot be written to. Its files are unchanged, or
            they are replaced when it is next written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replace_files(folder) as new:
        ...     _ = (new / "config.json").write_text("{}")
        >>> [path.name for path in folder.iterdir()]
        ['config.json']
    """
    is_new = not os.path.exists(folder)
    try:
        with exclusive_lock(folder / "files", _HINT), _replacing(folder) as new:
            yield new
    except BaseException:
        if is_new:
            with suppress(OSError):  # other processes may have written files
                folder.rmdir()
        raise


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Do the same, while the folder is locked."""
    try:
        finish_replacing(folder)
        (folder / _STAGING).mkdir()
    except OSError as error:
        raise storage_error(folder, error, _HINT) from error
    try:
        yield folder / _STAGING
    except BaseException:
        shutil.rmtree(folder / _STAGING, ignore_errors=True)
        raise
    try:
        for below, _, _ in os.walk(folder / _STAGING):
            sync_folder(Path(below))
        os.rename(folder / _STAGING, folder / _COMMITTED)
        sync_folder(folder)
        finish_replacing(folder)
    except OSError as error:
        raise storage_error(folder, error, _HINT) from error


def finish_replacing(folder: Path) -> None:
    """Complete the work of a killed process: committed files replace those of ``folder``, others are removed."""
    for link in filter(Path.is_symlink, (folder / _STAGING, folder / _COMMITTED)):
        link.unlink()  # this package makes no links, and the files behind one are not the folder's
    if (folder / _STAGING).exists():
        shutil.rmtree(folder / _STAGING)
    committed = folder / _COMMITTED
    if not committed.exists():
        return
    changed = set()
    for path in sorted(committed.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(committed)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            changed.add(target.parent)
    for below in changed:
        sync_folder(below)
    shutil.rmtree(committed)


def current_file(folder: Path, name: str) -> Path:
    """Return the current path of a file: that of the committed file if a killed process has not moved it up.

    Args:
        folder: a folder that ``replace_files`` writes.
        name: of the file, relative to the folder.
    """
    committed = folder / _COMMITTED / name
    return committed if committed.exists() else folder / name
