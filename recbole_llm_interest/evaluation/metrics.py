"""Metrics of ranked events, over all tested events or over a group of them, as further RecBole metrics.

Each combination of a metric of ``EVENT_METRICS`` and a group of ``EVENT_GROUPS`` is a value of RecBole's setting
``metrics``, for every model: ``metrics: ['Recall', 'RecallUnseen', 'NDCGFew']``. Groups select events by the number of
training events of the item or of the user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType
from torch import Tensor

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.collector import ITEM_COUNTS, RANKED_EVENTS, USER_COUNTS
from recbole_llm_interest.settings import Registry

_T = TypeVar("_T")

#: number of training events from which an item is in the group ``Many``; with fewer, it is in ``Few`` or ``Unseen``
MANY_EVENTS = 10
#: number of training events from which a user is in the group ``Long``; with fewer, in ``Short``
LONG_HISTORY = 10


class _RecBoleRegistry(Registry[_T]):
    """A registry whose members RecBole knows as metrics as soon as they are registered."""

    def register(self, name: str) -> Callable[[_T], _T]:
        decorator = super().register(name)

        def register_with_recbole(member: _T) -> _T:
            decorator(member)
            register_metrics()
            return member

        return register_with_recbole


#: a metric's gain of an event by the rank of its item, both ``[E]``: the metric is the mean gain over events. Names are
#: in lower case. Gains of items that are not among the first k are replaced by 0.
EventGain = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EventGroup:
    """A group of events.

    Attributes:
        counts: ``ITEM_COUNTS`` or ``USER_COUNTS``: the training events of which entity are counted.
        contains: from numbers of training events ``[E]`` to whether the events are in the group ``[E]``.
    """

    counts: str
    contains: Callable[[Tensor], Tensor]


EVENT_METRICS: Registry[EventGain] = _RecBoleRegistry("metric of ranked events")
EVENT_GROUPS: Registry[EventGroup] = _RecBoleRegistry("group of events")


class EventMetric(AbstractMetric):
    """The mean gain of the tested events, or of those in a group; NaN without events.

    ``register_metrics`` makes a subclass for each metric and group.

    Attributes:
        metric: name in ``EVENT_METRICS``.
        group: name in ``EVENT_GROUPS``; an empty string for all tested events.
    """

    metric_type = EvaluatorType.RANKING
    metric_need = (RANKED_EVENTS, ITEM_COUNTS, USER_COUNTS)
    metric: str
    group: str

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the values by name, such as ``recallunseen@10``.

        Raises:
            SettingsError: items were ranked among sampled ones: RecBole then does not say whose event a rank is of.
        """
        if RANKED_EVENTS not in dataobject:
            raise SettingsError(
                f"{self.metric}{self.group}: metrics of ranked events need full ranking, eval_args with mode: full"
            )
        users, items, ranks = dataobject.get(RANKED_EVENTS).unbind(dim=1)
        if self.group:
            group = EVENT_GROUPS[self.group]
            counts = dataobject.get(group.counts)[items if group.counts == ITEM_COUNTS else users]
            ranks = ranks[group.contains(counts)]
        name = f"{self.metric}{self.group.lower()}"
        return {f"{name}@{k}": self._mean(event_gains(self.metric, ranks, k)) for k in self.topk}

    def _mean(self, gains: Tensor) -> float:
        return round(float(gains.mean()), self.decimal_place) if len(gains) else math.nan


def event_gains(metric: str, ranks: Tensor, k: int) -> Tensor:
    """Return each event's gain, ``[E]``; each event has one item to rank.

    Args:
        metric: name in ``EVENT_METRICS``.
        ranks: rank of each event's item from 1, ``[E]``; 0 for items that are not in the list.
        k: length of the list.
    """
    gain = EVENT_METRICS[metric](ranks.double())
    return gain.where((ranks > 0) & (ranks <= k), 0.0)


def register_metrics() -> None:
    """Register each metric, for all events and for each group, with RecBole.

    RecBole's own metrics are kept. A second call has no effect, unless metrics or groups were registered meanwhile.
    """
    for metric in EVENT_METRICS:
        for group in ("", *EVENT_GROUPS):
            name = f"{metric}{group}"
            if name.lower() in register.metrics_dict:
                continue
            members = {"metric": metric, "group": group, "__module__": __name__}
            register.metrics_dict[name.lower()] = type(name, (EventMetric,), members)
            register.metric_information[name.lower()] = EventMetric.metric_need
            register.metric_types[name.lower()] = EventMetric.metric_type


@EVENT_METRICS.register("recall")
def recall_gain(rank: Tensor) -> Tensor:
    """Return 1 for each event, ``[E]``."""
    return torch.ones_like(rank)


@EVENT_METRICS.register("ndcg")
def ndcg_gain(rank: Tensor) -> Tensor:
    """Return the discount of each rank, ``[E]``; the ideal DCG of one item is 1."""
    return 1 / torch.log2(rank + 1)


@EVENT_METRICS.register("mrr")
def mrr_gain(rank: Tensor) -> Tensor:
    """Return the reciprocal of each rank, ``[E]``."""
    return 1 / rank


EVENT_GROUPS.register("Unseen")(EventGroup(ITEM_COUNTS, lambda count: count == 0))
EVENT_GROUPS.register("Few")(EventGroup(ITEM_COUNTS, lambda count: (count > 0) & (count < MANY_EVENTS)))
EVENT_GROUPS.register("Many")(EventGroup(ITEM_COUNTS, lambda count: count >= MANY_EVENTS))
EVENT_GROUPS.register("Short")(EventGroup(USER_COUNTS, lambda count: count < LONG_HISTORY))
EVENT_GROUPS.register("Long")(EventGroup(USER_COUNTS, lambda count: count >= LONG_HISTORY))
