"""Neighbours of items by transitions: the items that most often follow an item in training histories."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import normalize
from torch import Tensor

#: groups of users for cross-fitting
FOLDS = 4
#: buckets of strength, each of half the strength of the one before
STRENGTHS = 8
#: weights of a pair of events by their distance: of the later item after the earlier one, and the reverse
_WEIGHTS = {1: (1.0, 0.5), 2: (0.25, 0.125)}
#: weight of a transition by way of another item, relative to its probability
_SECOND_HOP = 0.5
#: strongest transitions of an item that its second hop, and those to it, go by
_HOP_NEIGHBOURS = 32
#: rows that are computed at once
_BLOCK_ROWS = 4096
#: of a strength, so that rounding errors decide neither ranks nor buckets
_DECIMALS = 9


class Transitions(NamedTuple):
    """Each item's neighbours by transitions, the strongest first, counted over several groups of users.

    Table ``f`` of the first ``FOLDS`` is counted without the users of fold ``f``, and the last one over all users. In
    training, a history is given the table without its own user: otherwise the transition that is to be predicted
    would be one of those counted, and the learned weights would be far too large for histories that are new.

    Attributes:
        items: rows of the neighbours, ``[FOLDS + 1, N, K]``, int32; 0 for none.
        strengths: bucket of each neighbour's strength, ``[FOLDS + 1, N, K]``, uint8; 0 for more than half of the item's
            transitions, 1 for more than a quarter, and so on.

    Example:
        >>> items, users = torch.tensor([1, 2, 1, 2]), torch.tensor([7, 7, 9, 9])  # two users choose 2 after 1
        >>> of_all = count_transitions(items, users[[1, 3]], torch.tensor([1, 3]), rows=3, count=1).items[-1]
        >>> of_all.tolist()
        [[0], [2], [1]]
    """

    items: Tensor
    strengths: Tensor

    def shuffled(self, seed: int) -> Transitions:
        """The tables with rows permuted among the items: a control that shows whether results depend on them."""
        generator = torch.Generator().manual_seed(seed)
        source = torch.randperm(self.items.shape[1] - 1, generator=generator) + 1
        source = torch.cat([torch.zeros(1, dtype=torch.long), source])
        return Transitions(self.items[:, source], self.strengths[:, source])


def count_transitions(items: Tensor, users: Tensor, targets: Tensor, *, rows: int, count: int) -> Transitions:
    """Count which items follow which in training histories, and keep the most frequent of each item.

    A pair of consecutive events counts 1 for the later item after the earlier one, and half of that in reverse; a pair
    two events apart counts a quarter of that. A row is divided by its sum, P, and half of its second hop is added:
    P + P² / 2, where P² goes by the 32 strongest transitions of each item. The weights are those of an untrained
    heuristic that keeps up with trained models (arXiv 2605.07125).

    Args:
        items: the event table, ``[E]``.
        users: the user of each training target, ``[T]``.
        targets: index of each training target in the event table, ``[T]``; the event before it has the same user.
        rows: number of items with the padding, N.
        count: neighbours of each item, K.
    """
    folds = users.numpy() % FOLDS
    parts = [_count(items.numpy(), targets.numpy(), folds == fold, rows) for fold in range(FOLDS)]
    total = sum(parts[1:], start=parts[0])
    tables = [_nearest(counts, count) for counts in (*(total - part for part in parts), total)]
    found, strengths = (np.stack(values) for values in zip(*tables, strict=True))
    return Transitions(torch.from_numpy(found), torch.from_numpy(strengths))


def _count(
    items: NDArray[np.int64], targets: NDArray[np.int64], is_in: NDArray[np.bool_], rows: int
) -> scipy.sparse.csr_array:
    """Weighted counts of the pairs whose later event is one of ``targets[is_in]``, ``[N, N]``."""
    is_target = np.zeros(len(items), dtype=bool)
    is_target[targets] = True
    later = targets[is_in]
    counts = scipy.sparse.csr_array((rows, rows), dtype=np.float64)
    for distance, (forward, reverse) in _WEIGHTS.items():
        source, target = items[later - distance], items[later]
        pairs = scipy.sparse.coo_array((np.ones(len(later)), (source, target)), shape=(rows, rows)).tocsr()
        counts = counts + forward * pairs + reverse * pairs.T
        later = later[is_target[later - distance]]  # of these, the event before is of the same user, too
    return counts.tocsr()


def _nearest(counts: scipy.sparse.csr_array, count: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The strongest of P + P² / 2, without the item itself: columns and buckets of strength, ``[N, K]`` both.

    Blocks of rows bound the memory: P² of a large catalog has most of its N² values.
    """
    chances = normalize(_without_self(counts), norm="l1")
    hops = _Strongest.of(chances, _HOP_NEIGHBOURS).matrix(chances.shape)
    blocks = []
    for start in range(0, chances.shape[0], _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = _without_self(chances[rows] + _SECOND_HOP * (hops[rows] @ hops), start)
        blocks.append(_Strongest.of(block, count).table(block.shape[0], count))
    items, strengths = zip(*blocks, strict=True)
    return np.concatenate(items), np.concatenate(strengths)


def _without_self(matrix: scipy.sparse.csr_array, start: int = 0) -> scipy.sparse.csr_array:
    """The positive values of rows ``start`` and following, without items that follow themselves."""
    matrix = matrix.tocoo()
    is_kept = (matrix.row + start != matrix.col) & (matrix.data > 0)
    kept = (matrix.data[is_kept], (matrix.row[is_kept], matrix.col[is_kept]))
    return scipy.sparse.coo_array(kept, shape=matrix.shape).tocsr()


class _Strongest(NamedTuple):
    """The highest values of each row of a matrix, ``[V]`` each: row, column, rank in the row, and value."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    rank: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: scipy.sparse.csr_array, count: int) -> _Strongest:
        """The ``count`` highest values of each row; of equal ones, those of the first columns."""
        matrix = matrix.tocoo()
        value = matrix.data.round(_DECIMALS)
        order = np.lexsort((matrix.col, -value, matrix.row))
        row, column, value = matrix.row[order], matrix.col[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        is_kept = rank < count
        return cls(row[is_kept], column[is_kept], rank[is_kept], value[is_kept])

    def matrix(self, shape: tuple[int, int]) -> scipy.sparse.csr_array:
        """The values as a sparse matrix."""
        return scipy.sparse.coo_array((self.value, (self.row, self.column)), shape=shape).tocsr()

    def table(self, rows: int, count: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Columns by rank, and the buckets of their values, ``[rows, count]`` both; 0 for none."""
        items, strengths = np.zeros((rows, count), dtype=np.int32), np.zeros((rows, count), dtype=np.uint8)
        items[self.row, self.rank] = self.column
        bucket = np.floor(-np.log2(self.value.clip(min=10.0**-_DECIMALS))).clip(0, STRENGTHS - 1)
        strengths[self.row, self.rank] = bucket.astype(np.uint8)
        return items, strengths
