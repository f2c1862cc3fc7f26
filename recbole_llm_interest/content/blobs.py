"""One piece of content: a text, or a file below the data set's ``content/`` folder."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

from recbole_llm_interest.errors import ContentError

#: files beyond it are no picture and no sound that anyone would hear the beginning of
MAX_BYTES = 2 * 1024**3


class Blob(Protocol):
    """What an encoder encodes."""

    @property
    def size(self) -> int:
        """A measure of the work it takes to encode; blobs of like size share a batch."""
        ...

    def key(self) -> bytes:
        """A hash of the content, by which features are stored. Raises ContentError where there is none to read."""
        ...

    def open(self, key: bytes) -> AbstractContextManager[Any]:
        """The content that has this key: a string, or a file open for reading. Raises ContentError."""
        ...


@dataclass(frozen=True)
class Text:
    """A text."""

    text: str

    @property
    def size(self) -> int:
        return len(self.text)

    def key(self) -> bytes:
        return hashlib.sha256(self.text.encode("utf-8", errors="surrogatepass")).digest()

    def open(self, key: bytes) -> AbstractContextManager[str]:
        # Tokenizers refuse halves of a surrogate pair, which JSON may hold.
        return nullcontext(self.text.encode("utf-8", errors="replace").decode())


@dataclass(frozen=True)
class MediaFile:
    """An image or a sound, by its name below ``root``.

    Reading it raises ContentError if the name leads out of ``root``, by ``..`` or by a symbolic link, or does not lead
    to a regular file with something in it. A pipe, which would be waited for for ever, is not opened.
    """

    root: Path
    name: str

    @property
    def size(self) -> int:
        return 0

    def key(self) -> bytes:
        with self._open() as file:
            return _digest(file)

    def open(self, key: bytes) -> BufferedReader:
        file = self._open()
        # Hours may lie between the two readings; features must not be stored under another file's key.
        if _digest(file) != key:
            file.close()
            raise ContentError("was changed while this ran; run again", is_lasting=False)
        file.seek(0)
        return file

    def _open(self) -> BufferedReader:
        try:
            root = self.root.resolve()
            path = (root / self.name).resolve(strict=True)
            if not path.is_relative_to(root):
                raise ContentError("leads out of the content folder")
            # Not blocking: else a pipe put in the place of the file in this very moment would hang the run.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise ContentError(f"{self.name!r} cannot be read: {error.strerror}", is_lasting=False) from error
        except (ValueError, RuntimeError) as error:  # a NUL or half a surrogate in the name; a loop of links
            raise ContentError(f"is not a file's name: {error}") from error
        status = os.fstat(descriptor)
        reason = _reason_against(status)
        if reason:
            os.close(descriptor)
            raise ContentError(reason)
        return os.fdopen(descriptor, "rb")


def _reason_against(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size == 0:
        return "is empty"
    return "is larger than 2 GB" if status.st_size > MAX_BYTES else None


def _digest(file: BufferedReader) -> bytes:
    try:
        return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ContentError(f"cannot be read: {error.strerror}", is_lasting=False) from error
