"""How well scores tell chosen items from those that were shown beside them, as further RecBole metrics.

``ShownAUC`` compares across all events, as click-through rates do; ``ShownGAUC`` within each, as ranking does. Both are
values of RecBole's settings ``metrics`` and ``valid_metric``, for models that read ``shown_field``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType
from scipy.stats import rankdata
from torch import Tensor

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.collector import SHOWN_SCORES


class ShownAUC(AbstractMetric):
    """The probability that a chosen item has a higher score than one shown beside any event; ties count half.

    An item that is shown beside two events counts twice.
    """

    metric_type = EvaluatorType.RANKING
    metric_need = (SHOWN_SCORES,)

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the value by name.

        Raises:
            SettingsError: no tested event has shown items, or the model does not read them.
        """
        name = type(self).__name__
        scores = dataobject.get(SHOWN_SCORES) if SHOWN_SCORES in dataobject else torch.zeros(0, 1)
        scores = scores[~scores[:, 1:].isnan().all(dim=1)]
        if not len(scores):
            raise SettingsError(
                f"{name} compares chosen items with those shown beside them, and no tested event has any, or the model "
                "does not read them: name them by shown_field of LLMInterest"
            )
        return {name.lower(): round(self._value(scores), self.decimal_place)}

    def _value(self, scores: Tensor) -> float:
        chosen, others = scores[:, 0].numpy(), scores[:, 1:].numpy()
        others = others[~np.isnan(others)]
        ranks = rankdata(np.concatenate([chosen, others]))[: len(chosen)]  # equal scores share their mean rank
        return float((ranks.mean() - (len(chosen) + 1) / 2) / len(others))


class ShownGAUC(ShownAUC):
    """The same among the items of one event, as a mean over events."""

    def _value(self, scores: Tensor) -> float:
        chosen, others = scores[:, :1], scores[:, 1:]
        wins = (chosen > others).double() + (chosen == others).double() / 2  # a padded score is NaN, and wins nothing
        return float((wins.sum(dim=1) / (~others.isnan()).sum(dim=1)).mean())


def register_shown_metrics() -> None:
    """Register both metrics with RecBole. A second call has no effect."""
    for metric in (ShownAUC, ShownGAUC):
        name = metric.__name__.lower()
        register.metrics_dict[name] = metric
        register.metric_information[name] = metric.metric_need
        register.metric_types[name] = metric.metric_type
