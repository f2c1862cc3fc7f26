"""Metrics of a part of the tested events: by how well the item is known, or how long the user's history is.

They are metrics of RecBole like any other, for every model: ``metrics: ['Recall', 'RecallUnseen', 'NDCGFew', …]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType
from torch import Tensor

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.collector import ITEM_COUNTS, RANKED_EVENTS, USER_COUNTS

#: an item with fewer training events than this is one with few
MANY_EVENTS = 10
#: a user with fewer training events than this has a short history
LONG_HISTORY = 10

#: group -> the training events that it goes by, and the counts that belong to it
EVENT_GROUPS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "Unseen": (ITEM_COUNTS, lambda count: count == 0),
    "Few": (ITEM_COUNTS, lambda count: (count > 0) & (count < MANY_EVENTS)),
    "Many": (ITEM_COUNTS, lambda count: count >= MANY_EVENTS),
    "Short": (USER_COUNTS, lambda count: count < LONG_HISTORY),
    "Long": (USER_COUNTS, lambda count: count >= LONG_HISTORY),
}


def event_gains(metric: str, ranks: Tensor, k: int) -> Tensor:
    """What each event adds to a metric, ``[E]``, from its item's rank, 0 for none; one item is to be found an event.

    Args:
        metric: ``recall``, ``ndcg`` or ``mrr``.
        ranks: ``[E]``, from 1.
        k: length of the list.
    """
    rank = ranks.double()
    gain = {
        "recall": torch.ones_like(rank),
        "ndcg": 1 / torch.log2(rank + 1),
        "mrr": 1 / rank,
    }[metric]
    return gain.where((ranks > 0) & (ranks <= k), 0.0)


class GroupMetric(AbstractMetric):
    """The mean of a metric over one group's events; NaN where it has none.

    Attributes:
        metric: the metric whose mean is taken.
        group: the group's name.
    """

    metric_type = EvaluatorType.RANKING
    metric_need = (RANKED_EVENTS, ITEM_COUNTS, USER_COUNTS)
    metric: str
    group: str

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Value by name, as ``recallunseen@10``.

        Raises:
            SettingsError: items were ranked among sampled ones, where RecBole does not say which event is whose.
        """
        if RANKED_EVENTS not in dataobject:
            raise SettingsError(
                f"{self.metric}{self.group}: groups of events need full ranking, eval_args with mode: full"
            )
        users, items, ranks = dataobject.get(RANKED_EVENTS).unbind(dim=1)
        source, belongs = EVENT_GROUPS[self.group]
        count = dataobject.get(source)[items if source == ITEM_COUNTS else users]
        ranks = ranks[belongs(count)]
        values = {k: event_gains(self.metric, ranks, k) for k in self.topk}
        return {
            f"{self.metric}{self.group.lower()}@{k}": round(float(gain.mean()), self.decimal_place)
            if len(gain)
            else math.nan
            for k, gain in values.items()
        }


def register_metrics() -> None:
    """Put a metric for each group where RecBole looks its metrics up. Calling it again changes nothing."""
    for metric in ("Recall", "NDCG", "MRR"):
        for group in EVENT_GROUPS:
            name = f"{metric}{group}"
            kind = type(name, (GroupMetric,), {"metric": metric.lower(), "group": group, "__module__": __name__})
            register.metrics_dict[name.lower()] = kind
            register.metric_information[name.lower()] = GroupMetric.metric_need
            register.metric_types[name.lower()] = GroupMetric.metric_type
