"""The trained model over a catalog that changes: events in, queries and scores out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from recbole_llm_interest.content.event_times import time_feature_of
from recbole_llm_interest.model.entity_encoder import ID
from recbole_llm_interest.model.former_names import former_name
from recbole_llm_interest.model.history_bias import Histories
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.item_bias import ItemBias, last_events
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.scoring import paired_logits
from recbole_llm_interest.recommender.catalog import Block, Catalog
from recbole_llm_interest.recommender.event_log import LoggedEvents
from recbole_llm_interest.recommender.neighbourhood import Neighbourhood
from recbole_llm_interest.recommender.search import Query, score_block
from recbole_llm_interest.training.run_metadata import digest


class LiveModel:
    """Reads events and scores items for live states. Callers turn gradients off.

    Args:
        model: trained.
        items: the catalog.
        max_length: ``MAX_ITEM_LIST_LENGTH``, the number of most recent events that attention can see.

    Example:
        >>> live = LiveModel(recommender._trained.model, recommender.items, max_length=6)
        >>> with torch.no_grad():
        ...     query = live.query(state.interest, state.events, state.length)
        ...     live.score(query, row=3).shape
        torch.Size([1])
    """

    def __init__(self, model: LLMInterest, items: Catalog, max_length: int) -> None:
        self.model = model.eval()
        self.items = items
        self.device = items.representations.device
        self._max_length = max_length

    # --- reading events

    def users(self, rows: Sequence[int]) -> Tensor:
        """Representations of users of the data set, ``[B, U]``; 0 is an unknown user, U is 0 without user content."""
        if self.model.user_encoder is None:
            return torch.zeros(len(rows), 0, device=self.device)
        users: Tensor = self.model.user_encoder(torch.tensor(rows, device=self.device))
        return users

    def initial(self, user: Tensor) -> InterestState:
        """The state before the first event, from users' representations ``[B, U]``."""
        if self.model.user_encoder is None:
            return self.model.tracker.neutral_state(len(user))
        return self.model.tracker.initial_state(user)

    def read(
        self, events: LoggedEvents, state: InterestState, before: Tensor | None = None
    ) -> tuple[Tensor, InterestState]:
        """Interest after the last of some events, ``[B, D]``, and the state then.

        Without events, the interest is that after one event of zeros, and the state stays as it is. Training
        has a target there only for contexts, and this predicts first events far better than the first state alone.

        Args:
            events: of the users, ``[B, L]``.
            state: before the events.
            before: timestamp of the event before the first of them, ``[B]``, -inf for none; None if no user has one.
        """
        tracker = self.model.tracker
        if not events.count:
            width = self.items.representations.shape[1]
            return tracker.step(torch.zeros(len(events.items), width, device=self.device), state)[0], state
        inputs = self._inputs(events, before)
        if events.count == 1:
            return tracker.step(inputs[:, 0], state)
        at_most = self._max_length if tracker.encoder.has_attention else None
        interest, state = tracker.read(inputs, state, at_most)
        return interest[:, -1], state

    def _inputs(self, events: LoggedEvents, before: Tensor | None) -> Tensor:
        """What the tracker reads of events, ``[B, L, D]``."""
        times = events.times
        first = torch.full_like(times[:, :1], -torch.inf) if before is None else before[:, None]
        features: dict[str, Tensor] = {}
        for name in self.model.event_encoder.times:
            before_each = torch.cat([first, times[:, :-1]], dim=1)
            feature = time_feature_of(name, times.numpy(), before_each.numpy())
            features[f"time_{name}"] = torch.from_numpy(feature).to(self.device)
        items = self.items.representations[events.items.to(self.device)]
        content = events.content[..., : items.shape[-1]].to(self.device) if self.content_size else None
        return self.model.event_encoder.joined(items, features, content)

    @property
    def content_size(self) -> int:
        """Width W of what is known of an event beside item and time; 0 if the model reads nothing of that."""
        if self.model.event_encoder.side_information is None:
            return 0
        lookup = self.model.history_bias.event_neighbours
        return self.items.representations.shape[1] + (0 if lookup is None else math.prod(lookup.shape))

    # --- scoring items

    def query(self, interest: Tensor, events: LoggedEvents, length: Tensor, excluded: Tensor | None = None) -> Query:
        """The query of users, whose scores are those of the model.

        Args:
            interest: ``[B, D]``.
            events: of their histories, ``[B, L]``, padded behind the end.
            length: of the histories, ``[B]``.
            excluded: rows of excluded items, ``[B, E]``; None for the padding alone.
        """
        rule = self.model.scoring_rule
        bias = rule.scaled(self._bias(interest, events, length))
        if bias is None:
            nothing = torch.zeros(len(interest), 0, device=self.device)
            bias = ItemBias(nothing.long(), nothing)
        if excluded is None:
            excluded = events.items.new_zeros(len(interest), 1)
        expanded = ItemBias(bias.items, bias.bias.expand_as(bias.items))
        return Query(rule.query(interest), expanded, excluded.to(self.device))

    def bias_parts(self, interest: Tensor, events: LoggedEvents, length: Tensor) -> dict[str, ItemBias]:
        """The biases of histories ``[B, L]`` in the units of logits, by what they are on; see ``query``."""
        if not events.count:
            return {}
        parts = self.model.history_bias.parts(self._histories(events), length.to(self.device) - 1, interest)
        rule = self.model.scoring_rule
        return {name: scaled for name, part in parts.items() if (scaled := rule.scaled(part)) is not None}

    def _bias(self, interest: Tensor, events: LoggedEvents, length: Tensor) -> ItemBias | None:
        if not events.count:
            return None
        return self.model.history_bias.after(self._histories(events), length.to(self.device) - 1, interest)

    def _histories(self, events: LoggedEvents) -> Histories:
        rows, lookup = events.items.to(self.device), self.model.history_bias.event_neighbours
        histories = Histories(rows, lambda: self.items.representations[rows], self.items.neighbours)
        if lookup is None:
            return histories
        numbers = events.content[..., self.items.representations.shape[1] :].to(self.device)
        return histories._replace(recent_codes=lambda last, count: lookup.restored(last_events(numbers, last, count)))

    def score(self, query: Query, row: int) -> Tensor:
        """Scores of one item for each user, ``[B]``, whether it is excluded or not."""
        rows = torch.tensor([row], device=self.device)
        return score_block(query.without_exclusions(), Block(rows, self.items.factors(rows).T))[:, 0]

    def paired_scores(self, query: Query, rows: Tensor) -> Tensor:
        """Scores of one item a user, ``[B] -> [B]``, whether it is excluded or not."""
        rows = rows.to(self.device)
        return paired_logits(query.interest, self.items.factors(rows), rows, query.bias)

    def log_of_sum(self, query: Query) -> Tensor:
        """Log of the sum of all items' exponentiated scores, ``[B]``."""
        sums = []
        for part in query.in_parts():
            of_blocks = [score_block(part, block).logsumexp(dim=1) for block in self.items.blocks()]
            sums.append(torch.stack(of_blocks).logsumexp(dim=0))
        return torch.cat(sums)


def neighbourhoods(model: LLMInterest) -> dict[str, Neighbourhood]:
    """The neighbours by content that have a bias, by modality in the model's order."""
    if model.history_bias.neighbour is None:
        return {}
    encoder = model.item_encoder
    neighbours, present = encoder.get_buffer("neighbours"), encoder.get_buffer("present")
    modalities = [name for name in encoder.modalities if name != ID]
    return {
        name: Neighbourhood(encoder.features[name].get_buffer("values"), present[:, column], neighbours[:, column])
        for column, name in enumerate(modalities)
    }


def version(model: LLMInterest, tokens: Iterable[str]) -> str:
    """A hash of what decides a state's meaning: weights, items, and settings that are no weights.

    It is taken under the parameters' former names, so that states of former versions stay valid.
    """
    hashed = hashlib.sha256(digest(tokens).encode())
    settings = (model.scoring_rule.temperature, sorted(model.event_encoder.times), type(model.tracker.encoder))
    hashed.update(repr(settings).encode())
    hashed.update(json.dumps(model.event_codes).encode() if model.event_codes else b"")
    parameters = {former_name(name): values for name, values in model.state_dict().items()}
    for name, values in sorted(parameters.items()):
        hashed.update(name.encode())
        hashed.update(values.detach().cpu().contiguous().view(-1).numpy().data)
    return hashed.hexdigest()
