"""Popularity in the last days."""

from __future__ import annotations

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.baselines.recency import TimedModel
from recbole_llm_interest.settings import RecentPopSettings, read_settings


class RecentPop(TimedModel):
    """Ranks items by the number of their training events in the last ``popularity_days`` before the predicted event.

    Where training ends earlier, as in a split by time, they are the last days of training.

    Y. Ji, A. Sun, J. Zhang and C. Li, "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020.

    Args:
        config: RecBole's configuration, with ``popularity_days``.
        dataset: the training split, with ``training_events()`` and ``event_times``.

    Raises:
        DataError: the data set's times are unknown, or not of one clock.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.window = read_settings(RecentPopSettings, config).popularity_days * self.day

    def score(self, interaction: Interaction) -> Tensor:
        """Return the number of each item's events from ``window`` before the predicted event up to it, ``[B, N]``.

        Rows in chronological order share one pass over the events: each event enters the count at the first row after
        it, and leaves it at the first row that is later by more than the window.
        """
        events = self.counts
        now, order = self.predicted_times(interaction).sort()
        first, last = (int(torch.searchsorted(events.times, time)) for time in (now[0] - self.window, now[-1]))
        items, times = events.items[first:last], events.times[first:last]
        change = torch.zeros((len(now) + 1) * self.n_items)
        for sign, moments in ((1, times), (-1, times + self.window)):
            row = torch.searchsorted(now, moments, right=True)
            change.index_add_(0, row * self.n_items + items, torch.full(items.shape, float(sign)))
        counts = change.view(-1, self.n_items)[:-1].cumsum(dim=0)
        scores = torch.empty_like(counts)
        scores[order] = counts
        return scores.to(self.device)
