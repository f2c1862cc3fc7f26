"""Builds the parts of the model from its settings and from tables of content: no data set is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.content.event_inputs import NO_INPUTS, EventInputs
from recbole_llm_interest.content.event_neighbours import EventNeighbours
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.content.transitions import Transitions
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.event_encoder import ContextEncoder, EventEncoder, SideInformationEncoder
from recbole_llm_interest.model.event_neighbours import EventNeighbourLookup
from recbole_llm_interest.model.history_bias import HistoryBias
from recbole_llm_interest.model.interest_tracker import InterestTracker
from recbole_llm_interest.model.negative_sampling import NegativeSampler
from recbole_llm_interest.model.neighbour_bias import NeighbourBias
from recbole_llm_interest.model.repeat_bias import RepeatBias
from recbole_llm_interest.model.shared_content import SharedContent
from recbole_llm_interest.model.ssl.objectives import OBJECTIVES
from recbole_llm_interest.settings import ModelSettings


class ContentTables(Protocol):
    """What a model knows of its N items and its users: a data set has it, and so has ``SavedTables``.

    Example:
        >>> import torch
        >>> tables: ContentTables = SavedTables({}, {}, torch.tensor([0, 3, 1]))
        >>> tables.item_content, tables.item_neighbours
        ({}, None)
    """

    @property
    def item_content(self) -> Content:
        """Features of the items by modality, ``[N, D]`` each."""
        ...

    @property
    def user_content(self) -> Content:
        """Features of the users by modality; empty without user content."""
        ...

    @property
    def event_inputs(self) -> EventInputs:
        """What is known of events beside their items."""
        ...

    @property
    def context_inputs(self) -> EventInputs:
        """The part of it that was known before the items were chosen."""
        ...

    @property
    def item_counts(self) -> Tensor:
        """Training events of each item, ``[N]``."""
        ...

    @property
    def item_shown(self) -> Tensor:
        """Times that each item was shown and not chosen in training, ``[N]``."""
        ...

    @property
    def item_neighbours(self) -> Tensor | None:
        """The items' nearest neighbours, ``[N, M, K]``; None if they are to be searched for."""
        ...

    @property
    def item_transitions(self) -> Transitions | None:
        """The items' neighbours by transitions; None without ``transition_neighbours``."""
        ...

    @property
    def event_neighbours(self) -> EventNeighbours | None:
        """Neighbours of events by their content; None without such content, or without ``event_neighbours``."""
        ...

    @property
    def neighbour_cache(self) -> Path | None:
        """Folder in which neighbours are cached; None for no cache."""
        ...


@dataclass(frozen=True)
class SavedTables:
    """Tables that are there already, as in the folder of a pretrained model; see ``ContentTables``.

    Example:
        >>> import torch
        >>> SavedTables({}, {}, torch.tensor([0, 3, 1])).num("item_id")  # two items and the padding
        3
    """

    item_content: Content
    user_content: Content
    item_counts: Tensor
    item_neighbours: Tensor | None = None
    item_transitions: Transitions | None = None
    event_neighbours: EventNeighbours | None = None
    neighbour_cache: Path | None = None
    event_inputs: EventInputs = NO_INPUTS
    context_inputs: EventInputs = NO_INPUTS

    @property
    def item_shown(self) -> Tensor:
        """None was shown, ``[N]``."""
        return torch.zeros_like(self.item_counts)

    def num(self, _: str) -> int:
        """Number of items with the padding, N, which RecBole's constructor asks for."""
        return len(self.item_counts)


@dataclass(frozen=True)
class Parts:
    """The parts of the model, in the order in which they are built and initialised.

    Example:
        >>> import torch
        >>> tables = SavedTables({}, {}, torch.tensor([0, 3, 1]))
        >>> parts = build_parts(ModelSettings(hidden_size=8), tables, max_length=5, ssl_weights={"future": 0.1})
        >>> parts.item_encoder.modalities, parts.user_encoder, list(parts.objectives)
        (['id'], None, ['future'])
    """

    negative_sampler: NegativeSampler
    item_encoder: EntityEncoder
    user_encoder: EntityEncoder | None
    event_encoder: EventEncoder
    context: ContextEncoder
    tracker: InterestTracker
    history_bias: HistoryBias
    objectives: nn.ModuleDict


def build_parts(
    settings: ModelSettings, tables: ContentTables, max_length: int, ssl_weights: Mapping[str, float]
) -> Parts:
    """Build the parts of a model.

    Args:
        settings: of the model.
        tables: its items and users.
        max_length: ``MAX_ITEM_LIST_LENGTH``, the number of most recent events that attention can see.
        ssl_weights: weight of each self-supervised objective that is used, by its name.

    Raises:
        DataError: items have neither content nor IDs.
        SettingsError: a setting names a fusion, tracker or objective that is not registered.
    """
    if not tables.item_content and not settings.use_item_id:
        raise DataError("the items have no content and use_item_id is off: add content, or set use_item_id=True")
    in_training = torch.maximum(tables.item_counts, tables.item_shown.sign())  # to be shown is to be learned of
    negative_sampler = NegativeSampler(in_training, settings.loss_candidates)
    item_encoder = _item_encoder(settings, tables, sparse_id=negative_sampler.draws is not None)
    user_encoder = _content_encoder(settings, tables.user_content if settings.use_user_content else {})
    size = item_encoder.output_size
    event_terms = _side_information(settings, "event", tables.event_inputs, item_encoder)
    event_encoder = EventEncoder(size, settings.time_features, event_terms)
    context = ContextEncoder(_side_information(settings, "context", tables.context_inputs, item_encoder))
    tracker = _tracker(settings, size, None if user_encoder is None else user_encoder.output_size, max_length)
    history_bias = _history_bias(settings, item_encoder, tables)
    share = new_item_share(tables.item_counts)
    objectives = nn.ModuleDict(
        {name: OBJECTIVES[name].from_settings(settings, item_encoder, share) for name in ssl_weights}
    )
    return Parts(
        negative_sampler, item_encoder, user_encoder, event_encoder, context, tracker, history_bias, objectives
    )


def _item_encoder(settings: ModelSettings, tables: ContentTables, *, sparse_id: bool) -> EntityEncoder:
    content, neighbours = tables.item_content, tables.item_neighbours
    return EntityEncoder(
        content,
        embedding_size=settings.embedding_size,
        fusion=settings.fusion,
        projection=settings.projection,
        modality_dropout=settings.modality_dropout,
        with_id=_items_with_id(settings, tables) if settings.use_item_id else None,
        sparse_id=sparse_id,
        id_init_std=settings.id_init_std,
        neighbours=settings.content_neighbours if neighbours is None else neighbours,
        neighbour_cache=tables.neighbour_cache,
    )


def _items_with_id(settings: ModelSettings, tables: ContentTables) -> Tensor:
    """Items with an ID embedding, ``[N]``: those without content, and those with enough training events.

    The ID of an item that training never sees would stay random. That of a rare item would overfit to its few events:
    rare items do better by content alone, and so teach the model to score cold-start items.
    """
    has_content = torch.zeros_like(tables.item_counts, dtype=torch.bool)
    for features in tables.item_content.values():
        has_content |= features.present
    events = tables.item_counts + tables.item_shown
    return (events > 0) & (~has_content | (events >= settings.id_min_events))


def _content_encoder(settings: ModelSettings, content: Content) -> EntityEncoder | None:
    """Encoder of users, or of events' contents; None if there is no content."""
    if not content:
        return None
    return EntityEncoder(
        content,
        embedding_size=settings.embedding_size,
        fusion=settings.fusion,
        projection=settings.projection,
        modality_dropout=settings.modality_dropout,
    )


def _side_information(
    settings: ModelSettings, kind: EventKind, inputs: EventInputs, items: EntityEncoder
) -> SideInformationEncoder | None:
    """The encoder of side information; content is encoded as items are, so that a query is near what it names."""
    if not inputs:
        return None
    content: EntityEncoder | SharedContent | None
    if SharedContent.is_possible(inputs.content, items):
        content = SharedContent(inputs.content, items)
    else:
        content = _content_encoder(settings, inputs.content)
    return SideInformationEncoder(kind, items.output_size, content, inputs.fields)


def _tracker(settings: ModelSettings, size: int, user_size: int | None, max_length: int) -> InterestTracker:
    return InterestTracker(
        input_size=size,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        dropout_prob=settings.dropout_prob,
        user_size=user_size,
        encoder=settings.tracker,
        num_heads=settings.num_heads,
        block_dropout_prob=settings.block_dropout_prob,
        max_length=max_length,
        attention_readout=settings.attention_readout,
        last_item_skip=settings.last_item_skip,
        event_window=settings.event_window,
    )


def _history_bias(settings: ModelSettings, item_encoder: EntityEncoder, tables: ContentTables) -> HistoryBias:
    repeat = None
    if settings.repeat_bias:
        repeat = RepeatBias(item_encoder.output_size if settings.repeat_context else None)
    neighbour = None
    if settings.content_neighbours and len(item_encoder.features):
        neighbours = item_encoder.get_buffer("neighbours")
        neighbour = NeighbourBias(len(item_encoder.features), neighbours.shape[2])
    of_events = tables.event_neighbours
    lookup = None if of_events is None else EventNeighbourLookup(of_events)
    return HistoryBias(repeat, neighbour, tables.item_transitions, lookup)


def new_item_share(item_counts: Tensor) -> float:
    """How often the next item is expected to be one without a training event, by the training events ``[N]``.

    The share of events whose item has no other: Good and Turing's estimate (Good, Biometrika 1953).

    Example:
        >>> new_item_share(torch.tensor([0, 1, 1, 6, 0]))
        0.25
    """
    return float((item_counts == 1).sum() / item_counts.sum().clamp(min=1))
