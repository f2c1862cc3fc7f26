"""Self-supervised objectives beside the next-item loss.

Each is a module with ``forward(batch) -> loss``, a scalar, registered in ``OBJECTIVES``; the setting
``ssl_<name>_weight`` adds it to the loss. The contrastive ones are InfoNCE over the batch, without false negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.negative_sampling import Candidates
from recbole_llm_interest.model.step_loss import StepLoss
from recbole_llm_interest.settings import OBJECTIVE_WEIGHT, ModelSettings, Registry

#: items of a batch that an objective over items samples at most, which bounds its cost
_MAX_ITEMS = 1024


@dataclass(frozen=True)
class TrainingBatch:
    """A batch, as objectives see it. An item is its index among the step's C candidates.

    Attributes:
        item_seq: ``[B, L]``, padded behind the end with 0.
        item_seq_len: ``[B]``.
        pos_items: the item that follows each event, ``[B, L]``, 0 behind the end.
        user: ``[B]``; a long history is several rows of one user.
        items: representations of the candidates, ``[C, D]``.
        candidates: their ids.
        seq_output: interest after each event, ``[B, L, D]``.
        item_encoder: what made the representations.
        in_context: interest after each event, given what is known before the next choice, ``[B, L, D]``.
        interaction: the batch as it was loaded, by field.
        track: interest after each event of other histories, from histories ``[B, L]``, their users ``[B]``, 0 for an
            unknown one, and representations ``[C, D]``: ``[B, L, D]``. Nothing else is known of their events.
        next_item_loss: the next-item loss of any interests in the step's candidates.

    Example:
        >>> batch.seq_output.shape[:2] == batch.item_seq.shape  # what a model passes to its objectives
        True
        >>> torch.allclose(batch.track(batch.item_seq, batch.user, batch.items), batch.seq_output)
        True
    """

    item_seq: Tensor
    item_seq_len: Tensor
    pos_items: Tensor
    user: Tensor
    items: Tensor
    candidates: Candidates
    seq_output: Tensor
    item_encoder: EntityEncoder
    in_context: Tensor
    interaction: Interaction
    track: Callable[[Tensor, Tensor, Tensor], Tensor]
    next_item_loss: StepLoss

    def sampled_items(self) -> Tensor:
        """Distinct items of the batch at random, at most ``_MAX_ITEMS``, ``[K]``."""
        distinct = torch.unique(self.item_seq[self.item_seq > 0])
        return distinct[torch.randperm(len(distinct), device=distinct.device)[:_MAX_ITEMS]]


class Objective(nn.Module):
    """The base of self-supervised objectives.

    Example:
        >>> class Shrinkage(Objective):
        ...     @classmethod
        ...     def from_settings(cls, settings, item_encoder, new_item_share):
        ...         return cls()
        ...     def forward(self, batch):
        ...         return batch.seq_output.square().mean()
        >>> Shrinkage()(batch).shape  # OBJECTIVES.register("shrinkage") adds the setting ssl_shrinkage_weight
        torch.Size([])
    """

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float) -> Objective:
        """Build it from the settings that it reads.

        Args:
            settings: of the model.
            item_encoder: the model's.
            new_item_share: of the next items, those that training has no event of, as far as it can tell.
        """
        raise NotImplementedError

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError


#: objectives by name; their weights are the settings ``ssl_<name>_weight``
OBJECTIVES: Registry[type[Objective]] = Registry("SSL objective", OBJECTIVE_WEIGHT)


def interest_at(seq_output: Tensor, point: Tensor) -> Tensor:
    """Interest at one point of each history, ``[B, L, D], [B] -> [B, D]``."""
    return seq_output.gather(1, point[:, None, None].expand(-1, 1, seq_output.shape[2])).squeeze(1)
