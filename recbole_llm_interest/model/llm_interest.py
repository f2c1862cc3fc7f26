"""LLMInterest: a content-aware sequential recommender that tracks interest through time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm_interest.model.build import build_parts
from recbole_llm_interest.model.event_encoder import event_codes, shown_items
from recbole_llm_interest.model.former_names import rename_parameters
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.losses import NextItemLoss
from recbole_llm_interest.model.scoring import ItemTable, ItemTableCache, ScoringRule
from recbole_llm_interest.model.ssl.objectives import TrainingBatch
from recbole_llm_interest.model.step_loss import StepLoss
from recbole_llm_interest.settings import ModelSettings, read_settings, ssl_weights


class LLMInterest(SequentialRecommender):
    r"""Content-aware interest tracking.

    An item's representation :math:`I` fuses its encoded content (text, image, sound) with a learned ID embedding. A
    user's fused profile :math:`u` sets the first state :math:`h_0` of an LSTM and is gated into the interest:

    .. math:: h_t = \mathrm{LSTM}(I_t, h_{t-1}), \qquad z_t = W h_t + g(h_t, u) \odot P u, \qquad
              p(i_{t+1}) = \mathrm{softmax}((\cos(z_t, I) + b_t) / \tau),

    where :math:`b_t` is a learned bias on the history's items, on their neighbours by content and by transitions, and
    on neighbours of its events by their own content. The loss is next-item cross-entropy at every position of one pass,
    plus weighted self-supervised objectives.

    Shapes: B batch, L length of a history, D ``embedding_size``, N items with padding, C candidates of a step.

    Example:
        >>> model = LLMInterest(config, dataset).eval()  # as RecBole builds it
        >>> model.full_sort_predict(interaction).shape  # scores of every item for each history
        torch.Size([3, 9])
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # parameters
        settings = read_settings(ModelSettings, config)
        self.ssl_weights = ssl_weights(config)
        self.loss_names = ("next_item", *self.ssl_weights)
        self.scoring_rule = ScoringRule.from_settings(settings)
        self.NEXT_ITEM_SEQ = f"next_{self.ITEM_SEQ}"
        self.LIST_SUFFIX = config["LIST_SUFFIX"]

        # layers
        parts = build_parts(settings, dataset, self.max_seq_length, self.ssl_weights)
        self.item_encoder = parts.item_encoder
        self.user_encoder = parts.user_encoder
        self.event_encoder = parts.event_encoder
        self.context = parts.context
        self.event_codes = event_codes(parts.event_encoder.side_information, parts.context.side_information)
        self.other_parameter_name = ["event_codes"] if self.event_codes else []  # which RecBole saves
        self.dropout = nn.Dropout(settings.dropout_prob)
        self.tracker = parts.tracker
        self.history_bias = parts.history_bias
        self.item_table_cache = ItemTableCache()

        # losses
        self.negative_sampler = parts.negative_sampler
        self.loss = NextItemLoss.from_settings(settings)
        self.objectives = parts.objectives
        self.register_load_state_dict_pre_hook(rename_parameters)  # checkpoints of former versions

    def initial_state(self, user: Tensor) -> InterestState:
        """The state of users ``[B]`` before the first event, from their profiles; 0 is an unknown user."""
        if self.user_encoder is None:
            return self.tracker.neutral_state(len(user))
        return self.tracker.initial_state(self.user_encoder(user))

    def forward(
        self, item_seq: Tensor, state: InterestState, items: Tensor, features: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Interest after each event of ``item_seq``, ``[B, L] -> [B, L, D]``, padded behind the end with 0.

        ``items`` are the representations of all items, ``[N, D]``, and ``features`` what is known of the events beside
        them, ``[B, L]`` by name.
        """
        events = self.event_encoder(F.embedding(item_seq, items), features or {})
        return self.tracker(self.dropout(events), state)

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """The parts of the loss named in ``loss_names``, scalars ``[]``; RecBole sums and logs them."""
        item_seq, pos_items = interaction[self.ITEM_SEQ], interaction[self.NEXT_ITEM_SEQ]
        user, features = interaction[self.USER_ID], self.event_encoder.of_batch(interaction, self.LIST_SUFFIX)
        at = pos_items.nonzero(as_tuple=True)  # first of all: a GPU has to be waited for to know the number of targets
        candidates = self.negative_sampler(item_seq, pos_items, *shown_items(interaction))
        self.item_table_cache.clear()
        items = self.item_encoder.table(candidates.ids)
        item_seq, pos_items = candidates.index_of[item_seq], candidates.index_of[pos_items]  # from N to C
        seq_output = self.forward(item_seq, self.initial_state(user), items, features)
        in_context = self.context(seq_output, interaction, "next_{}" + self.LIST_SUFFIX)

        neighbours_of = self.item_encoder.neighbours_of
        next_item_loss = StepLoss(self.loss, self.history_bias, neighbours_of, candidates, items, features)
        loss = self.loss.weight * next_item_loss(in_context, item_seq, pos_items, at, user)
        if not self.objectives:
            return (loss,)
        batch = TrainingBatch(
            *(item_seq, interaction[self.ITEM_SEQ_LEN], pos_items, user, items, candidates),
            *(seq_output, self.item_encoder, in_context, interaction),
            track=lambda item_seq, user, items: self.forward(item_seq, self.initial_state(user), items),
            next_item_loss=next_item_loss,
        )
        return loss, *(self.ssl_weights[name] * objective(batch) for name, objective in self.objectives.items())

    def predict(self, interaction: Interaction) -> Tensor:
        """Score of one item for each history, ``[B]``."""
        table = self.item_table()
        return table.scores_of(interaction[self.ITEM_ID], *self._last_interest(interaction, table))

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of every item for each history, ``[B, N]``."""
        table = self.item_table()
        return table.scores(*self._last_interest(interaction, table))

    def _last_interest(self, interaction: Interaction, table: ItemTable) -> tuple[Tensor, ItemBias | None]:
        """Interest after each history's last event, ``[B, D]``, and the history's bias."""
        item_seq, last = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN] - 1
        user, features = interaction[self.USER_ID], self.event_encoder.of_batch(interaction, self.LIST_SUFFIX)
        seq_output = self.forward(item_seq, self.initial_state(user), table.representations, features)
        interest = self.context(self.gather_indexes(seq_output, last), interaction)
        histories = self.history_bias.histories(
            item_seq,
            lambda: F.embedding(item_seq, table.representations),
            self.item_encoder.neighbours_of,
            features,
        )
        return interest, self.history_bias.after(histories, last, interest)

    def item_table(self) -> ItemTable:
        """All items, ready to be scored; cached in evaluation while nothing that it is computed from changes."""
        if self.training or torch.is_grad_enabled():
            return ItemTable.of(self.item_encoder.table(), self.scoring_rule)
        return self.item_table_cache.get(self.item_encoder, self.scoring_rule)
