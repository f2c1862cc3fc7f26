"""Reads lines from a file that grows, or from standard input, as they come."""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, Protocol

from recbole_llm_interest.io.event_store import EVENT_LINES, STANDARD_INPUT
from recbole_llm_interest.io.opening import is_there, open_regular, parse_json
from recbole_llm_interest.stream.events import MAX_LINE_BYTES

#: how long a source without new lines is left alone, s
_PAUSE = 0.2
_BLOCK_BYTES = 2**16


class Chunk(NamedTuple):
    """Lines that were read together.

    Attributes:
        lines: without their ends; none if there was nothing new.
        source: tells what is read from all else, also from a file that takes its name.
        position: behind the lines; None if there are none.
    """

    lines: list[bytes]
    source: str = ""
    position: str | None = None


class EventSource(Protocol):
    """Where lines come from."""

    def chunks(self, position_of: Callable[[str], str | None], most: int) -> Iterator[Chunk]:
        """Read on: chunks of up to ``most`` lines, and empty ones while there is nothing new.

        Args:
            position_of: gives the position of a source's last chunk by the source's name; None for the beginning.
            most: lines in a chunk.
        """


class Line(NamedTuple):
    """A line, and the number of bytes before the next one."""

    text: bytes
    end: int


@dataclass
class LineSplitter:
    r"""Makes lines of bytes. A line that is too long is cut, so that memory stays bounded.

    Attributes:
        position: bytes before the first line.

    Example:
        >>> splitter = LineSplitter()
        >>> splitter.feed(b"a\nb\nc")
        [Line(text=b'a', end=2), Line(text=b'b', end=4)]
        >>> splitter.end()
        [Line(text=b'c', end=5)]
    """

    position: int = 0
    _begun: bytes = field(default=b"", init=False)
    _begun_bytes: int = field(default=0, init=False)

    def feed(self, data: bytes) -> list[Line]:
        """The lines that these bytes complete."""
        first, *others = data.split(b"\n")
        self._keep(first)
        lines = []
        for part in others:
            lines.append(self._take(ending=1))
            self._keep(part)
        return lines

    def end(self) -> list[Line]:
        """The last line, if it has no end."""
        return [self._take(ending=0)] if self._begun_bytes else []

    def _keep(self, part: bytes) -> None:
        self._begun = (self._begun + part)[: MAX_LINE_BYTES + 1]
        self._begun_bytes += len(part)

    def _take(self, ending: int) -> Line:
        self.position += self._begun_bytes + ending
        line = Line(self._begun, self.position)
        self._begun, self._begun_bytes = b"", 0
        return line


def _chunks_of(lines: Sequence[Line], source: str, most: int) -> Iterator[Chunk]:
    for start in range(0, len(lines), most):
        part = lines[start : start + most]
        yield Chunk([line.text for line in part], source, str(part[-1].end))


@dataclass(frozen=True)
class GrowingFile:
    """A file to which another process appends lines. Its position is a number of bytes.

    Attributes:
        path: of the file.
        ends: whether reading ends where the file does, rather than wait for more.
    """

    path: Path
    ends: bool = False

    def chunks(self, position_of: Callable[[str], str | None], most: int) -> Iterator[Chunk]:
        """See ``EventSource``. A last line without an end is waited for, or left if reading ends and it is no JSON.

        Raises:
            DataError: the file cannot be read, or was cut or replaced.
        """
        with open_regular(self.path, EVENT_LINES) as file:
            while not (first := file.readline(MAX_LINE_BYTES)).endswith(b"\n") and not self.ends:
                yield self._pause(file, 0)
                file.seek(0)
            source = f"{self.path.absolute()} {hashlib.sha256(first.strip()).hexdigest()[:16]}"
            splitter = LineSplitter(int(position_of(source) or 0))
            file.seek(splitter.position)
            while True:
                while block := file.read(_BLOCK_BYTES):
                    yield from _chunks_of(splitter.feed(block), source, most)
                if self.ends:
                    yield from _chunks_of([line for line in splitter.end() if _is_json(line.text)], source, most)
                    return
                yield self._pause(file, splitter.position)

    def _pause(self, file: BufferedReader, position: int) -> Chunk:
        """Wait for more lines.

        Raises:
            DataError: the file was cut or replaced.
        """
        self._check_same(os.fstat(file.fileno()), position)
        time.sleep(_PAUSE)
        return Chunk([])

    def _check_same(self, status: os.stat_result, position: int) -> None:
        """Check that the file is the one that was opened.

        Raises:
            DataError: it was cut, or another one has its name.
        """
        if status.st_size < position:
            reason = f"has {status.st_size:,} bytes, and {position:,} were read before: it is another file"
            raise EVENT_LINES.refusal(self.path, reason)
        if not is_there(self.path) or not os.path.samestat(status, self.path.stat()):
            raise EVENT_LINES.refusal(self.path, "was replaced, and is read to its end: give the command again")


def _is_json(text: bytes) -> bool:
    try:
        parse_json(text.decode())
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class StandardInput:
    """Standard input until its end. Its position counts the bytes of all runs: it cannot be read from there again.

    Attributes:
        descriptor: of the open file.
    """

    descriptor: int = 0

    def chunks(self, position_of: Callable[[str], str | None], most: int) -> Iterator[Chunk]:
        """See ``EventSource``. What another process writes waits in its pipe while a chunk is worked on."""
        splitter = LineSplitter(int(position_of(STANDARD_INPUT) or 0))
        while True:
            ready, _, _ = select.select([self.descriptor], [], [], _PAUSE)
            if not ready:
                yield Chunk([])
                continue
            block = os.read(self.descriptor, _BLOCK_BYTES)
            yield from _chunks_of(splitter.feed(block) if block else splitter.end(), STANDARD_INPUT, most)
            if not block:
                return
