"""Writes files atomically, and locks names, so that two processes do not write the same file.

A temporary file, or a name in use, is locked by the operating system. The lock ends with its process, however that
ends, so files of killed processes can be distinguished from those of running ones.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.opening import name_fault, shown_path

#: what a user can do about an error of writing
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space"),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move the file or folder that has its name or its folder's"
    ),
}
#: errors of file systems that have no locks
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def write_atomically(path: Path, write: Callable[[BinaryIO], object], hint: str = "") -> None:
    """Write a temporary file and rename it to ``path``.

    Whatever happens in between, including a kill or a full disk, ``path`` is either the old file or the complete new
    one. Temporary files of killed processes are removed. The new file has the permissions of the process' umask, not
    the private ones of a temporary file.

    Args:
        path: the file.
        write: writes the content to the open temporary file.
        hint: what else a user can do if the file cannot be written, such as a setting that names another folder.

    Raises:
        StorageError: the file cannot be written. No temporary file remains.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "scores.bin", lambda file: file.write(b"0.5"))
        >>> [path.name for path in folder.iterdir()]
        ['scores.bin']
    """
    _check_name(path, hint)
    try:
        make_folder(path.parent)
        remove_unfinished(path)
        with _postponed_interrupts():
            _write_and_rename(path, write)
    except OSError as error:
        raise storage_error(path, error, hint) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they do not exist.

    Raises:
        OSError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except RecursionError as error:  # pathlib recurses into each parent
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder)) from error


def write_text(path: Path, text: str, hint: str = "") -> None:
    """Write text as UTF-8 by ``write_atomically``.

    Raises:
        StorageError: as ``write_atomically``.
    """
    write_atomically(path, lambda file: file.write(text.encode()), hint)


def _check_name(path: Path, hint: str = "") -> None:
    """Check that a file can have this name.

    Raises:
        StorageError: it cannot.
    """
    if fault := name_fault(path):
        raise StorageError(f"{shown_path(path)} cannot be written: its name {fault}: {hint or 'give another name'}")


def is_write_error(error: OSError) -> bool:
    """Return whether an error means that a file cannot be written: no space, read-only, or its name is taken."""
    return error.errno in {*_REMEDIES, errno.EROFS}


def storage_error(path: Path, error: OSError, hint: str = "") -> StorageError:
    """Return the error to raise if ``path`` cannot be written.

    Args:
        path: the file.
        error: the operating system's error.
        hint: as for ``write_atomically``.
    """
    remedy = _REMEDIES.get(error.errno or 0, f"allow this user to write in {path.parent}")
    alternative = f", or {hint}" if hint else ""
    return StorageError(
        f"{shown_path(path)} cannot be written ({error.strerror}): {remedy}{alternative}; a previous file is unchanged"
    )


@contextmanager
def _postponed_interrupts() -> Iterator[None]:
    """Postpone SIGINT and SIGTERM until a file is written.

    torch's writer calls Python for each block of a file. An interrupt that is raised in there aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in replaced:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    for postponed in received:
        signal.raise_signal(postponed)


def _write_and_rename(path: Path, write: Callable[[BinaryIO], object]) -> None:
    handle, temporary = _create_temporary(path)
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
        # torch raises a RuntimeError of its own for a full disk and for an interrupt
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create_temporary(path: Path) -> tuple[int, str]:
    """Create a temporary file beside ``path``, open and locked."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        if _lock(handle, temporary):
            return handle, temporary
        os.close(handle)  # another process took it for an abandoned file before it was locked


def _lock(handle: int, path: str | Path) -> bool:
    """Lock an open file until it is closed.

    Returns:
        Whether this process has the lock and the file still has this name. Always true on a file system without locks.
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
    """Remove temporary files that killed processes left beside ``path``."""
    remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*"))


def remove_abandoned(files: Iterable[Path]) -> None:
    """Remove those of this module's temporary files that no process has locked, where possible."""
    for path in files:
        with suppress(OSError):  # in use, already removed or replaced, or the file system has no locks
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock the name ``path`` if no other process has locked it.

    Yields:
        Whether this process has the lock.

    Raises:
        StorageError: the folder of ``path`` cannot be written to.
    """
    _check_name(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        make_folder(lock.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise storage_error(lock, error) from error
    try:
        is_locked = _lock(handle, lock)
        try:
            yield is_locked
        finally:
            if is_locked:
                lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def exclusive_lock(path: Path, hint: str) -> Iterator[None]:
    """Lock the name ``path``.

    Args:
        path: the file that only this process may write.
        hint: what a user can do other than wait for the process that has the lock.

    Raises:
        StorageError: another process has the lock, or the folder of ``path`` cannot be written to.
    """
    with try_lock(path) as is_locked:
        if not is_locked:
            raise StorageError(f"{path} is in use by another run: wait until that run ends, or {hint}")
        yield


@contextmanager
def shared_data_set_lock(folder: Path) -> Iterator[None]:
    """Lock a data set while it is read and files are made from it. Other readers may lock it, too, but not ``forget``.

    The folder itself is locked, so that this also works where it is read-only. Forked processes share the lock.

    Args:
        folder: of the data set. If it does not exist, nothing is locked.

    Raises:
        StorageError: ``forget`` is removing users or items from it.
    """
    with _lock_folder(folder, fcntl.LOCK_SH) as is_locked:
        if not is_locked:
            raise StorageError(
                f"{folder}: users or items are being removed from this data set: wait until `forget` ends"
            )
        yield


@contextmanager
def exclusive_data_set_lock(folder: Path) -> Iterator[None]:
    """Lock a data set exclusively while users or items are removed from it and from everything made from it.

    Args:
        folder: of the data set. If it does not exist, nothing is locked.

    Raises:
        StorageError: another process has locked it.
    """
    with _lock_folder(folder, fcntl.LOCK_EX) as is_locked:
        if not is_locked:
            raise StorageError(
                f"{folder} is in use by a training or another command, which could write removed data again: "
                "wait until it ends, or end it"
            )
        yield


@contextmanager
def _lock_folder(folder: Path, mode: int) -> Iterator[bool]:
    """Lock a folder until the ``with`` block ends. Yields whether this process has the lock."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # the reader of the data set reports the error
        yield True
        return
    try:
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
            is_locked = True
        except OSError as error:
            # some network file systems cannot lock a folder, or only one that is open for writing
            if not isinstance(error, BlockingIOError) and error.errno not in {*_WITHOUT_LOCKS, errno.EBADF}:
                raise storage_error(folder, error) from error
            is_locked = not isinstance(error, BlockingIOError)
        yield is_locked
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # forked processes that still run share the lock
        os.close(handle)
