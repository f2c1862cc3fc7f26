"""The next-item loss within a training step, of any interests in the step's candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.model.history_bias import HistoryBias
from recbole_llm_interest.model.item_bias import at_events
from recbole_llm_interest.model.losses import NextItemLoss
from recbole_llm_interest.model.negative_sampling import Candidates


@dataclass(frozen=True)
class StepLoss:
    """What the next-item loss needs in a training step, besides interests and what followed.

    Attributes:
        loss: the next-item loss.
        history_bias: bias of histories.
        neighbours_of: nearest items by content, ``[...] -> [..., M, K]``.
        candidates: the items of the step.
        items: their representations, ``[C, D]``.
        features: what is known of the batch's events beside their items, ``[B, L]`` by name.

    Example:
        >>> at = batch.pos_items.nonzero(as_tuple=True)
        >>> batch.next_item_loss(batch.seq_output, batch.item_seq, batch.pos_items, at, batch.user).shape
        torch.Size([])
    """

    loss: NextItemLoss
    history_bias: HistoryBias
    neighbours_of: Callable[[Tensor], Tensor]
    candidates: Candidates
    items: Tensor
    features: Mapping[str, Tensor]

    def __call__(
        self,
        seq_output: Tensor,
        item_seq: Tensor,
        pos_items: Tensor,
        at: tuple[Tensor, ...],
        users: Tensor | None,
        others: Tensor | None = None,
    ) -> Tensor:
        """The mean over targets, a scalar.

        Args:
            seq_output: interest after each event, ``[B, L, D]``.
            item_seq: index of each event's item among the candidates, ``[B, L]``.
            pos_items: likewise of the item that follows, ``[B, L]``; 0 for none.
            at: rows and positions of the targets, ``[T]`` each.
            users: of the rows, ``[B]``; None for histories in another than the true order, which have no bias by
                transitions and none by content of events.
            others: likewise of the items that the target is to be chosen from, ``[B, L, S]``, 0 for none; None for all
                candidates.
        """
        row, position = at
        interest, events = at_events(seq_output, row, position), lambda: F.embedding(item_seq, self.items)
        ids = self.candidates.ids[item_seq]
        histories = self.history_bias.histories(ids, events, self.neighbours_of, self.features)
        bias = self.history_bias(histories, row, position, interest, users, self.candidates.index_of)
        if others is not None:
            return self.loss.among(interest, self.items, pos_items[at], others[at], bias)
        return self.loss(interest, self.items, pos_items, (row, position), bias, self.candidates.logit_correction)
