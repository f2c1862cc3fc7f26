"""The items that anybody chose last."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.baselines.recency import TimedModel


class MostRecent(TimedModel):
    """Ranks items by the time of their last training event before the predicted event, the latest first.

    It is ``RecentPop`` in the limit of a short window: Y. Ji, A. Sun, J. Zhang and C. Li, "A Re-visit of the Popularity
    Baseline in Recommender Systems", SIGIR 2020.
    """

    def score(self, interaction: Interaction) -> Tensor:
        """Return the place in time of each item's last event before the predicted one, ``[B, N]``.

        The place is that among the distinct times of training events, from 1: equal times have equal scores.
        """
        events = self.counts
        now, order = self.predicted_times(interaction).sort()
        row = torch.searchsorted(now, events.times, right=True)  # the first row that is later than the event
        place = torch.unique_consecutive(events.times, return_inverse=True)[1] + 1
        last = torch.zeros((len(now) + 1) * self.n_items)
        last.scatter_reduce_(0, row * self.n_items + events.items, place.float(), "amax")
        last = last.view(-1, self.n_items)[:-1].cummax(dim=0).values
        scores = torch.empty_like(last)
        scores[order] = last
        return scores.to(self.device)
