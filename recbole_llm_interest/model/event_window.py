"""Lets each event see the events before it, before the tracker reads it: ``I_t = M(x_t, x_{t-1}, …, x_{t-k})``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EventWindow(nn.Module):
    """Adds a causal convolution over an event and the ``k`` before it to the event's representation.

    It has no effect until training gives it one: its weights are zero at the start.

    Args:
        size: width D of a representation.
        k: events before each one that it sees.

    Example:
        >>> window = EventWindow(size=8, k=3)
        >>> events = torch.randn(2, 5, 8)
        >>> seen, recent = window(events, window.nothing(2))
        >>> torch.equal(seen, events), torch.equal(recent, events[:, 2:])
        (True, True)
    """

    def __init__(self, size: int, k: int) -> None:
        super().__init__()
        self.size, self.k = size, k
        self.convolution = nn.Conv1d(size, size, k + 1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def nothing(self, batch_size: int) -> Tensor:
        """What is before the first event, ``[B, k, D]``: zeros."""
        return self.convolution.weight.new_zeros(batch_size, self.k, self.size)

    def forward(self, events: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """Events that have seen those before them, ``[B, L, D]``, and the last ``k`` events themselves, ``[B, k, D]``.

        Args:
            events: in chronological order, ``[B, L, D]``.
            recent: the ``k`` events before them, ``[B, k, D]``.
        """
        joined = torch.cat([recent, events], dim=1)
        seen = self.convolution(joined.transpose(1, 2)).transpose(1, 2)
        return events + seen, joined[:, -self.k :]
