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
from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.scoring import logits
from recbole_llm_interest.recommender.catalog import BLOCK_ITEMS, Block, Catalog

#: upper bound of the scores that are held at once
_MAX_SCORES = 2**22
#: items of a block that is scored for many users at once
_ITEMS_OF_MANY = 2**13
#: neighbouring items of which only the best one is compared at first
_GROUP = 64
#: items on which each list of the index is trained
_TRAINING_ITEMS_A_LIST = 40
#: lists that a search reads at first
_LISTS_READ = 8
#: items that the index is searched for at most; for more, the search is exact
_MAX_SEARCHED = 4096


@dataclass(frozen=True)
class Query:
    """What B users are to be recommended items for.

    Attributes:
        interest: the scoring rule's query, ``[B, D]``.
        bias: of the histories, in the units of logits, ``[B, K]``.
        excluded: rows of excluded items, ``[B, E]``; 0 for none.

    Example:
        >>> nothing = ItemBias(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0))
        >>> query = Query(torch.eye(2), nothing, excluded=torch.zeros(2, 1, dtype=torch.long))
        >>> len(query), len(query[:1])
        (2, 1)
    """

    interest: Tensor
    bias: ItemBias
    excluded: Tensor

    def __len__(self) -> int:
        return len(self.interest)

    def __getitem__(self, users: slice) -> Query:
        """The query of some of the users."""
        bias = ItemBias(self.bias.items[users], self.bias.bias[users])
        return Query(self.interest[users], bias, self.excluded[users])

    def without_exclusions(self) -> Query:
        """The same query with every item allowed, the padding too."""
        return Query(self.interest, self.bias, self.excluded[:, :0])

    def in_parts(self) -> Iterator[Query]:
        """Parts of the users, so small that their scores of a block fit into memory."""
        step = max(_MAX_SCORES // BLOCK_ITEMS, 1)
        for start in range(0, len(self), step):
            yield self[start : start + step]


def score_block(query: Query, block: Block) -> Tensor:
    """Scores of a block's items, ``[B, n]``; -inf for excluded items."""
    column, is_here = block.columns(query.bias.items)
    scores = logits(query.interest, block.matrix.T, ItemBias(column, query.bias.bias.where(is_here, 0.0)))
    column, is_here = block.columns(query.excluded)
    user, which = is_here.nonzero(as_tuple=True)
    scores[user, column[user, which]] = -torch.inf
    return scores


def exact_best(query: Query, blocks: Iterable[Block], k: int) -> tuple[Tensor, Tensor]:
    """Scores and rows of each user's ``k`` best items, best first, ``[B, k]`` both; score -inf if there are fewer."""
    blocks = list(blocks)
    users = max(_MAX_SCORES // BLOCK_ITEMS, 1)
    if len(query) > users:  # many users are scored faster on few items at a time
        blocks = [part for block in blocks for part in block.in_parts(_ITEMS_OF_MANY)]
        users = _MAX_SCORES // _ITEMS_OF_MANY
    best_of_parts = []
    for start in range(0, len(query), users):
        part = query[start : start + users]
        scores, rows = [], []
        for block in blocks:
            best, columns = _top(score_block(part, block), min(k, len(block.rows)))
            scores.append(best)
            rows.append(block.rows[columns])
        best_of_parts.append(_best(torch.cat(scores, dim=1), torch.cat(rows, dim=1), k))
    scores_of_all, rows_of_all = zip(*best_of_parts, strict=True)
    return torch.cat(scores_of_all), torch.cat(rows_of_all)


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best scores of each user, ``[B, n]``, and their columns, ``[B, k]`` both, as ``topk``, but faster.

    They are among the ``k`` groups of neighbouring columns with the best maxima.
    """
    users, count = scores.shape
    if count % _GROUP or count < 2 * k * _GROUP:
        best = scores.topk(k, dim=1)
        return best.values, best.indices
    groups = scores.view(users, -1, _GROUP)
    chosen = groups.amax(dim=2).topk(k, dim=1).indices
    best = groups.gather(1, chosen[..., None].expand(-1, -1, _GROUP)).flatten(1).topk(k, dim=1)
    return best.values, chosen.gather(1, best.indices // _GROUP) * _GROUP + best.indices % _GROUP


class ApproximateIndex:
    """An inverted file of the items (faiss): a search reads only the lists nearest to the interest.

    Its candidates, and the items that have a bias, are scored exactly. Only items in lists that are not read can be
    missed.

    Args:
        catalog: the items.
        lists: number of lists; None for about twice the square root of the number of items.

    Raises:
        RequestError: faiss is not installed.

    Example:
        >>> index = ApproximateIndex(recommender.items, lists=2)
        >>> nothing = ItemBias(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0))
        >>> query = Query(state.interest, nothing, excluded=torch.zeros(1, 1, dtype=torch.long))
        >>> scores, rows = index.best(query, k=3)
        >>> rows.shape
        torch.Size([1, 3])
    """

    def __init__(self, catalog: Catalog, lists: int | None = None) -> None:
        try:
            import faiss
        except ImportError as error:
            raise RequestError("an approximate index needs faiss: pip install 'recbole_llm_interest[index]'") from error
        count, width = catalog.representations.shape
        lists = min(lists or round(2 * count**0.5), max(count // _TRAINING_ITEMS_A_LIST, 1))
        self._catalog = catalog
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1
        blocks = list(catalog.blocks())
        with tqdm(total=count, desc="Building the index", unit="item", delay=2) as bar:
            sample = torch.randperm(count)[: lists * _TRAINING_ITEMS_A_LIST].sort().values
            self._index.train(_array(catalog.factors(sample.to(catalog.representations.device))))
            for block in blocks:
                self.add(block.matrix.T)
                bar.update(len(block.rows))
        self.read(_LISTS_READ)

    @property
    def lists(self) -> int:
        """Number of lists."""
        return int(self._index.nlist)

    def read(self, lists: int) -> None:
        """Set the number of lists that a search reads."""
        self._index.nprobe = min(lists, self.lists)

    def add(self, factors: Tensor) -> None:
        """Append items by their factors, ``[n, D]``."""
        self._index.add(_array(factors))

    def best(self, query: Query, k: int) -> tuple[Tensor, Tensor]:
        """Scores and rows of each user's ``k`` best items, ``[B, k]``, as ``exact_best`` except for missed items."""
        special = torch.cat([query.bias.items, query.excluded], dim=1).sort(dim=1).values
        count = 2 * k
        while count <= min(_MAX_SEARCHED, len(self._catalog.tokens)):
            rows = torch.from_numpy(self._index.search(_array(query.interest), count)[1]).to(query.interest.device)
            # enough if the k best items without a bias or an exclusion are among them
            enough = ((rows > 0) & ~_among(special, rows)).sum(dim=1) >= k
            if enough.all():
                return self._score(query, torch.cat([rows.clamp(min=0), query.bias.items], dim=1), k)
            count *= 4
        return exact_best(query, self._catalog.blocks(), k)

    def _score(self, query: Query, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows = rows.sort(dim=1).values
        is_again = torch.zeros_like(rows, dtype=torch.bool)
        is_again[:, 1:] = rows[:, 1:] == rows[:, :-1]
        column = torch.searchsorted(rows, query.bias.items)  # of a row that comes again, the first one
        scores = logits(query.interest, self._catalog.factors(rows), ItemBias(column, query.bias.bias))
        out = is_again | _among(query.excluded.sort(dim=1).values, rows)
        return _best(scores.masked_fill(out, -torch.inf), rows, k)

    def recall(self, query: Query, k: int) -> float:
        """Share of these users' exact ``k`` best items that the index finds."""
        _, exact = exact_best(query, self._catalog.blocks(), k)
        _, found = self.best(query, k)
        return float((exact[:, :, None] == found[:, None]).any(dim=2).float().mean())


def _among(ascending: Tensor, rows: Tensor) -> Tensor:
    """Which of ``rows``, ``[B, n]``, occur in ``ascending``, ``[B, m]``: ``[B, n]``."""
    if not ascending.shape[1]:
        return torch.zeros_like(rows, dtype=torch.bool)
    place = torch.searchsorted(ascending, rows).clamp(max=ascending.shape[1] - 1)
    return ascending.gather(1, place) == rows


def _best(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values, rows.gather(1, best.indices)


def _array(values: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(values.cpu().numpy(), dtype=np.float32)
