"""Choosing among the items that were shown, where a data set names them."""

from __future__ import annotations

from torch import Tensor

from recbole_llm_interest.content.event_fields import NEXT_SHOWN
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.ssl.objectives import OBJECTIVES, Objective, TrainingBatch
from recbole_llm_interest.settings import ModelSettings


@OBJECTIVES.register("shown")
class ShownItems(Objective):
    """Cross-entropy of the chosen item among those that were shown beside it; other items play no part.

    Items that were seen and not chosen are harder negatives than the catalogue's, and they are what a click-through
    rate is about.

    Example:
        >>> ShownItems()(batch)  # of a data set without shown items
        tensor(0.)
    """

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float) -> ShownItems:
        """Build it."""
        return cls()

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar: the mean over events with shown items; 0 without any."""
        if NEXT_SHOWN not in batch.interaction:
            return batch.items.new_zeros(())
        shown = batch.candidates.index_of[batch.interaction[NEXT_SHOWN]]
        at = (shown.any(dim=2) & (batch.pos_items > 0)).nonzero(as_tuple=True)
        if not len(at[0]):
            return batch.items.new_zeros(())
        return batch.next_item_loss(batch.in_context, batch.item_seq, batch.pos_items, at, batch.user, shown)
