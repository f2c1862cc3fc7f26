"""Vector multiplication session-based nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.interaction import Interaction
from scipy import sparse
from torch import Tensor

from recbole_llm_interest.baselines.counting import CountingModel, Events
from recbole_llm_interest.baselines.recency import length_of_day
from recbole_llm_interest.settings import VSKNNSettings, read_settings

Numbers = NDArray[Any]
#: weight of an event in the similarity of histories, by the number of events since then and the history's length
_WEIGHTINGS: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "same": lambda ago, length: np.ones(len(ago)),
    "div": lambda ago, length: 1 - ago / length,
    "linear": lambda ago, length: np.maximum(1 - 0.1 * ago, 0),
    "log": lambda ago, length: 1 / np.log10(ago + 1.7),
    "quadratic": lambda ago, length: (1 - ago / length) ** 2,
}
#: weight of a neighbour, by the number of events since the latest one that it shares
_SCORE_WEIGHTINGS: dict[str, Callable[[Numbers], Numbers]] = {
    "same": lambda ago: np.ones(len(ago)),
    "div": lambda ago: 1 / (ago + 1),
    "linear": lambda ago: np.maximum(1 - 0.1 * ago, 0),
    "log": lambda ago: 1 / np.log10(ago + 2.7),
    "quadratic": lambda ago: 1 / (ago + 1) ** 2,
}
#: of a similarity: sums of equal weights may differ in the last bits
_DECIMALS = 9


@dataclass(frozen=True)
class TrainingHistories:
    """The training histories of all users, the one that ended last first.

    Attributes:
        items: whether a history holds an item, ``[U, N]``.
        users: whose they are, ``[U]``.
        idf: logarithm of the share of histories that hold an item, negated, ``[N]``.
    """

    items: sparse.csr_array
    users: Numbers
    idf: Numbers


class VSKNN(CountingModel[TrainingHistories]):
    """V-SKNN: the items of the other users' training histories that resemble this history most.

    Two histories are similar by the sum of the weights of the items that they share, where later events of this history
    weigh more. An item's score is the sum of the similarities of the ``k`` nearest histories that hold it. A user's own
    training history is never a neighbour.

    M. Ludewig and D. Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 2018. The weights of
    neighbours and IDF are those of the authors' session-rec, where a user's whole history takes the place of a session.

    Args:
        config: RecBole's configuration, with ``k``, ``sample_size``, ``weighting``, ``score_weighting`` and
            ``idf_weighting``.
        dataset: the training split, with ``training_events()`` and ``event_times``.

    Raises:
        DataError: ``sample_size`` is set, and the data set's times are unknown or not of one clock.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = read_settings(VSKNNSettings, config)
        if self.settings.sample_size is not None:
            length_of_day(dataset.event_times, config)  # which history ended last is known by the clock alone

    def count(self, events: Events) -> TrainingHistories:
        """Collect the training histories."""
        users, row = np.unique(events.users, return_inverse=True)
        ends = np.full(len(users), -np.inf)
        np.maximum.at(ends, row, np.arange(len(row)) if events.times is None else events.times)
        by_end = np.argsort(-ends, kind="stable")
        place = np.empty_like(by_end)
        place[by_end] = np.arange(len(users))
        items = sparse.csr_array((np.ones(len(row)), (place[row], events.items)), shape=(len(users), self.n_items))
        items.sum_duplicates()
        items.data[:] = 1
        holding = items.sum(axis=0)
        return TrainingHistories(items, users[by_end], np.log(len(users) / np.maximum(holding, 1)))

    def score(self, interaction: Interaction) -> Tensor:
        """Return the weighted sum over the neighbours that hold an item, ``[B, N]``."""
        items, ago = (values.cpu().numpy() for values in self.histories(interaction))
        users = interaction[self.USER_ID].cpu().numpy()
        row, column = np.nonzero(ago >= 0)
        events = _latest_of_each_item(row, items[row, column], ago[row, column])
        row, item, since = events
        length = (ago >= 0).sum(axis=1)[row]
        shape = (len(users), self.n_items)
        query = sparse.csr_array((_WEIGHTINGS[self.settings.weighting](since, length), (row, item)), shape=shape)
        row, history, similarity = self._neighbours(query, users)
        since_shared = np.zeros(shape, dtype=np.float32)
        since_shared[events[0], events[1]] = _SCORE_WEIGHTINGS[self.settings.score_weighting](since)
        weight = similarity * self._latest_shared(since_shared, row, history)
        neighbours = sparse.csr_array((weight, (row, history)), shape=(len(users), len(self.counts.users)))
        scores = (neighbours @ self.counts.items).toarray()
        scores *= 1 + self.settings.idf_weighting * self.counts.idf
        return torch.from_numpy(scores.astype(np.float32)).to(self.device)

    def _neighbours(self, query: sparse.csr_array, users: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return the nearest histories of each row: rows, histories and similarities, ``[P]`` each.

        Of equal similarities, the history that ended later comes first.
        """
        found = (query @ self.counts.items.T).tocoo()
        row, history, similarity = found.row, found.col, found.data.round(_DECIMALS)
        kept = (similarity > 0) & (self.counts.users[history] != users[row])
        row, history, similarity = row[kept], history[kept], similarity[kept]
        if self.settings.sample_size is not None:
            kept = _first_of_each_row(row, np.lexsort((history, row)), self.settings.sample_size)
            row, history, similarity = row[kept], history[kept], similarity[kept]
        kept = _first_of_each_row(row, np.lexsort((history, -similarity, row)), self.settings.k)
        return row[kept], history[kept], similarity[kept]

    def _latest_shared(self, weights: Numbers, row: Numbers, history: Numbers) -> Numbers:
        """Return the largest weight of the items that a row and a neighbour share, ``[P]``.

        Args:
            weights: of each item of a row's history, else 0, ``[B, N]``.
            row: of each pair, ``[P]``.
            history: likewise.
        """
        if not len(row):
            return np.zeros(0)
        neighbours = self.counts.items[history]
        pair = np.repeat(np.arange(len(row)), np.diff(neighbours.indptr))
        return np.maximum.reduceat(weights[row[pair], neighbours.indices], neighbours.indptr[:-1])


def _latest_of_each_item(row: Numbers, item: Numbers, ago: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Keep the latest of a row's events with the same item, of which all ``[E]`` are given."""
    order = np.lexsort((ago, item, row))
    row, item, ago = row[order], item[order], ago[order]
    kept = (np.diff(row, prepend=-1) != 0) | (np.diff(item, prepend=-1) != 0)
    return row[kept], item[kept], ago[kept]


def _first_of_each_row(row: Numbers, order: Numbers, count: int) -> Numbers:
    """Return the first ``count`` places of each row in an order that has one row after the other."""
    rows = row[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return order[place < count]
