"""Why an item scores as it does for a user: what of the item, and what of the user, makes the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.model.fusion import AttentionFusion, GatedSum, LateFusion
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.item_encoder import ContentFusion
from recbole_llm_interest.recommender.live_model import LiveModel
from recbole_llm_interest.recommender.search import Query
from recbole_llm_interest.recommender.user_state import State

#: events that are told apart; older ones are one part
_EVENTS = 50


@dataclass(frozen=True)
class Part:
    """A part of a score.

    Attributes:
        name: what it comes from.
        points: how much of the score that is, or what the score loses without it; may be negative.
        share: of all parts' points, regardless of their sign; the shares of a list sum to one, unless all points are 0.
        time: of an event; None where there is none.
    """

    name: str
    points: float
    share: float
    time: float | None = None


@dataclass(frozen=True)
class Explanation:
    """What makes an item's score.

    Attributes:
        item: its token.
        score: what ``recommend`` gives it.
        of_item: by modality, ID, and what the history adds for having held it or what is like it. What is missing
            (``no image``) counts by the learnt vector in its place.
        is_exact: whether those points sum to the score, as they do for every fusion but ``concat``; there, they are
            what the score loses when the modality is taken away.
        of_user: the profile and the events, by what the score loses without each (leave-one-out), the most influential
            first. The last 50 events are told apart, those before them are one part.
    """

    item: str
    score: float
    of_item: list[Part]
    is_exact: bool
    of_user: list[Part]


#: name, points, time
_Points = tuple[str, float, float | None]


def explain(live: LiveModel, state: State, row: int) -> Explanation:
    """Explain the score of the item in this row of the table for a state of one user."""
    query = live.query(state.interest, state.items, state.length)
    score = float(live.score(query, row))
    of_item, is_exact = _of_item(live, state, query, row)
    of_user = _of_user(live, state, row, score)
    return Explanation(live.items.tokens[row], score, _shares(of_item), is_exact, _shares(of_user))


def _shares(parts: Sequence[_Points]) -> list[Part]:
    total = sum(abs(points) for _, points, _ in parts) or 1.0
    found = [Part(name, points, abs(points) / total, time) for name, points, time in parts]
    return sorted(found, key=lambda part: -part.share)


def _of_item(live: LiveModel, state: State, query: Query, row: int) -> tuple[list[_Points], bool]:
    """Points of each modality and of what the history adds; and whether they sum to the score."""
    fusion, temperature = live.model.item_fusion, live.model.temperature
    added = live.items.added.get(row)
    parts, present = (
        fusion.parts(torch.tensor([row], device=live.device)) if added is None else fusion.parts_of(added.content)
    )
    names = [
        name if there else f"no {name}" for name, there in zip(fusion.modalities, present[0].tolist(), strict=True)
    ]
    vectors = modality_vectors(fusion, parts)
    is_exact = vectors is not None
    if vectors is None:  # what the representation loses, modality by modality
        rest = parts.repeat(len(names), 1, 1)
        each = torch.arange(len(names))
        rest[each, each] = fusion.missing
        whole, changed = fusion.combine(parts)[0], fusion.combine(rest)[0]
        if temperature is not None:
            whole, changed = F.normalize(whole, dim=-1), F.normalize(changed, dim=-1)
        vectors = whole - changed
    elif temperature is not None:
        vectors = vectors / vectors.sum(dim=0).norm()
    found: list[_Points] = [(n, p, None) for n, p in zip(names, (vectors @ query.interest[0]).tolist(), strict=True)]
    for name, bonus in live.bonuses(state.items, state.length).items():
        found.append((name, float(bonus.bonus.where(bonus.items == row, 0.0).sum()) / (temperature or 1.0), None))
    return found, is_exact


def modality_vectors(fusion: ContentFusion, parts: Tensor) -> Tensor | None:
    """Each modality's part of a representation, ``[M, D]``, of which it is the sum; None where it is no sum.

    Args:
        fusion: what made the representation.
        parts: each modality's part before the fusion, ``[1, M, D]``.
    """
    representation, weights = fusion.combine(parts)
    count, size = parts.shape[1:]
    if isinstance(fusion.combine, (GatedSum, AttentionFusion)):
        return (weights[..., None] * parts)[0] * count
    if isinstance(fusion.combine, LateFusion):
        own = torch.eye(count, device=parts.device).repeat_interleave(size, dim=1)
        return own * representation
    return None


def _of_user(live: LiveModel, state: State, row: int, score: float) -> list[_Points]:
    """What the score loses without the profile, without each recent event, and without the older ones."""
    rows, times, user = state.items, state.times, state.tracker.user
    length = rows.shape[1]
    start = live.initial(torch.zeros(1, 0) if user is None else user)
    older = max(length - _EVENTS, 0)
    found: list[_Points] = []
    if user is not None:
        found.append(("profile", score - _replayed(live, rows, times, live.initial(live.users([0])), row)[0], None))
    if older:
        recent = _replayed(live, rows[:, older:], times[:, older:], start, row)[0]
        found.append((f"{older} older events", score - recent, None))
    if length:
        kept = _all_but_one(length, older)
        others = _replayed(live, rows[0, kept], times[0, kept], start, row, older)
        for event, rest in enumerate(others, start=older):
            time = float(times[0, event])
            name = live.items.tokens[int(rows[0, event])]
            found.append((name, score - rest, time if time == time else None))
    return found


def _all_but_one(length: int, first: int) -> Tensor:
    """Places of ``length`` events without one from ``first`` on, ``[length - first, length - 1]``."""
    left_out = torch.arange(first, length)
    kept = torch.arange(length - 1).expand(len(left_out), -1)
    return kept + (kept >= left_out[:, None])


def _replayed(
    live: LiveModel, rows: Tensor, times: Tensor, state: InterestState, row: int, alike: int = 0
) -> list[float]:
    """Scores of an item after other histories, ``[B, L]``, of one user, of which the first ``alike`` events agree."""
    before = None
    if alike:
        _, state = live.read(rows[:1, :alike], times[:1, :alike], state)
        before = times[:, alike - 1]
    count = len(rows)
    state = InterestState(
        state.carried.expand(-1, count, -1).contiguous(),
        state.past.expand(count, -1, -1),
        None if state.user is None else state.user.expand(count, -1),
    )
    interest, _ = live.read(rows[:, alike:], times[:, alike:], state, before)
    query = live.query(interest, rows, torch.full((count,), rows.shape[1]))
    scores: list[float] = live.score(query, row).tolist()
    return scores
