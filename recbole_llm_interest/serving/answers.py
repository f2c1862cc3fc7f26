"""What a service is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from recbole_llm_interest.recommender import Explanation, Interest, Recommendations


class EventResult(NamedTuple):
    """What became of one event.

    Attributes:
        is_repeated: whether an event of its key was stored before.
        fault: why it was refused; None if it was not.
    """

    is_repeated: bool = False
    fault: str | None = None


@dataclass(frozen=True)
class ListRequest:
    """Which items are asked for; users with equal ones are answered together.

    Attributes:
        k: number of items.
        candidates: ids of items that may be recommended, or None for all.
        exclude: ids of items that may not.
        exclude_seen: whether items of the history may not.
        min_diversity: least 1 - cosine of any two items.
        context: columns of what is known before the choice, with their values.
    """

    k: int = 10
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    min_diversity: float = 0.0
    context: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class UserList:
    """A user's recommendations.

    Attributes:
        events: number of events that they follow from.
        best: the items.
    """

    events: int
    best: Recommendations


@dataclass(frozen=True)
class Preview:
    """What would be recommended after more events, none of which is stored.

    Attributes:
        events: number of events that it follows from.
        best: the items.
        interests: named groups of items with their weights.
        explanation: of one item's score, if it was asked for.
    """

    events: int
    best: Recommendations
    interests: list[Interest]
    explanation: Explanation | None = None
