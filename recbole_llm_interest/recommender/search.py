"""Finds the best items for an interest: exactly, block by block, or with an approximate index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.model.history_bias import HistoryBias
from recbole_llm_interest.recommender.catalog import BLOCK_ITEMS, Block, Catalog

#: scores that are held at once
_SCORES = 2**22
#: of how many items each list of the index is made, at the least, and how many lists are looked through at first
_TRAINING_ITEMS_A_LIST = 40
_LISTS_READ = 8
#: items that the index is asked for at most; who wants more is answered exactly
_MOST_ASKED_FOR = 4096


@dataclass(frozen=True)
class Query:
    """What ``B`` users are looking for.

    Attributes:
        interest: its product with an item's factor is the score, ``[B, D]``.
        bonus: what the history adds to the scores of a few items, ``[B, K]``.
        excluded: rows of items that are out of the question, ``[B, E]``; 0 for none.
    """

    interest: Tensor
    bonus: HistoryBias
    excluded: Tensor

    def __len__(self) -> int:
        return len(self.interest)

    def some(self, users: slice) -> Query:
        """The same for some of the users."""
        bonus = HistoryBias(self.bonus.items[users], self.bonus.bonus[users])
        return Query(self.interest[users], bonus, self.excluded[users])

    def in_parts(self) -> Iterator[Query]:
        """Parts of few enough users that their scores of a block can be held."""
        step = max(_SCORES // BLOCK_ITEMS, 1)
        for start in range(0, len(self), step):
            yield self.some(slice(start, start + step))


def score_block(query: Query, block: Block) -> Tensor:
    """Scores of a block's items, ``[B, n]``; -inf for those that are excluded."""
    scores = query.interest @ block.matrix
    place, is_there = block.places(query.bonus.items)
    scores.scatter_add_(1, place, query.bonus.bonus.where(is_there, 0.0))
    place, is_there = block.places(query.excluded)
    user, which = is_there.nonzero(as_tuple=True)
    scores[user, place[user, which]] = -torch.inf
    return scores


def exact_best(query: Query, blocks: Iterable[Block], k: int) -> tuple[Tensor, Tensor]:
    """Scores and rows of each user's ``k`` best items, the best first, ``[B, k]``; -inf where there are fewer."""
    blocks = list(blocks)
    found = []
    for part in query.in_parts():
        scores, rows = [], []
        for block in blocks:
            best = score_block(part, block).topk(min(k, len(block.rows)), dim=1)
            scores.append(best.values)
            rows.append(block.rows[best.indices])
        found.append(_best(torch.cat(scores, dim=1), torch.cat(rows, dim=1), k))
    scores_of_all, rows_of_all = zip(*found, strict=True)
    return torch.cat(scores_of_all), torch.cat(rows_of_all)


class ApproximateIndex:
    """An inverted file of the items (faiss): only the lists that lie near an interest are looked through.

    What the index finds is scored exactly, along with the items of which the history says something, so that only what
    lies in a list that was not read can be missed.

    Args:
        table: the items.
        lists: into how many lists they are sorted; None for about twice the square root of their number.

    Raises:
        RequestError: faiss is not installed.
    """

    def __init__(self, table: Catalog, lists: int | None = None) -> None:
        try:
            import faiss
        except ImportError as error:
            raise RequestError("an approximate index needs faiss: pip install 'recbole_llm_interest[index]'") from error
        count, width = table.representations.shape
        lists = min(lists or round(2 * count**0.5), max(count // _TRAINING_ITEMS_A_LIST, 1))
        self._table = table
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1
        blocks = list(table.blocks())
        with tqdm(total=count, desc="Building the index", unit="item", delay=2) as bar:
            sample = torch.randperm(count)[: lists * _TRAINING_ITEMS_A_LIST].sort().values
            self._index.train(_array(table.factors(sample.to(table.representations.device))))
            for block in blocks:
                self.add(block.matrix.T)
                bar.update(len(block.rows))
        self.read(_LISTS_READ)

    @property
    def lists(self) -> int:
        """Into how many lists the items are sorted."""
        return int(self._index.nlist)

    def read(self, lists: int) -> None:
        """Let that many lists be looked through for each interest."""
        self._index.nprobe = min(lists, self.lists)

    def add(self, factors: Tensor) -> None:
        """Add items behind those that are there, ``[n, D]``."""
        self._index.add(_array(factors))

    def best(self, query: Query, k: int) -> tuple[Tensor, Tensor]:
        """Scores and rows of each user's ``k`` best items, as ``exact_best`` gives them, but for what it misses."""
        special = torch.cat([query.bonus.items, query.excluded], dim=1).sort(dim=1).values
        wanted = 2 * k
        while wanted <= min(_MOST_ASKED_FOR, len(self._table.tokens)):
            rows = torch.from_numpy(self._index.search(_array(query.interest), wanted)[1]).to(query.interest.device)
            # the k best of which the history says nothing are among these, where there are so many: no need to go on
            enough = ((rows > 0) & ~_among(special, rows)).sum(dim=1) >= k
            if enough.all():
                return self._score(query, torch.cat([rows.clamp(min=0), query.bonus.items], dim=1), k)
            wanted *= 4
        return exact_best(query, self._table.blocks(), k)

    def _score(self, query: Query, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows = rows.sort(dim=1).values
        is_again = torch.zeros_like(rows, dtype=torch.bool)
        is_again[:, 1:] = rows[:, 1:] == rows[:, :-1]
        scores = (self._table.factors(rows) @ query.interest[:, :, None]).squeeze(2)
        place = torch.searchsorted(rows, query.bonus.items)  # of a row that comes again, the first one
        scores.scatter_add_(1, place, query.bonus.bonus)
        out = is_again | _among(query.excluded.sort(dim=1).values, rows)
        return _best(scores.masked_fill(out, -torch.inf), rows, k)

    def recall(self, query: Query, k: int) -> float:
        """Which share of the ``k`` best items of these users the index finds."""
        _, exact = exact_best(query, self._table.blocks(), k)
        _, found = self.best(query, k)
        return float((exact[:, :, None] == found[:, None]).any(dim=2).float().mean())


def _among(ascending: Tensor, rows: Tensor) -> Tensor:
    """Which of ``rows``, ``[B, n]``, are among ``ascending``, ``[B, m]``."""
    if not ascending.shape[1]:
        return torch.zeros_like(rows, dtype=torch.bool)
    place = torch.searchsorted(ascending, rows).clamp(max=ascending.shape[1] - 1)
    return ascending.gather(1, place) == rows


def _best(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values, rows.gather(1, best.indices)


def _array(values: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(values.cpu().numpy(), dtype=np.float32)
