"""The content of one item or user in one modality: a text, or a file in the data set's ``content`` folder."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

from recbole_llm_interest.errors import ContentError
from recbole_llm_interest.io.opening import FileReadError, open_file

#: no image or audio file of a data set is larger
MAX_BYTES = 2 * 1024**3


class Blob(Protocol):
    """Content that an encoder encodes."""

    @property
    def size(self) -> int:
        """A measure of the work to encode it; blobs of similar size share a batch."""
        ...

    def key(self) -> bytes:
        """Return a hash of the content, which identifies its features in the store.

        Raises:
            ContentError: the content cannot be read.
        """
        ...

    def open(self, key: bytes) -> AbstractContextManager[Any]:
        """Return the content with this key: a string, or a file open for reading.

        Raises:
            ContentError: the content cannot be read, or has another key now.
        """
        ...


@dataclass(frozen=True)
class Text:
    """A text."""

    text: str

    @property
    def size(self) -> int:
        """Number of characters."""
        return len(self.text)

    def key(self) -> bytes:
        """Return the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode("utf-8", errors="surrogatepass")).digest()

    def open(self, key: bytes) -> AbstractContextManager[str]:
        """Return the text, with lone surrogates replaced: JSON may contain them, and tokenizers fail on them."""
        return nullcontext(self.text.encode("utf-8", errors="replace").decode())


@dataclass(frozen=True)
class MediaFile:
    """An image or audio file.

    Only a regular file inside ``root`` that is not empty can be read. ``..`` and symbolic links must not lead out of
    ``root``, and a pipe, which would block, is not read.

    Attributes:
        root: a folder.
        name: of the file, relative to ``root``.
    """

    root: Path
    name: str

    @property
    def size(self) -> int:
        """0: images and audio are encoded at a fixed size."""
        return 0

    def key(self) -> bytes:
        """Return the SHA-256 of the file.

        Raises:
            ContentError: it cannot be read.
        """
        with self._open() as file:
            return _digest(file)

    def open(self, key: bytes) -> BufferedReader:
        """Open the file.

        Raises:
            ContentError: it cannot be read, or has changed since ``key`` was computed.
        """
        file = self._open()
        # Hours may have passed since then; features must not be stored under another file's key.
        if _digest(file) != key:
            file.close()
            raise ContentError("was changed during the run; run again", is_lasting=False)
        file.seek(0)
        return file

    def _open(self) -> BufferedReader:
        try:
            file = open_file(self.root / self.name, MAX_BYTES, inside=self.root)
        except FileReadError as error:
            raise ContentError(error.reason, is_lasting=error.is_lasting) from error
        if not os.fstat(file.fileno()).st_size:
            file.close()
            raise ContentError("is empty")
        return file


def _digest(file: BufferedReader) -> bytes:
    try:
        return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ContentError(f"cannot be read: {error.strerror}", is_lasting=False) from error
