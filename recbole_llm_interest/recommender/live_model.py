"""The trained model over a table of items that changes: events in, what a user is looking for out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.content.event_times import time_feature_of
from recbole_llm_interest.model.fusion import ID
from recbole_llm_interest.model.history_bias import HistoryBias, together, until
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.sequence_encoders import TransformerEncoder
from recbole_llm_interest.recommender.catalog import Block, Catalog
from recbole_llm_interest.recommender.neighbourhood import Neighbourhood
from recbole_llm_interest.recommender.search import Query, score_block
from recbole_llm_interest.training.run_metadata import digest


class LiveModel:
    """What the model computes for live states. Callers turn gradients off.

    Args:
        model: trained.
        items: what it makes of the items.
        max_length: ``MAX_ITEM_LIST_LENGTH``, the events back to which attention reaches.
    """

    def __init__(self, model: LLMInterest, items: Catalog, max_length: int) -> None:
        self.model = model.eval()
        self.items = items
        self.device = items.representations.device
        self._max_length = max_length

    # --- reading events

    def users(self, rows: Sequence[int]) -> Tensor:
        """Who users of the data set are, ``[B, U]``, 0 being nobody known; of no width without users' content."""
        if self.model.user_fusion is None:
            return torch.zeros(len(rows), 0, device=self.device)
        users: Tensor = self.model.user_fusion(torch.tensor(rows, device=self.device))
        return users

    def initial(self, user: Tensor) -> InterestState:
        """The state before the first event, from ``[B, U]``."""
        if self.model.user_fusion is None:
            return self.model.tracker.neutral_state(len(user))
        return self.model.tracker.initial_state(user)

    def read(
        self, rows: Tensor, times: Tensor, state: InterestState, before: Tensor | None = None
    ) -> tuple[Tensor, InterestState]:
        """Interest after the last of some events, ``[B, D]``, and the state then.

        Without events, it is the interest after an event that says nothing, and the state stays as it is: on first
        events it is far better than what the first state alone would say, which training never asks.

        Args:
            rows: the events' items, ``[B, L]``.
            times: when they were, ``[B, L]``; NaN where that is not known.
            state: before them.
            before: time of the event before the first of them, ``[B]``, -inf for none; None where none has any.
        """
        tracker = self.model.tracker
        if not rows.shape[1]:
            width = self.items.representations.shape[1]
            return tracker.step(torch.zeros(len(rows), width, device=self.device), state)[0], state
        first = torch.full_like(times[:, :1], -torch.inf) if before is None else before[:, None]
        events = self.items.representations[rows.to(self.device)]
        for name, embedding in self.model.time_embeddings.items():
            before_each = torch.cat([first, times[:, :-1]], dim=1)
            feature = time_feature_of(name, times.numpy(), before_each.numpy())
            events = events + embedding(torch.from_numpy(feature).to(self.device))
        if events.shape[1] == 1:
            return tracker.step(events[:, 0], state)
        if isinstance(tracker.encoder, TransformerEncoder):
            events = events[:, -self._max_length :]
        interest, state = tracker.read(events, state)
        return interest[:, -1], state

    # --- scoring items

    def query(self, interest: Tensor, rows: Tensor, length: Tensor, excluded: Tensor | None = None) -> Query:
        """What users are looking for, whose scores are the model's.

        Args:
            interest: ``[B, D]``.
            rows: the items of their histories, ``[B, L]``; 0 behind the end.
            length: of those, ``[B]``.
            excluded: rows of items that are out of the question, ``[B, E]``; None for nobody but the padding.
        """
        temperature = self.model.temperature
        bonus = together(*self.bonuses(rows, length).values()) or self._no_bonus(len(rows))
        if temperature is not None:
            interest = F.normalize(interest, dim=-1) / temperature
            bonus = bonus._replace(bonus=bonus.bonus / temperature)
        bonus = bonus._replace(bonus=bonus.bonus.expand_as(bonus.items))
        if excluded is None:
            excluded = rows.new_zeros(len(rows), 1)
        return Query(interest, bonus, excluded.to(self.device))

    def bonuses(self, rows: Tensor, length: Tensor) -> dict[str, HistoryBias]:
        """What histories ``[B, L]`` add to the cosines of a few items: for being in them, and for being like them."""
        if not rows.shape[1]:
            return {}
        items, last = rows.to(self.device), length.to(self.device) - 1
        found = {}
        if self.model.repeat_bias is not None:
            found["had before"] = self.model.repeat_bias.after(until(items, last, items.shape[1]))
        if self.model.neighbour_bias is not None:
            # the neighbours of recent events are looked up, and no others
            recent = until(items, last, min(items.shape[1], self.model.neighbour_bias.reach))
            neighbours = self.items.neighbours(recent.flatten()).long()
            found["like what was chosen"] = self.model.neighbour_bias.after(
                neighbours.view(*recent.shape, *neighbours.shape[1:])
            )
        return found

    def _no_bonus(self, users: int) -> HistoryBias:
        nothing = torch.zeros(0, device=self.device)
        return HistoryBias(nothing.long().expand(users, 0), nothing)

    def score(self, query: Query, row: int) -> Tensor:
        """Scores of one item, ``[B]``, whether it is excluded or not."""
        rows = torch.tensor([row], device=self.device)
        asked = Query(query.interest, query.bonus, query.excluded[:, :0])
        return score_block(asked, Block(rows, self.items.factors(rows).T))[:, 0]

    def log_of_sum(self, query: Query) -> Tensor:
        """Logarithm of the sum of all items' exponentiated scores, ``[B]``."""
        sums = []
        for part in query.in_parts():
            of_blocks = [score_block(part, block).logsumexp(dim=1) for block in self.items.blocks()]
            sums.append(torch.stack(of_blocks).logsumexp(dim=0))
        return torch.cat(sums)


def neighbourhoods(model: LLMInterest) -> dict[str, Neighbourhood]:
    """The neighbours by content that have a say, by modality in the model's order."""
    if model.neighbour_bias is None:
        return {}
    fusion = model.item_fusion
    neighbours, present = fusion.get_buffer("neighbours"), fusion.get_buffer("present")
    modalities = [name for name in fusion.modalities if name != ID]
    return {
        name: Neighbourhood(fusion.features[name].get_buffer("values"), present[:, column], neighbours[:, column])
        for column, name in enumerate(modalities)
    }


def version(model: LLMInterest, tokens: Iterable[str]) -> str:
    """A hash of what decides a state's meaning: weights, items, and settings that are no weights."""
    hashed = hashlib.sha256(digest(tokens).encode())
    hashed.update(repr((model.temperature, sorted(model.time_embeddings), type(model.tracker.encoder))).encode())
    for name, values in sorted(model.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(values.detach().cpu().contiguous().view(-1).numpy().data)
    return hashed.hexdigest()
