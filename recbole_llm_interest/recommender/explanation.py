"""Explains a score: which parts of the item, of the profile and of the history it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.scoring import ScoringRule, logits
from recbole_llm_interest.recommender.event_log import LoggedEvents
from recbole_llm_interest.recommender.live_model import LiveModel
from recbole_llm_interest.recommender.search import Query
from recbole_llm_interest.recommender.user_state import State

#: events that are explained one by one; older ones are one part
_EVENTS = 50
#: names of the history's biases, by the model's own
BIAS_NAMES = {
    "repeat": "repeat bias",
    "neighbour": "neighbour bias",
    "transition": "transition bias",
    "event": "event content bias",
}


@dataclass(frozen=True)
class Part:
    """A part of a score.

    Attributes:
        name: what it comes from.
        points: its term in the score, or the loss of score without it; may be negative.
        share: its absolute points as a share of those of all parts of its list.
        time: timestamp of an event; None for unknown, and for what is no event.
        title: of an event's item; None where it has none, and for what is no event.

    Example:
        >>> explanation = recommender.explain(state, "i1")
        >>> abs(sum(part.share for part in explanation.of_item) - 1) < 1e-6
        True
    """

    name: str
    points: float
    share: float
    time: float | None = None
    title: str | None = None


@dataclass(frozen=True, repr=False)
class Explanation:
    """The parts of an item's score. A notebook shows them as a table.

    Attributes:
        item: its ID.
        score: as ``recommend`` gives it.
        of_item: by modality, ID, and the history's biases. A missing modality (``no image``) counts by the learned
            vector in its place.
        is_exact: whether these points sum to the score, as they do for every fusion except ``concat``; there, they are
            the loss of score when the modality is dropped.
        of_user: the profile, the context and the events, by the loss of score without each (leave-one-out), the most
            influential first. The last 50 events are single parts, older ones are one. ``content at i3`` is the loss
            if nothing were known of that event but its item and time; states hold no text that could be quoted.

    Example:
        >>> explanation = recommender.explain(state, "i1")
        >>> round(sum(part.points for part in explanation.of_item), 3) == round(explanation.score, 3)
        True
        >>> recommender.explain(recommender.start("u1", history=["i2", "i3"]), "i4").of_user[0].title
        'A film about bread'
    """

    item: str
    score: float
    of_item: list[Part]
    is_exact: bool
    of_user: list[Part]

    @property
    def frame(self) -> pd.DataFrame:
        """A table with the columns of, part, title, points and share.

        Example:
            >>> recommender.explain(state, "i3").frame.columns.tolist()
            ['of', 'part', 'title', 'points', 'share']
        """
        rows = [
            (of, part.name, part.title or "", part.points, part.share)
            for of, parts in (("item", self.of_item), ("user", self.of_user))
            for part in parts
        ]
        return pd.DataFrame(rows, columns=["of", "part", "title", "points", "share"])

    def __repr__(self) -> str:
        largest = [parts[0] for parts in (self.of_item, self.of_user) if parts]
        shown = ", ".join(f"{one_line(part.title or part.name)} {part.share:.2f}" for part in largest)
        return f"Explanation({self.item!r}, score={self.score:.2f}, largest parts: {shown})"

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self.frame.to_html(index=False, float_format="{:.2f}".format))


#: name, points, time, title
_Points = tuple[str, float, float | None, str | None]


def explain(live: LiveModel, state: State, row: int, context: Tensor) -> Explanation:
    """Explain the score of the item in this row of the catalog for a state of one user.

    Args:
        live: the model over the catalog.
        state: of one user.
        row: of the item.
        context: what is known before the choice, as a term of the interest, ``[1, D]``.
    """
    interest = state.interest + context
    query = live.query(interest, state.events, state.length)
    score = float(live.score(query, row))
    of_item, is_exact = _item_parts(live, state, interest, query, row)
    of_user = _user_parts(live, state, row, score, context)
    return Explanation(live.items.tokens[row], score, _with_shares(of_item), is_exact, _with_shares(of_user))


def _with_shares(points: Sequence[_Points]) -> list[Part]:
    total = sum(abs(value) for _, value, *_ in points) or 1.0
    parts = [Part(name, value, abs(value) / total, time, title) for name, value, time, title in points]
    return sorted(parts, key=lambda part: -part.share)


def _item_parts(live: LiveModel, state: State, interest: Tensor, query: Query, row: int) -> tuple[list[_Points], bool]:
    """Points of each modality and of the history's biases; and whether they sum to the score."""
    encoder = live.model.item_encoder
    added = live.items.added.get(row)
    if added is None:
        parts, present = encoder.parts(torch.tensor([row], device=live.device))
    else:
        parts, present = encoder.parts_of(added.content)
    factors, is_exact = _modality_factors(encoder, live.model.scoring_rule, parts)
    values = logits(query.interest, factors)[0].tolist()
    points: list[_Points] = [
        (name if is_present else f"no {name}", value, None, None)
        for name, is_present, value in zip(encoder.modalities, present[0].tolist(), values, strict=True)
    ]
    item = torch.tensor([row], device=live.device)
    for name, bias in live.bias_parts(interest, state.events, state.length).items():
        points.append((BIAS_NAMES[name], float(bias.of(item)), None, None))
    return points, is_exact


def _modality_factors(encoder: EntityEncoder, rule: ScoringRule, parts: Tensor) -> tuple[Tensor, bool]:
    """Each modality's term in an item factor, ``[1, M, D] -> [M, D]``, and whether the factor is their sum.

    If it is not, a term is the difference that the modality makes to the factor.
    """
    terms = encoder.combine.contributions(parts)
    if terms is None:
        dropped = parts.repeat(parts.shape[1], 1, 1)
        each = torch.arange(len(dropped))
        dropped[each, each] = encoder.missing
        return rule.item_factors(encoder.combine(parts)[0]) - rule.item_factors(encoder.combine(dropped)[0]), False
    scale = rule.item_scale(terms.sum(dim=1))
    return (terms[0] if scale is None else terms[0] * scale), True


def _user_parts(live: LiveModel, state: State, row: int, score: float, context: Tensor) -> list[_Points]:
    """The loss of score without the context, the profile, each recent event, and the older events."""
    events, user = state.events, state.tracker.user
    length = events.count
    start = live.initial(torch.zeros(1, 0) if user is None else user)
    older = max(length - _EVENTS, 0)
    points: list[_Points] = []
    if context.any():
        without = live.score(live.query(state.interest, events, state.length), row)
        points.append(("context", score - float(without), None, None))
    if user is not None:
        anonymous = live.initial(live.users([0]))
        points.append(("profile", score - _scores_after(live, events, anonymous, row, context)[0], None, None))
    if older:
        recent = _scores_after(live, events.part(older, length), start, row, context)[0]
        points.append((f"{older} older events", score - recent, None, None))
    if length:
        kept = _leave_one_out(length, older)
        rests = LoggedEvents(events.items[0, kept], events.times[0, kept], events.content[0, kept])
        for event, rest in enumerate(_scores_after(live, rests, start, row, context, older), start=older):
            name, time, title = _event(live, events, event)
            points.append((name, score - rest, time, title))
        told = [event for event in range(older, length) if events.content[0, event].any()]
        for event, silent in zip(told, _scores_without_content(live, events, told, start, row, context), strict=True):
            name, time, _ = _event(live, events, event)
            points.append((f"content at {name}", score - silent, time, None))
    return points


def _event(live: LiveModel, events: LoggedEvents, event: int) -> tuple[str, float | None, str | None]:
    """The item of an event, its time, and the item's title."""
    time = float(events.times[0, event])
    name = live.items.tokens[int(events.items[0, event])]
    return name, time if time == time else None, live.items.labels.get(name)


def _scores_without_content(
    live: LiveModel, events: LoggedEvents, told: Sequence[int], start: InterestState, row: int, context: Tensor
) -> list[float]:
    """Scores of an item if nothing were known of each of some events but item and time."""
    if not told:
        return []
    histories = events.of(torch.zeros(len(told), dtype=torch.long))
    histories.content[torch.arange(len(told)), list(told)] = 0.0  # a copy
    return _scores_after(live, histories, start, row, context, min(told))


def _leave_one_out(length: int, first: int) -> Tensor:
    """Indices of ``length`` events without one from ``first`` on, ``[length - first, length - 1]``."""
    left_out = torch.arange(first, length)
    kept = torch.arange(length - 1).expand(len(left_out), -1)
    return kept + (kept >= left_out[:, None])


def _scores_after(
    live: LiveModel, events: LoggedEvents, state: InterestState, row: int, context: Tensor, common: int = 0
) -> list[float]:
    """Scores of an item after other histories, ``[B, L]``, of one user, whose first ``common`` events are equal."""
    before = None
    if common:
        _, state = live.read(events.part(0, common).of(torch.tensor([0])), state)
        before = events.times[:, common - 1]
    count = len(events.items)
    state = state.select(torch.zeros(count, dtype=torch.long, device=state.carried.device))
    interest, _ = live.read(events.part(common, events.count), state, before)
    query = live.query(interest + context, events, torch.full((count,), events.count))
    scores: list[float] = live.score(query, row).tolist()
    return scores
