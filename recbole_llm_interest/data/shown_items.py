"""The items that were shown beside chosen ones, as rows of a data set's items."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from recbole_llm_interest.content.event_catalogue import EventKey

_logger = logging.getLogger(__name__)

#: shown items that an event keeps, drawn at random: a batch holds as many for each target
_MOST = 64


def shown_rows(
    keys: Sequence[EventKey], shown: Mapping[EventKey, Sequence[str]], row_of: Mapping[str, int], seed: int
) -> Tensor:
    """Return the items shown beside each event's own, without it, ``[E, S]``, padded with 0.

    Items that the data set lacks are counted in the log: no event chose them, and ``load_col`` loads no ``.item`` file
    that names them.

    Args:
        keys: of the events.
        shown: ids by event.
        row_of: rows of the data set's items by their ids.
        seed: of the draw.

    Example:
        >>> shown_rows([EventKey("u", "i", 1.0)], {EventKey("u", "i", 1.0): ["i", "j", "k"]}, {"i": 1, "j": 2}, 0)
        tensor([[2]])
    """
    random = np.random.default_rng(seed)
    of_events: dict[int, list[int]] = {}
    unknown = 0
    for place, key in enumerate(keys):
        others = [item for item in dict.fromkeys(shown.get(key, ())) if item != key.item]
        rows = [row_of[item] for item in others if item in row_of]
        unknown += len(others) - len(rows)
        if rows:
            of_events[place] = random.permutation(rows)[:_MOST].tolist()
    if unknown:
        advice = "no event chose them, and load_col loads no 'item' file that names them"
        _logger.warning("%d shown items are left out: %s", unknown, advice)
    found = torch.zeros(len(keys), max(map(len, of_events.values()), default=0), dtype=torch.long)
    for place, rows in of_events.items():
        found[place, : len(rows)] = torch.tensor(rows)
    return found
