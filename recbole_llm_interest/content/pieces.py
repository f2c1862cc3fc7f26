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


class Piece(Protocol):
    """What an encoder encodes."""

    @property
    def size(self) -> int:
        """A measure of the work it takes to encode; pieces of like size share a batch."""
        ...

    def key(self) -> bytes:
        """A hash of the content, by which features are stored. Raises ContentError where there is none to read."""
        ...

    def open(self) -> AbstractContextManager[Any]:
        """The content itself: a string, or a file open for reading. Raises ContentError."""
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

    def open(self) -> AbstractContextManager[str]:
        return nullcontext(self.text)


@dataclass(frozen=True)
class MediaFile:
    """An image or a sound, by its name below ``root``."""

    root: Path
    name: str

    @property
    def size(self) -> int:
        return 0

    def key(self) -> bytes:
        with self.open() as file:
            try:
                return hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise ContentError(f"cannot be read: {error.strerror}") from error

    def open(self) -> BufferedReader:
        """The file, open for reading.

        Raises:
            ContentError: the name leads out of ``root``, by ``..`` or by a symbolic link, or does not lead to a
                regular file with something in it. A pipe, which would be waited for for ever, is not opened.
        """
        try:
            root = self.root.resolve()
            path = (root / self.name).resolve(strict=True)
            if not path.is_relative_to(root):
                raise ContentError("leads out of the content folder")
            # Not blocking: else a pipe put in the place of the file in this very moment would hang the run.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise ContentError(f"cannot be read: {error.strerror}") from error
        except (ValueError, RuntimeError) as error:  # a NUL or half a surrogate in the name; a loop of links
            raise ContentError(f"is not a file's name: {error}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            os.close(descriptor)
            raise ContentError("is empty" if stat.S_ISREG(status.st_mode) else "is not a regular file")
        return os.fdopen(descriptor, "rb")
