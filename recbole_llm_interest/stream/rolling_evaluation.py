"""Predict, then learn: how well each event of a stream was predicted before it was read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from recbole_llm_interest.evaluation.metrics import event_gains


@dataclass(frozen=True)
class EvaluationWindow:
    """Successive evaluated events.

    Attributes:
        events: how many were evaluated up to its end.
        ndcg: NDCG@10 of its events.
        recall: recall@10 of its events.
    """

    events: int
    ndcg: float
    recall: float


class RollingEvaluation:
    """Collects ranks in windows of equally many events.

    Args:
        ranks: of events that were evaluated before, from 1 on; 0 beyond the list.
        size: of a window.

    Example:
        >>> evaluation = RollingEvaluation([1, 0], size=2)
        >>> evaluation.add([1, 1, 1])
        [EvaluationWindow(events=4, ndcg=1.0, recall=1.0)]
        >>> evaluation.summary["events"], evaluation.summary["recall@10"]
        (5, 0.8)
    """

    def __init__(self, ranks: Iterable[int], size: int) -> None:
        self._size = size
        self._open: list[int] = []
        self._sums = [0.0, 0.0]
        self._events = 0
        self.windows: list[EvaluationWindow] = []
        self.add(ranks)

    def add(self, ranks: Iterable[int]) -> list[EvaluationWindow]:
        """Add ranks; returns the windows that they complete."""
        self._open += ranks
        starts = range(0, len(self._open) - self._size + 1, self._size)
        completed = [self._close(self._open[start : start + self._size]) for start in starts]
        self._open = self._open[len(completed) * self._size :]
        self.windows += completed
        return completed

    def _close(self, ranks: list[int]) -> EvaluationWindow:
        sums = _sums(ranks)
        self._events += len(ranks)
        self._sums = [former + new for former, new in zip(self._sums, sums, strict=True)]
        return EvaluationWindow(self._events, *(total / len(ranks) for total in sums))

    @property
    def summary(self) -> dict[str, Any]:
        """Means over all evaluated events, and those of the windows."""
        events = self._events + len(self._open)
        means = [(total + last) / max(events, 1) for total, last in zip(self._sums, _sums(self._open), strict=True)]
        return {
            **{"events": events, "ndcg@10": means[0] if events else None, "recall@10": means[1] if events else None},
            "windows": [asdict(window) for window in self.windows],
        }


def _sums(ranks: list[int]) -> list[float]:
    """Sums of NDCG@10 and recall@10."""
    if not ranks:
        return [0.0, 0.0]
    of_events = torch.tensor(ranks)
    return [float(event_gains(name, of_events, 10).sum()) for name in ("ndcg", "recall")]
