"""Repeats the history: its items, the latest one first."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.baselines.counting import CountingModel, Events


class RepeatLast(CountingModel[None]):
    """Ranks the items of the history by the event in which each occurred last, the latest first.

    Its score is what repeats alone are worth: with seen items filtered, it is that of chance. The name and the idea are
    those of the persistence forecast. M. Ludewig and D. Jannach, "Evaluation of Session-based Recommendation
    Algorithms", UMUAI 2018, discuss repeated items ("reminders").
    """

    def count(self, events: Events) -> None:
        """Count nothing."""

    def score(self, interaction: Interaction) -> Tensor:
        """Score items by ``1 / (1 + a)``, ``a`` being the number of events since their last one, ``[B, N]``."""
        items, ago = self.histories(interaction)
        scores = (1.0 / (1 + ago)).where(ago >= 0, 0)  # [B, L]
        return scores.new_zeros(len(items), self.n_items).scatter_reduce_(1, items, scores, "amax")
