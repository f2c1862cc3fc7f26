"""Opens files whose names come from a user or from another file. All reads go through this module; no file is trusted.

Only regular files are opened: a pipe or a terminal would block, and a device may never end. The size is checked before
and during reading. JSON has additional bounds, because a small file can contain an integer of a million digits or lists
that are nested too deeply for recursive code.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import LLMInterestError
from recbole_llm_interest.io.escaping import one_line

#: bytes of this machine's memory, the largest size of a file that is read completely
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
#: levels of nested lists and mappings in JSON
MAX_JSON_DEPTH = 64
#: bytes of a line of text; a longer line is an error
MAX_LINE_BYTES = 64 * 2**20
#: reading a file may take this many seconds, and one more for each ``_LEAST_RATE`` bytes
_GRACE_SECONDS = 30.0
_LEAST_RATE = 2**20
_CHUNK_BYTES = 2**20
#: a file of more bytes is refused as sparse if less than one in ``_LEAST_SHARE`` bytes is on the disk
_LARGE_BYTES = 2**28
_LEAST_SHARE = 8
#: unit of ``st_blocks``
_BLOCK_BYTES = 512
#: characters that a message shows of each end of a path
_SHOWN_CHARACTERS = 120
#: maximum bytes of a path, and of each of its parts, in file systems
_MAX_PATH_BYTES, _MAX_NAME_BYTES = 4095, 255
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
#: digits that may exceed 64 bits, inside or outside strings
_LONG_DIGITS = re.compile(r"\d{19}")


class FileReadError(LLMInterestError):
    """A file cannot be read. Callers convert it to a more specific error.

    Args:
        reason: the rest of a message that begins with the name of the file.
        is_lasting: whether the file itself is invalid, so that another attempt would also fail.
    """

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_lasting = is_lasting


@dataclass(frozen=True)
class FileKind:
    """A kind of file: its name in messages, its error class and its maximum size.

    Attributes:
        what: precedes the path in messages, such as "config file".
        error: class of the error to raise.
        max_bytes: maximum size; None if the file is read in parts.
        remedy: the end of each message: what a user can do.

    Example:
        >>> from recbole_llm_interest.errors import SettingsError
        >>> kind = FileKind("config file", SettingsError, 250_000, "name a YAML file")
        >>> print(kind.refusal(Path("/dev/zero"), "is not a regular file"))
        config file /dev/zero is not a regular file: name a YAML file
    """

    what: str
    error: type[LLMInterestError]
    max_bytes: int | None
    remedy: str

    def refusal(self, path: Path, reason: object) -> LLMInterestError:
        """Return the error to raise about a file.

        Args:
            path: of the file.
            reason: follows the path, such as "is not a regular file". It may contain text of the file.
        """
        words = one_line(" ".join(str(reason).split()))
        return self.error(f"{self.what} {shown_path(path)} {words}: {self.remedy}")


def shown_path(path: Path) -> str:
    r"""Return a path for a message: in one line, shortened, with control characters escaped.

    Example:
        >>> shown_path(Path("a\nb"))
        'a\\nb'
    """
    text = str(path)
    if len(text) > 2 * _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…{text[-_SHOWN_CHARACTERS:]}"
    return one_line(text)


def name_fault(name: object) -> str:
    r"""Return why a name of a file is invalid; empty if it is valid.

    Example:
        >>> name_fault("saved"), name_fault("a\0b"), name_fault(5)
        ('', 'has a NUL', 'is not a string')
    """
    if not isinstance(name, str | Path):
        return "is not a string"
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return "has half of a surrogate pair"
    if b"\0" in encoded:
        return "has a NUL"
    is_long = len(encoded) > _MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > _MAX_NAME_BYTES
    return "is too long" if is_long else ""


def is_there(path: Path) -> bool:
    """Return whether a path exists, including broken links. Invalid names are allowed."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder. Invalid names are allowed."""
    return os.path.isdir(path)


def open_file(path: Path, max_bytes: int | None = None, inside: Path | None = None) -> BufferedReader:
    """Open a regular file for reading bytes.

    Args:
        path: of the file.
        max_bytes: maximum size.
        inside: a folder that the path must not leave by ``..`` or links.

    Raises:
        FileReadError: it does not exist, is not a regular file, is too large, or is not inside the folder.
    """
    try:
        descriptor = os.open(path if inside is None else _path_inside(path, inside), _FLAGS)
    except (OSError, ValueError, RuntimeError) as error:
        raise _reason(error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileReadError("is not a regular file")
    if max_bytes is not None and (reason := _excess(status, max_bytes)):
        os.close(descriptor)
        raise FileReadError(reason)
    return os.fdopen(descriptor, "rb")


def _excess(status: os.stat_result, max_bytes: int) -> str | None:
    """Return why a file is too large to be read into memory; None if it is not.

    A sparse file has fewer blocks than bytes. So does a file on a compressing file system, but the weights of a model,
    a third of a checkpoint, hardly compress.
    """
    if status.st_size > max_bytes:
        return f"has {status.st_size:,} bytes: at most {max_bytes:,} are allowed"
    if status.st_size > max(_LARGE_BYTES, _LEAST_SHARE * _BLOCK_BYTES * status.st_blocks):
        return f"has {status.st_size:,} bytes, and nearly all of them are holes"
    return None


def _path_inside(path: Path, folder: Path) -> Path:
    root = folder.resolve()
    resolved = path.resolve(strict=True)
    if not resolved.is_relative_to(root):
        raise FileReadError(f"leads out of the folder {shown_path(Path(folder.name))}")
    return resolved


def _reason(error: OSError | ValueError | RuntimeError) -> FileReadError:
    """Return the error for the operating system's or Python's reason."""
    if isinstance(error, FileNotFoundError):
        return FileReadError("does not exist", is_lasting=False)
    if isinstance(error, OSError):
        return FileReadError(f"cannot be read: {error.strerror}", is_lasting=False)
    if isinstance(error, ValueError):
        return FileReadError("has an invalid name, with a NUL or half of a surrogate pair")
    return FileReadError("is a link that leads back to itself")


def open_regular(path: Path, kind: FileKind, inside: Path | None = None) -> BufferedReader:
    """Open a file of a kind for reading bytes.

    Args:
        path: of the file.
        kind: what it is.
        inside: as for ``open_file``.

    Raises:
        LLMInterestError: the kind's, as ``open_file``.
    """
    try:
        return open_file(path, kind.max_bytes, inside)
    except FileReadError as error:
        raise kind.refusal(path, error.reason) from error


def read_bytes(path: Path, kind: FileKind, inside: Path | None = None) -> bytes:
    """Read all bytes of a file.

    Args:
        path: of the file.
        kind: what it is; without a maximum size, this machine's memory is the maximum.
        inside: as for ``open_file``.

    Raises:
        LLMInterestError: the kind's: as ``open_regular``; or the file grows beyond the maximum while it is read,
            memory runs out, or reading is too slow.
    """
    try:
        with open_file(path, kind.max_bytes or MEMORY_BYTES, inside) as file:
            return _read_bounded(file, kind.max_bytes or MEMORY_BYTES)
    except FileReadError as error:
        raise kind.refusal(path, error.reason) from error
    except OSError as error:
        raise kind.refusal(path, f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise kind.refusal(path, "is larger than the memory that this process may use") from error


def _read_bounded(file: BufferedReader, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    start, count = time.monotonic(), 0
    while chunk := file.read(_CHUNK_BYTES):
        chunks.append(chunk)
        count += len(chunk)
        if count > max_bytes:
            raise FileReadError(f"has grown to more than {max_bytes:,} bytes while it was read")
        if time.monotonic() - start > _GRACE_SECONDS + count / _LEAST_RATE:
            raise FileReadError(f"took more than {_GRACE_SECONDS:.0f} seconds to read")
    return b"".join(chunks)


def read_text(path: Path, kind: FileKind, inside: Path | None = None) -> str:
    """Read a UTF-8 file, without a byte order mark.

    Raises:
        LLMInterestError: the kind's, as ``read_bytes``; or the file is not UTF-8.
    """
    return _decode(read_bytes(path, kind, inside), path, kind)


def read_lines(path: Path, kind: FileKind, inside: Path | None = None) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without a byte order mark. Only a line feed ends a line; it is kept.

    Raises:
        LLMInterestError: the kind's: as ``open_regular``; or the file is not UTF-8, or a line is longer than
            ``MAX_LINE_BYTES``.
    """
    number = 0
    with open_regular(path, kind, inside) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise kind.refusal(path, f"has a line of more than {MAX_LINE_BYTES:,} bytes (line {number})")
            yield _decode(line, path, kind, number)


def _decode(data: bytes, path: Path, kind: FileKind, line: int = 1) -> str:
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise kind.refusal(path, f"is not UTF-8 (line {line})") from error


def read_json(path: Path, kind: FileKind, inside: Path | None = None) -> Any:
    """Read a JSON file by ``parse_json``.

    Raises:
        LLMInterestError: the kind's, as ``read_text``; or the file is not JSON or exceeds a bound.
    """
    text = read_text(path, kind, inside)
    try:
        return parse_json(text)
    except ValueError as error:
        raise kind.refusal(path, f"is not JSON: {error}") from error


def parse_json(text: str, *, long_integers: bool = False) -> Any:
    """Parse JSON that may be hostile.

    Args:
        text: a JSON document.
        long_integers: whether integers may have more than 64 bits, up to the 4,300 digits that Python reads.

    Raises:
        ValueError: it is not JSON, is nested more than ``MAX_JSON_DEPTH`` times, or has an integer beyond 64 bits.

    Example:
        >>> parse_json('{"count": 3}')
        {'count': 3}
    """
    is_suspicious = not long_integers and _LONG_DIGITS.search(text)
    try:
        value = json.loads(text, parse_int=_read_integer) if is_suspicious else json.loads(text)
        is_deep = _is_deep(value)
    except RecursionError:
        is_deep = True
    if is_deep:
        raise ValueError(f"nested more than {MAX_JSON_DEPTH} times")
    return value


def _is_deep(value: Any) -> bool:
    """Return whether containers are nested to ``MAX_JSON_DEPTH``. It does not recurse: the value may be hostile."""
    containers = [value] if isinstance(value, list | dict) else []
    for _ in range(MAX_JSON_DEPTH):
        if not containers:
            return False
        children = (child for outer in containers for child in (outer.values() if isinstance(outer, dict) else outer))
        containers = [child for child in children if isinstance(child, list | dict)]
    return bool(containers)


def _read_integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"an integer of {len(digits.removeprefix('-'))} digits, which has more than 64 bits")
    return int(digits)
