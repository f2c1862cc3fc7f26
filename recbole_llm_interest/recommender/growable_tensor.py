"""Tensors that rows are added to."""

from __future__ import annotations

from torch import Tensor


class GrowableTensor:
    """Rows of a tensor to which more are added: in constant time, but for a copy whenever their number has doubled."""

    def __init__(self, rows: Tensor) -> None:
        self._buffer = rows
        self._count = len(rows)

    @property
    def all(self) -> Tensor:
        """The rows, ``[N, …]``."""
        return self._buffer[: self._count]

    def append(self, rows: Tensor) -> None:
        """Add ``rows``, ``[n, …]``."""
        count = self._count + len(rows)
        if count > len(self._buffer):
            grown = self._buffer.new_zeros(max(count, 2 * self._count), *self._buffer.shape[1:])
            grown[: self._count] = self.all
            self._buffer = grown
        self._buffer[self._count : count] = rows
        self._count = count
