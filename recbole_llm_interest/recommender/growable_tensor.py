"""A tensor that grows along its first dimension."""

from __future__ import annotations

from torch import Tensor


class GrowableTensor:
    """A tensor to which rows are appended in amortized constant time: its buffer doubles when it is full.

    Args:
        rows: the first rows, ``[N, …]``. They are copied at the first append.

    Example:
        >>> grown = GrowableTensor(torch.zeros(2, 3))
        >>> grown.append(torch.ones(1, 3))
        >>> grown.all.shape
        torch.Size([3, 3])
    """

    def __init__(self, rows: Tensor) -> None:
        self._buffer = rows
        self._count = len(rows)

    @property
    def all(self) -> Tensor:
        """The rows, ``[N, …]``."""
        return self._buffer[: self._count]

    def append(self, rows: Tensor) -> None:
        """Append rows, ``[n, …]``."""
        count = self._count + len(rows)
        if count > len(self._buffer):
            grown = self._buffer.new_zeros(max(count, 2 * self._count), *self._buffer.shape[1:])
            grown[: self._count] = self.all
            self._buffer = grown
        self._buffer[self._count : count] = rows
        self._count = count
