"""Metrics of recommended lists beyond accuracy, as further RecBole metrics for every model.

RecBole's ``ItemCoverage`` and ``GiniIndex`` are used as they are. All are over one list for each tested event, or, for
general models, each tested user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.evaluator import Collector, register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType
from scipy.sparse import csr_matrix

from recbole_llm_interest.evaluation.collector import ITEM_COUNTS
from recbole_llm_interest.evaluation.comparison import base_metric

#: key of the vectors of items' texts in RecBole's ``DataStruct``, ``[N, D]``; None if the items have no text
ITEM_TEXTS = "data.item_texts"
_Lists = NDArray[np.int64]
#: RecBole's metrics of lists; their values are no accuracy
_RECBOLES = ("itemcoverage", "giniindex", "averagepopularity", "shannonentropy", "tailpercentage")
#: names of metrics in tables and figures
_SHORT_NAMES = {"itemcoverage": "coverage", "giniindex": "Gini", "contentdiversity": "diversity"}


class ListMetric(AbstractMetric):
    """A metric of lists of items, such as ``Novelty``.

    Attributes:
        data_key: what it needs of the data, in RecBole's ``DataStruct``.
    """

    metric_type = EvaluatorType.RANKING
    data_key: str

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the values by name, such as ``novelty@10``; none if the data lack what it needs."""
        data = dataobject.get(self.data_key)
        if data is None:
            return {}
        lists = dataobject.get("rec.items").numpy()
        name = type(self).__name__.lower()
        return {f"{name}@{k}": round(self.value(lists[:, :k], data), self.decimal_place) for k in self.topk}

    def value(self, lists: _Lists, data: Any) -> float:
        """Return the value.

        Args:
            lists: recommended items by internal id, ``[B, K]``; 0 where a list has no more.
            data: what ``data_key`` names.
        """
        raise NotImplementedError


class Novelty(ListMetric):
    """The mean self-information of the recommended items, in bits (Zhou et al., PNAS 2010).

    That of an item is ``-log2`` of the share of training events that are its. An item without one counts as if it had
    one: its share is not zero, and unknown.
    """

    metric_need = ("rec.items", ITEM_COUNTS)
    data_key = ITEM_COUNTS

    def value(self, lists: _Lists, data: Any) -> float:
        """Return the mean over all recommended items; ``data`` are the items' training events, ``[N]``."""
        counts = np.asarray(data, dtype=np.float64)
        information = np.log2(max(counts.sum(), 1.0)) - np.log2(counts.clip(min=1.0))
        return float(information[lists[lists > 0]].mean())


class ContentDiversity(ListMetric):
    """One minus the mean cosine of the texts of two items of a list, the mean over lists (Smyth and McClave, 2001).

    Pairs with an item without text are left out, and so are lists without a pair.
    """

    metric_need = ("rec.items", ITEM_TEXTS)
    data_key = ITEM_TEXTS

    def value(self, lists: _Lists, data: Any) -> float:
        """Return the mean over lists; ``data`` are vectors of unit length or zero, one for each item, ``[N, D]``."""
        has_text = np.diff(data.indptr) > 0
        is_told = (lists > 0) & has_text[lists]
        size = is_told.sum(axis=1)
        rows, columns = is_told.nonzero()
        chosen = csr_matrix((np.ones(len(rows)), (rows, lists[rows, columns])), shape=(len(lists), data.shape[0]))
        # the squared length of a sum of unit vectors is their number plus the cosines of all ordered pairs
        squares = np.asarray((chosen @ data).power(2).sum(axis=1)).squeeze(1)
        has_pair = size > 1
        if not has_pair.any():
            return math.nan
        size, squares = size[has_pair], squares[has_pair]
        return float(1 - ((squares - size) / (size * (size - 1))).mean())


def is_list_metric(metric: str) -> bool:
    """Return whether a reported metric, such as ``filtered_novelty@10``, is of the lists and not of their accuracy."""
    name, _, _ = base_metric(metric).partition("@")
    return name in _RECBOLES or name in {kind.__name__.lower() for kind in _METRICS}


def short_name(metric: str) -> str:
    """Return the name of a metric of lists as tables have it.

    >>> short_name("itemcoverage@10"), short_name("novelty@10")
    ('coverage@10', 'novelty@10')
    """
    name, at, k = metric.partition("@")
    return f"{_SHORT_NAMES.get(name, name)}{at}{k}"


_METRICS = (Novelty, ContentDiversity)


def register_list_metrics(text_vectors: Callable[[Any], Any]) -> None:
    """Register the metrics with RecBole, and make its collector get what they need; called once, at registration.

    Args:
        text_vectors: returns the vectors of a data set's item texts, ``[N, D]``; None without texts.
    """
    collect_data = Collector.data_collect

    def data_collect(self: Any, train_data: Any) -> None:
        collect_data(self, train_data)
        if self.register.need(ITEM_TEXTS):
            self.data_struct.set(ITEM_TEXTS, text_vectors(train_data.dataset))

    Collector.data_collect = data_collect
    for kind in _METRICS:
        name = kind.__name__.lower()
        register.metrics_dict[name] = kind
        register.metric_information[name] = kind.metric_need
        register.metric_types[name] = kind.metric_type
