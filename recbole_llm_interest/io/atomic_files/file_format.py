"""The format of atomic files: separators, encoding, blocks of lines and the header."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import MAX_LINE_BYTES, FileKind, open_regular

#: the types of columns
TYPES = ("token", "token_seq", "float", "float_seq")
#: RecBole stores all tokens of a column in fixed-width arrays, as wide as the longest token
MAX_TOKEN_CHARACTERS = 255
_BLOCK_BYTES = 4 * 2**20
#: without a bound: it is read in blocks
ATOMIC_FILE = FileKind("atomic file", DataError, None, "name a data set by --dataset and its folder by --data_path")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class AtomicFormat:
    r"""How the atomic files of a data set are written.

    Attributes:
        separator: separates two columns; one ASCII character.
        sequence_separator: separates the values of a sequence.
        encoding: a name that Python knows. A byte order mark at the start of UTF-8 is skipped.

    Example:
        >>> AtomicFormat(separator=",").separator
        ','
        >>> AtomicFormat().codec
        'utf-8-sig'
    """

    separator: str = "\t"
    sequence_separator: str = " "
    encoding: str = "utf-8"

    @classmethod
    def from_config(cls, config: Any) -> AtomicFormat:
        """Return the format that RecBole's settings describe.

        Raises:
            DataError: a separator or the encoding is not one.
        """
        encoding = "utf-8" if config["encoding"] is None else config["encoding"]
        for name, value in (("field_separator", config["field_separator"]), ("seq_separator", config["seq_separator"])):
            if not isinstance(value, str) or not value:
                raise DataError(f"{name}={value!r}: a separator is a text that is not empty")
        if not _is_text_encoding(encoding):
            raise DataError(f"encoding={encoding!r} is not an encoding of text that Python knows")
        return cls(config["field_separator"], config["seq_separator"], encoding)

    @property
    def codec(self) -> str:
        """Python's name of the encoding, which for UTF-8 is the one that skips a byte order mark."""
        return "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding

    @property
    def separator_byte(self) -> int:
        """The separator's byte.

        Raises:
            DataError: the separator is not one ASCII character, or it ends a line.
        """
        if len(self.separator.encode()) != 1 or self.separator in "\r\n\0":
            raise DataError(f"field_separator={self.separator!r}: the separator must be one ASCII character")
        return ord(self.separator)

    def decoder(self) -> codecs.IncrementalDecoder:
        """Return a new decoder for the encoding.

        Raises:
            DataError: Python does not know the encoding.
        """
        try:
            return codecs.getincrementaldecoder(self.codec)()
        except LookupError as error:
            raise DataError(f"encoding={self.encoding!r} is not an encoding that Python knows") from error


def _is_text_encoding(name: Any) -> bool:
    """Whether Python decodes bytes to text by this name: ``rot13`` and ``zip`` are codecs of another kind."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, TypeError, ValueError):  # ValueError: a NUL in the name
        return False
    return True


def format_columns(columns: Iterable[str], at_most: int = 20) -> str:
    """Join the names of columns for a message, shortened: a hostile header may have a million of them.

    Example:
        >>> format_columns(["user_id", "item_id", "rating"], at_most=2)
        'user_id, item_id, …'
    """
    names = [column[:40] for column in columns]
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def read_header(path: Path, atomic_format: AtomicFormat) -> dict[str, str]:
    """Read the columns of an atomic file.

    Returns:
        The type of each column by its name, in the file's order.

    Raises:
        DataError: the file cannot be read, is empty or not in its encoding, or its first line is not a header.
    """
    first_line = next(read_line_blocks(path, atomic_format), b"").split(b"\n")[0].decode().removesuffix("\r")
    if not first_line.strip():
        raise DataError(f"{path} is empty, or its first line is: it must name each column with its type")
    header: dict[str, str] = {}
    for column in first_line.split(atomic_format.separator):
        name, _, kind = column.partition(":")
        if not name or kind not in TYPES or "\0" in name:
            raise DataError(
                f"{path}: the first line must name each column with its type, as in user_id:token, not "
                f"{column[:80]!r}; types are {', '.join(TYPES)}, and {atomic_format.separator!r} separates columns"
            )
        if name in header:
            raise DataError(f"{path}: the first line names the column {name[:80]!r} twice")
        header[name] = kind
    return header


def read_line_blocks(path: Path, atomic_format: AtomicFormat) -> Iterator[bytes]:
    """Read a file in blocks of whole lines, as UTF-8. The last line ends with a line feed even if the file's does not.

    Raises:
        DataError: the file is not in its encoding, or a line is longer than ``MAX_LINE_BYTES``.
    """
    rest: list[bytes] = []  # the beginning of a line, in parts
    line_count = 1
    try:
        for decoded in _decode(path, atomic_format):
            end = decoded.rfind(b"\n") + 1
            if end:
                block = b"".join([*rest, decoded[:end]])
                rest = []
                yield block
                line_count += block.count(b"\n")
            rest.append(decoded[end:])
            if sum(map(len, rest)) > MAX_LINE_BYTES:
                raise DataError(f"{path}: a line after line {line_count} is longer than {MAX_LINE_BYTES} bytes")
    except UnicodeError as error:
        raise DataError(
            f"{path} is not {atomic_format.encoding} (after line {line_count}): save it as UTF-8, or set encoding to "
            "the file's"
        ) from error
    if any(rest):
        yield b"".join([*rest, b"\n"])


def _decode(path: Path, atomic_format: AtomicFormat) -> Iterator[bytes]:
    """Convert a file to UTF-8, block by block."""
    with open_regular(path, ATOMIC_FILE) as file:
        if file.read(2) in _UTF16_MARKS and atomic_format.codec == "utf-8-sig":
            raise DataError(
                f"{path} is utf-16, not {atomic_format.encoding}: save it as UTF-8, or set encoding: utf-16"
            )
        file.seek(0)
        decoder = atomic_format.decoder()
        while block := file.read(_BLOCK_BYTES):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
