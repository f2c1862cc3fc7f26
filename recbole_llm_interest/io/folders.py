"""Replaces several files of a folder at once: after a kill, all of them are the old ones or all are the new ones.

The new files are written into a folder inside. Renaming it is the commit: from then on, readers take the files from
there, and what remains is to move them up, which the next writer does where a kill prevented it. Other files of the
folder stay.
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
            with suppress(OSError):  # others may have put something into it
                folder.rmdir()
        raise


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """The same for the only process that writes to the folder."""
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
    """Finish what a killed process has begun: complete files replace those of ``folder``, others are removed."""
    for link in filter(Path.is_symlink, (folder / _STAGING, folder / _COMMITTED)):
        link.unlink()  # nobody here made it, and the files behind it are not the folder's
    if (folder / _STAGING).exists():
        shutil.rmtree(folder / _STAGING)
    committed = folder / _COMMITTED
    if not committed.exists():
        return
    for path in sorted(committed.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(committed)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            sync_folder(target.parent)
    shutil.rmtree(committed)


def current_file(folder: Path, name: str) -> Path:
    """Return where a file of a folder is to be read: the new one if a killed process did not move it up.

    Args:
        folder: that ``replace_files`` may have written to.
        name: of the file, relative to the folder.
    """
    committed = folder / _COMMITTED / name
    return committed if committed.exists() else folder / name
