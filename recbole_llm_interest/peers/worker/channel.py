"""Messages between two processes, as plain JSON and the bytes of arrays: no pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class Channel:
    """Sends and receives messages through two open files, such as pipes.

    A message is a line of JSON, which says what follows, and the bytes of its arrays.

    Args:
        source: where messages are read.
        target: where they are written.
    """

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self.source = source
        self.target = target

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Send a message.

        Args:
            header: what JSON can hold.
            arrays: of numbers or booleans, by name.

        Raises:
            OSError: the other process has ended.
        """
        given = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
        described = [[name, array.dtype.str, array.shape] for name, array in given.items()]
        self.target.write(json.dumps({"header": dict(header), "arrays": described}).encode() + b"\n")
        for array in given.values():
            self.target.write(array.tobytes())
        self.target.flush()

    def receive(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Wait for a message and return its header and its arrays.

        Raises:
            EOFError: the other process has ended.
            ValueError: what arrives is no message.
        """
        line = self.source.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the other process has ended")
        message = json.loads(line)
        arrays = {name: self._array(np.dtype(kind), tuple(shape)) for name, kind, shape in message["arrays"]}
        return message["header"], arrays

    def _array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if dtype.kind not in "biuf":
            raise ValueError(f"an array of {dtype} is no part of a message")
        content = bytearray(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        view, filled = memoryview(content), 0
        while filled < len(content):
            read = self.source.readinto(view[filled:])  # type: ignore[attr-defined]
            if not read:
                raise EOFError("the other process has ended")
            filled += read
        return np.frombuffer(content, dtype).reshape(shape)
