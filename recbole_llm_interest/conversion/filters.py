"""Removes events: repeated ones, and those of users and items with few events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.conversion.options import Options
from recbole_llm_interest.conversion.wording import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Removed:
    """What a filter removed.

    Attributes:
        option: the filter, such as ``k_core=5``.
        events: how many events it removed.
        users: how many users have no event any more.
        items: how many items have no event any more.
    """

    option: str
    events: int
    users: int
    items: int

    def __str__(self) -> str:
        """Return it as a line."""
        counts = (counted(self.events, "event"), counted(self.users, "user"), counted(self.items, "item"))
        return f"{self.option} removed {', '.join(counts)}"


def apply_filters(events: pd.DataFrame, options: Options) -> tuple[pd.DataFrame, list[Removed]]:
    """Remove repeated events, then short histories, then what is outside the k-core.

    Args:
        events: with the columns user_id, item_id and timestamp, in the order of time.
        options: ``deduplicate``, ``min_length`` and ``k_core``.

    Returns:
        The events that are kept, in the same order, and what each filter removed.
    """
    removed: list[Removed] = []
    shortest, k = options["min_length"], options["k_core"]
    if options["deduplicate"]:
        kept = ~events.duplicated(["user_id", "item_id", "timestamp"]).to_numpy()
        events = _keep(events, kept, "deduplicate=exact", removed)
    if options["deduplicate"] == "consecutive":
        kept = ~consecutive_repeats(*_codes(events))
        events = _keep(events, kept, "deduplicate=consecutive", removed)
    if shortest:
        events = _keep(events, core(*_codes(events), shortest, 0), f"min_length={shortest}", removed)
    if k:
        events = _keep(events, core(*_codes(events), max(k, shortest), k), f"k_core={k}", removed)
    return events, removed


def consecutive_repeats(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each event has the item of the same user's previous event.

    Args:
        users: ``[E]``, in the order of time.
        items: ``[E]``.

    Returns:
        ``[E]``.

    Example:
        >>> import numpy as np
        >>> consecutive_repeats(np.array([0, 1, 0, 0]), np.array([5, 5, 5, 6])).tolist()
        [False, False, True, False]
    """
    order = np.argsort(users, kind="stable")
    is_repeat = np.zeros(len(users), dtype=bool)
    same = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0)
    is_repeat[order[1:]] = same
    return is_repeat


def core(
    users: NDArray[np.int64], items: NDArray[np.int64], events_of_user: int, events_of_item: int
) -> NDArray[np.bool_]:
    """Return the largest set of events in which every user and every item has at least so many.

    Args:
        users: ``[E]``, numbers from 0.
        items: ``[E]``, numbers from 0.
        events_of_user: the least number of events of a user.
        events_of_item: the least number of events of an item.

    Returns:
        Whether each event is kept, ``[E]``.

    Example:
        >>> import numpy as np
        >>> core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2, 2).tolist()
        [True, True, True, True, False]
    """
    kept = np.arange(len(users))
    while True:
        enough = np.bincount(users[kept])[users[kept]] >= events_of_user
        enough &= np.bincount(items[kept])[items[kept]] >= events_of_item
        if enough.all():
            return np.isin(np.arange(len(users)), kept)
        kept = kept[enough]


def _codes(events: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    users, items = (events[name].cat.codes.to_numpy(dtype=np.int64) for name in ("user_id", "item_id"))
    return users, items


def _keep(events: pd.DataFrame, is_kept: NDArray[np.bool_], option: str, removed: list[Removed]) -> pd.DataFrame:
    kept = events[is_kept]
    users, items = (events[name].nunique() - kept[name].nunique() for name in ("user_id", "item_id"))
    removed.append(Removed(option, int((~is_kept).sum()), users, items))
    return kept
