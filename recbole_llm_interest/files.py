"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file, then put that in the place of ``path``.

    Whatever happens on the way, a kill or a full disk included, ``path`` is either the old file or the whole new
    one. The new file gets the permissions that the process' umask gives, not the temporary file's private ones.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name durable too
    finally:
        os.close(folder)


def remove_unfinished(path: Path) -> None:
    """Remove what ``write_atomically`` left of ``path`` where it was killed. Nobody else may be writing it."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """``write_atomically`` for text, as UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))
