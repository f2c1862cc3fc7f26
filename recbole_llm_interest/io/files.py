"""Writing files so that a reader never meets half of one, and so that two processes do not write the same.

A file that is being written, or a name that a process holds, is known by a lock of the operating system's, which goes
away with the process however it ends: what a killed one left can be told from what another is at.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from recbole_llm_interest.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
#: of file systems that have no locks
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def write_atomically(path: Path, write: Callable[[BinaryIO], object], otherwise: str = "") -> None:
    """Let ``write`` fill a temporary file, then put that in the place of ``path``.

    Whatever happens on the way, a kill or a full disk included, ``path`` is either the old file or the whole new
    one. What killed processes left of earlier attempts is removed. The new file gets the permissions that the process'
    umask gives, not the temporary file's private ones.

    Args:
        path: the file.
        write: is given the temporary file.
        otherwise: what else may be done where it cannot be written, such as a setting that names another folder.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path)
        _write_atomically(path, write)
    except OSError as error:
        raise storage_error(path, error, otherwise) from error


def is_write_error(error: OSError) -> bool:
    """Whether an error is one of writing: the disk is full or read-only, or a file is in the way."""
    return error.errno in _FULL | _IN_THE_WAY | {errno.EROFS}


def storage_error(path: Path, error: OSError, otherwise: str = "") -> StorageError:
    """The error to raise where ``path`` cannot be written."""
    remedy = (
        "free some space"
        if error.errno in _FULL
        else "move away what is in its place or its folder's"
        if error.errno in _IN_THE_WAY
        else f"let this user write in {path.parent}"
    )
    return StorageError(
        f"{path} cannot be written ({error.strerror}): {remedy}{otherwise and f', or {otherwise}'}; what was there "
        "before is still there"
    )


def _write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    handle, temporary = _new_file_of_our_own(path)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(handle)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # torch says in words of its own that writing failed, whether the disk is full or the user interrupted it
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name durable too
    finally:
        os.close(folder)


def _new_file_of_our_own(path: Path) -> tuple[int, str]:
    """A temporary file beside ``path``, open and locked."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        if _is_locked(handle, temporary):
            return handle, temporary
        os.close(handle)  # another process took it for an abandoned one, in this very moment


def _is_locked(handle: int, path: str | Path) -> bool:
    """Lock an open file until it is closed; whether it is ours then, and still there by this name.

    On a file system without locks it always is.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return True


def remove_unfinished(path: Path) -> None:
    """Remove what ``write_atomically`` left of ``path`` where its process was killed."""
    remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*"))


def remove_abandoned(files: Iterable[Path]) -> None:
    """Remove those of ``files``, made by this module, that no process is at, if they can be removed."""
    for path in files:
        with suppress(OSError):  # another has removed or replaced it, is at it, or there are no locks here to tell by
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the name ``path``; gives whether it is ours, and not another process'.

    Raises:
        StorageError: its folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(lock, error) from error
    try:
        is_ours = _is_locked(handle, lock)
        try:
            yield is_ours
        finally:
            if is_ours:
                lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def exclusive_lock(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the name ``path``.

    Raises:
        StorageError: another process does; ``otherwise`` is what may be done but wait for it.
    """
    with try_lock(path) as is_ours:
        if not is_ours:
            raise StorageError(f"{path} is in use by another run: wait until that has ended, or {otherwise}")
        yield


def write_text(path: Path, text: str, otherwise: str = "") -> None:
    """``write_atomically`` for text, as UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()), otherwise)
