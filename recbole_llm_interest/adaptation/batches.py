"""Batches of histories, with new features of their items, and remembered ones of what these are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Slices = TypeVar("_Slices", NDArray[np.int64], Sequence[Any])
#: events of a history that a batch has
MAX_EVENTS = 20


@dataclass(frozen=True)
class Batch:
    """Histories and candidates of one training step.

    U is the number of items in the histories, C that of candidates, N that of all items, D the width of a feature.

    Attributes:
        histories: of B users, as positions among the candidates, which are the items of histories, then negatives.
        features: of the items of the histories, ``[U, D]``, with gradients.
        remembered: features of the candidates from their last encoding, ``[C, D]``. Losses compare with these alone: if
            positives were encoded anew and negatives were not, all new features would learn to move in one direction.
        log_counts: logarithm of each candidate's training events, ``[C]``.
        partners: for each item of the histories, positions of candidates that share a user with it, its own included.
    """

    histories: list[NDArray[np.int64]]
    features: Tensor
    remembered: Tensor
    log_counts: Tensor
    partners: list[NDArray[np.int64]]


class Batcher:
    """Makes batches; what is drawn depends on the seed and on the step alone.

    Args:
        histories: of all users, without items that have no content.
        size: histories in a batch.
        negatives: items beside those of the histories. Only items with training events are drawn: an item that no user
            has chosen yet would be learned as one that nobody chooses.
        items: number of all items, N.
        seed: of what is drawn.
    """

    def __init__(
        self, histories: Sequence[NDArray[np.int64]], size: int, negatives: int, items: int, seed: int
    ) -> None:
        self.histories = histories
        self.size = min(size, len(histories))
        self.seed = seed
        self.counts = np.bincount(np.concatenate(histories), minlength=items)
        self._seen = np.flatnonzero(self.counts)
        self._negatives = min(negatives, len(self._seen))
        self._partners = _partners(histories, items)

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return len(self.histories) // self.size

    def histories_of(self, step: int) -> list[NDArray[np.int64]]:
        """The histories of a step, as items: the last ``MAX_EVENTS`` events of each."""
        epoch, index = divmod(step, self.steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.histories))
        chosen = order[index * self.size : (index + 1) * self.size]
        return [self.histories[row][-MAX_EVENTS:] for row in chosen]

    def negatives_of(self, step: int, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Items with training events, without ``items``."""
        generator = np.random.default_rng([self.seed, step, 1])
        drawn = generator.choice(self._seen, self._negatives, replace=False)
        return np.setdiff1d(drawn, items)

    def catalogue_of(self, step: int, items: NDArray[np.int64], size: int) -> list[int]:
        """At most ``size`` of the items, each as likely as the others."""
        generator = np.random.default_rng([self.seed, step, 2])
        drawn: list[int] = generator.choice(items, min(size, len(items)), replace=False).tolist()
        return drawn

    def batch(
        self,
        histories: Sequence[NDArray[np.int64]],
        items: NDArray[np.int64],
        negatives: NDArray[np.int64],
        features: Tensor,
        remembered: Tensor,
    ) -> Batch:
        """Put a batch together.

        Args:
            histories: as items.
            items: of the histories, without repetition, ``[U]``.
            negatives: as items, ``[C - U]``.
            features: of ``items``, ``[U, D]``.
            remembered: of both, ``[C, D]``.
        """
        candidates = np.concatenate([items, negatives])
        position = np.full(len(self.counts), -1)
        position[candidates] = np.arange(len(candidates))
        partners = [position[self._partners[item]] for item in items]
        return Batch(
            [position[history] for history in histories],
            features,
            remembered,
            torch.from_numpy(np.log(np.maximum(self.counts[candidates], 0.5)).astype(np.float32)),
            [places[places >= 0] for places in partners],
        )


def _partners(histories: Sequence[NDArray[np.int64]], items: int) -> list[NDArray[np.int64]]:
    """For each item, the items that share a training history with it."""
    partners: list[set[int]] = [{item} for item in range(items)]
    for history in histories:
        known = set(history.tolist())
        for item in known:
            partners[item] |= known
    return [np.array(sorted(of_item)) for of_item in partners]


def chunks(items: _Slices, size: int) -> Iterator[_Slices]:
    """Parts of an array or a list, each of at most ``size`` elements."""
    return (items[start : start + size] for start in range(0, len(items), size))
