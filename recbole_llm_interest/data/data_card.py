"""The data card: size and shape of a data set, by name, as it is in each result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_llm_interest.data.clock import clock_of

Card = dict[str, str | int | float | None]


def record_data_cards() -> None:
    """Make every RecBole data set describe its events when it reads them; called once, at registration.

    At that moment the events are filtered, and their times are not yet scaled and rounded to float32.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._normalize

    def _normalize(self: Any) -> None:
        events = self.inter_feat
        times = events[self.time_field].to_numpy(np.float64) if self.time_field in events else None
        self.data_card = describe_events(events[self.uid_field].to_numpy(), events[self.iid_field].to_numpy(), times)
        original(self)

    Dataset._normalize = _normalize


def data_card(dataset: Any) -> Card:
    """Return the card of a RecBole data set; empty for one that was saved by an earlier version."""
    return dict(getattr(dataset, "data_card", {}))


def describe_events(users: NDArray[Any], items: NDArray[Any], times: NDArray[np.float64] | None) -> Card:
    """Describe the events of a data set.

    Args:
        users: of the events, ``[E]``.
        items: of the events, ``[E]``.
        times: of the events, ``[E]``; None if they are unknown.

    Returns:
        ``users`` and ``items`` that have events; ``events``; ``density``, events for each user and item; the
        ``median_length`` of users' histories; ``repeats``, the share of events whose user had the item before;
        ``clock``, of ``clock_of``; and ``ties``, the share of events at the same time as the same
        user's previous one, None without a clock.

    Example:
        >>> times = 1.2e9 + np.array([0.0, 0.0, 180.0, 240.0])
        >>> card = describe_events(np.array([1, 1, 1, 2]), np.array([5, 6, 5, 5]), times)
        >>> card["density"], card["repeats"], card["clock"], card["ties"]
        (1.0, 0.25, 'minutes', 0.25)
    """
    events = pd.DataFrame({"user": users, "item": items})
    lengths = events["user"].value_counts()
    count, user_count, item_count = len(events), len(lengths), events["item"].nunique()
    clock, ties = "none", None
    if times is not None and count:
        events = events.assign(time=times).sort_values(["user", "time"], kind="stable")
        clock = clock_of(events["time"].to_numpy(), events["user"].to_numpy())
        ties = float(events.duplicated(["user", "time"]).mean())
    return {
        "users": user_count,
        "items": item_count,
        "events": count,
        "density": count / max(user_count * item_count, 1),
        "median_length": float(lengths.median()) if count else 0.0,
        "repeats": float(events.duplicated(["user", "item"]).mean()) if count else 0.0,
        "clock": clock,
        "ties": ties,
    }
