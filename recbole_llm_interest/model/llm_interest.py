"""LLMInterest: a sequential recommender that knows what items and users are, and follows interest through time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.model.history_bias import HistoryBias, NeighbourBias, RepeatBias, together, until
from recbole_llm_interest.model.interest_tracker import InterestState, InterestTracker
from recbole_llm_interest.model.item_encoder import ContentFusion
from recbole_llm_interest.model.item_table import ItemTable, parameter_versions
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.negative_sampling import Candidates, NegativeSampler
from recbole_llm_interest.model.ssl.objectives import (
    BackwardReading,
    FeatureAutoencoding,
    FutureContrast,
    Histories,
    MaskedItem,
    ModalityAlignment,
    ViewContrast,
)
from recbole_llm_interest.settings import ModelSettings, read_settings

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

#: items that are represented at once where nothing is learnt from them
_ITEMS_AT_ONCE = 2**16


class LLMInterest(SequentialRecommender):
    r"""Content-aware interest tracking.

    An item's representation :math:`I` fuses its encoded content (text, image, sound) with a learnt ID embedding
    (optional). A user's fused profile :math:`u` sets the first state :math:`h_0` of an LSTM, which reads the history,
    and stands in a gate,

    .. math:: h_t = \mathrm{LSTM}(I_t, h_{t-1}), \qquad z_t = W h_t + g(h_t, u) \odot P u, \qquad
              p(i_{t+1}) = \mathrm{softmax}((\cos(z_t, I) + b_t) / \tau),

    where :math:`b_t` is a learnt bonus for items of the history and for their nearest neighbours by content. It is
    trained at every position of one pass by next-item cross-entropy, beside self-supervised objectives.

    In shapes, B is the batch, L the history's length, D ``embedding_size``, N the items with padding.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)

        self._kept_table: tuple[object, ItemTable] | None = None

        # parameters
        settings = read_settings(ModelSettings, config)
        self.temperature = settings.temperature if settings.score == "cosine" else None
        self.target_horizon = settings.target_horizon
        self.target_decay = settings.target_decay
        self.loss_precision = getattr(torch, settings.loss_precision)
        self.ssl_weights = {
            name.removeprefix("ssl_").removesuffix("_weight"): weight
            for name, weight in dataclasses.asdict(settings).items()
            if name.startswith("ssl_") and name.endswith("_weight") and weight
        }
        self.loss_names = ("next_item", *self.ssl_weights)
        self.NEXT_ITEM_SEQ = dataset.next_item_list_field
        self.TIME_SEQ: dict[str, str] = {name: f"time_{name}{config['LIST_SUFFIX']}" for name in settings.time_features}
        if not dataset.item_content and not settings.use_item_id:
            raise DataError(
                f"the items of {config['dataset']!r} have no content and use_item_id is off: nothing tells them apart; "
                "add content, or set use_item_id=True"
            )

        # items that never occur in training: their IDs would stay random, and as candidates of the loss they could
        # only ever be wrong, which would teach the model to shun whatever is new
        counts = dataset.item_counts
        is_trained = counts > 0
        self.candidates = NegativeSampler(counts, settings.loss_candidates)

        # An ID learnt from a few events knows those by heart, and nothing else: rare items do better by their content,
        # and train the model for new ones, which have nothing else either.
        has_content = torch.zeros_like(is_trained)
        for features in dataset.item_content.values():
            has_content |= features.present
        has_id = is_trained & (~has_content | (counts >= settings.id_min_events))

        # layers
        self.item_fusion = ContentFusion(
            dataset.item_content,
            embedding_size=settings.embedding_size,
            fusion=settings.fusion,
            projection=settings.projection,
            modality_dropout=settings.modality_dropout,
            with_id=has_id if settings.use_item_id else None,
            sparse_id=self.candidates.draws is not None,
            neighbours=settings.content_neighbours if dataset.item_neighbours is None else dataset.item_neighbours,
            neighbour_cache=dataset.neighbour_cache,
        )
        self.user_fusion = None
        if settings.use_user_content and dataset.user_content:
            self.user_fusion = ContentFusion(
                dataset.user_content,
                embedding_size=settings.embedding_size,
                fusion=settings.fusion,
                projection=settings.projection,
                modality_dropout=settings.modality_dropout,
            )
        self.time_embeddings = nn.ModuleDict()
        for name in settings.time_features:
            embedding = nn.Embedding(TIME_FEATURES[name], self.item_fusion.output_size, padding_idx=0)
            nn.init.zeros_(embedding.weight)  # an event is its item until its time proves to matter
            self.time_embeddings[name] = embedding
        self.dropout = nn.Dropout(settings.dropout_prob)
        self.tracker = InterestTracker(
            input_size=self.item_fusion.output_size,
            hidden_size=settings.hidden_size,
            num_layers=settings.num_layers,
            dropout_prob=settings.dropout_prob,
            user_size=self.user_fusion.output_size if self.user_fusion is not None else None,
            encoder=settings.tracker,
            num_heads=settings.num_heads,
            max_length=config["MAX_ITEM_LIST_LENGTH"],
            attention_readout=settings.attention_readout,
            last_item_skip=settings.last_item_skip,
        )
        self.repeat_bias = RepeatBias() if settings.repeat_bias else None
        self.neighbour_bias = None
        if settings.content_neighbours and dataset.item_content:
            count = self.item_fusion.get_buffer("neighbours").shape[2]
            self.neighbour_bias = NeighbourBias(len(dataset.item_content), count)

        # self-supervised losses
        self.objectives = nn.ModuleDict({name: self._objective(name, settings) for name in self.ssl_weights})

    def _objective(self, name: str, settings: ModelSettings) -> nn.Module:
        if name == "future":
            return FutureContrast(settings.ssl_temperature, settings.ssl_horizon)
        if name == "backward":
            return BackwardReading(self.item_fusion.output_size)
        if name == "views":
            return ViewContrast(settings.ssl_temperature, settings.ssl_share, self.item_fusion.output_size)
        if name == "modalities":
            return ModalityAlignment(settings.ssl_temperature)
        if name == "masked_item":
            return MaskedItem(self.temperature, self.item_fusion.output_size)
        return FeatureAutoencoding(self.item_fusion)

    def item_representations(self, ids: Tensor | None = None) -> Tensor:
        """``I`` of items, ``[C]``, of which the first is the padding, or of all items: ``[C, D]``. Padding is zero."""
        if torch.is_grad_enabled():
            self._kept_table = None  # an optimiser's step may follow, and fused ones do not count as writes
            items = self.item_fusion(ids)
            return torch.cat([items.new_zeros(1, items.shape[1]), items[1:]])
        # in blocks: on its way, an item takes several times what it takes in the end
        present = self.item_fusion.get_buffer("present")
        rows = torch.arange(len(present), device=present.device) if ids is None else ids
        items = torch.cat([self.item_fusion(part) for part in torch.split(rows, _ITEMS_AT_ONCE)])
        items[0] = 0.0
        return items

    def initial_state(self, user: Tensor) -> InterestState:
        """The state before the first event of users ``[B]``, from what they are; 0 is a user who is not known."""
        if self.user_fusion is None:
            return self.tracker.neutral_state(len(user))
        return self.tracker.initial_state(self.user_fusion(user))

    def forward(
        self, item_seq: Tensor, state: InterestState, items: Tensor, times: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Interest after each event of histories ``[B, L]``, given ``I`` of all items: ``[B, L, D]``.

        ``times`` is what is known of when the events were, ``[B, L]`` by feature.
        """
        events = F.embedding(item_seq, items)
        for name, values in (times or {}).items():
            events = events + self.time_embeddings[name](values)
        return self.tracker(self.dropout(events), state)

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """The loss parts named in ``loss_names``, scalars; RecBole sums and logs them."""
        item_seq, next_items = interaction[self.ITEM_SEQ], interaction[self.NEXT_ITEM_SEQ]
        user = interaction[self.USER_ID]
        # before there is work to do: how many targets there are is what a GPU is waited for
        targets = next_items.nonzero(as_tuple=True)
        candidates = self.candidates(item_seq, next_items)
        items = self.item_representations(candidates.ids)
        item_seq, next_items = candidates.places[item_seq], candidates.places[next_items]  # C takes the part of N
        interest = self.forward(item_seq, self.initial_state(user), items, self._times(interaction))
        next_item = self._next_item_loss(interest, targets, item_seq, next_items, items, candidates)
        if not self.objectives:
            return (next_item,)
        histories = Histories(
            item_seq,
            interaction[self.ITEM_SEQ_LEN],
            next_items,
            user,
            items,
            candidates,
            interest,
            self.item_fusion,
            lambda item_seq, items: self.forward(item_seq, self.initial_state(user), items),
            lambda interest, item_seq, next_items: self._next_item_loss(
                interest, next_items.nonzero(as_tuple=True), item_seq, next_items, items, candidates
            ),
        )
        weighted = [self.ssl_weights[name] * objective(histories) for name, objective in self.objectives.items()]
        return next_item, *weighted

    def _next_item_loss(
        self,
        interest: Tensor,
        targets: tuple[Tensor, ...],
        item_seq: Tensor,
        next_items: Tensor,
        items: Tensor,
        candidates: Candidates,
    ) -> Tensor:
        """Of the interest after each event, ``[B, L, D]``, where something follows: rows and positions ``[T]``.

        Items are given by their places among the candidates.
        """
        row, position = targets
        # no event is selected twice, so that gradients need not be sorted to be added up, as indexing's are
        interest_there = interest.flatten(0, 1).index_select(0, row * interest.shape[1] + position)
        target, share = self._targets(next_items, row, position)
        repeats = self.repeat_bias(item_seq, row, position) if self.repeat_bias is not None else None
        likes = None
        if self.neighbour_bias is not None:
            neighbours = candidates.places[self._neighbours(candidates.ids[item_seq])]
            likes = self.neighbour_bias(neighbours, row, position)
        return next_item_loss(
            interest_there,
            items,
            target,
            self.temperature,
            together(repeats, likes),
            share,
            candidates.logit_correction,
            self.loss_precision,
        )

    def _targets(self, next_items: Tensor, row: Tensor, position: Tensor) -> tuple[Tensor, Tensor | None]:
        """What follows each event, the next item first, and how much each counts, ``[T, K]`` both.

        Behind a history's end, where nothing counts, the next item stands again. Where the next item alone counts,
        it is given as ``[T]``, and nothing beside it.
        """
        horizon = self.target_horizon
        if horizon == 1:
            return next_items[row, position], None
        following = F.pad(next_items, (0, horizon - 1)).unfold(1, horizon, 1)[row, position]
        share = (following > 0) * self.target_decay ** torch.arange(horizon, device=following.device)
        return following.where(following > 0, following[:, :1]), share / share.sum(dim=1, keepdim=True)

    def _times(self, interaction: Interaction) -> dict[str, Tensor]:
        return {name: interaction[field] for name, field in self.TIME_SEQ.items()}

    def _neighbours(self, item_seq: Tensor) -> Tensor:
        """The nearest neighbours by content of each event's item, ``[B, L] -> [B, L, M, K]``."""
        return self.item_fusion.get_buffer("neighbours")[item_seq].long()

    def history_bias(self, item_seq: Tensor, last: Tensor) -> HistoryBias | None:
        """What histories ``[B, L]`` say of a few items after their events at ``last``, ``[B]``; None for nothing."""
        repeats = likes = None
        if self.repeat_bias is not None:
            repeats = self.repeat_bias.after(until(item_seq, last, item_seq.shape[1]))
        if self.neighbour_bias is not None:
            recent = until(item_seq, last, NeighbourBias.reach)
            likes = self.neighbour_bias.after(self._neighbours(recent))
        return together(repeats, likes)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of one item for each history, ``[B]``."""
        table = self.item_table()
        return table.scores_of(interaction[self.ITEM_ID], *self._last_interest(interaction, table))

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of every item for each history, ``[B, N]``."""
        table = self.item_table()
        return table.scores(*self._last_interest(interaction, table))

    def _last_interest(self, interaction: Interaction, table: ItemTable) -> tuple[Tensor, HistoryBias | None]:
        """Interest after each history's last event, ``[B, D]``, and what the history itself says of a few items."""
        item_seq, last = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN] - 1
        state = self.initial_state(interaction[self.USER_ID])
        interest = self.forward(item_seq, state, table.representations, self._times(interaction))
        return self.gather_indexes(interest, last), self.history_bias(item_seq, last)

    def item_table(self) -> ItemTable:
        """All items, kept in evaluation for as long as nothing changes that they are made of."""
        if self.training or torch.is_grad_enabled():
            return ItemTable.of(self.item_representations(), self.temperature)
        state = self.temperature, parameter_versions(self.item_fusion)
        if self._kept_table is None or self._kept_table[0] != state:
            self._kept_table = state, ItemTable.of(self.item_representations(), self.temperature)
        return self._kept_table[1]

    def train(self, mode: bool = True) -> LLMInterest:
        """Turn training on or off; the item table of evaluation is not kept through training."""
        if mode:
            self._kept_table = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LLMInterest:
        self._kept_table = None  # it would stay on the old device
        return super()._apply(fn, recurse)
