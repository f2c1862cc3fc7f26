"""The events that an adapter may learn from, and those that decide when its training ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.config import Config

from recbole_llm_interest.data.event_histories import own_events
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.errors import DataError

_Items = NDArray[np.int64]


@dataclass(frozen=True)
class AdaptationEvents:
    """Events as rows of ``tokens``; test events are not among them.

    Attributes:
        tokens: items of the interactions; the first is RecBole's padding.
        histories: training events, one array of items for each user, in chronological order.
        validation: pairs of a history and the item that follows it.
        digest: of all training events, those of items without content included.
    """

    tokens: Sequence[str]
    histories: list[_Items]
    validation: list[tuple[_Items, int]]
    digest: str


def read_adaptation_events(config: Config) -> AdaptationEvents:
    """Read a data set, and split it as every model's data are split.

    Args:
        config: RecBole's configuration.

    Raises:
        DataError: the data cannot be read, or no history has two events.
    """
    dataset: Any = HistoryDataset(config)
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    training, validation, _ = dataset.build()
    events = training.training_events()
    first = np.flatnonzero(np.append(True, events.sequences[1:] != events.sequences[:-1]))
    histories = [history for history in np.split(events.items, first[1:]) if len(history) > 1]
    if not histories:
        raise DataError(f"no user of {config['dataset']!r} has two training events: there is nothing to learn from")
    items, rows = validation.event_items.numpy(), validation.inter_feat
    pairs = [
        (items[start:end], int(items[own]))
        for start, end, own in zip(
            rows["history_start"].tolist(), rows["history_end"].tolist(), own_events(rows).tolist(), strict=True
        )
    ]
    return AdaptationEvents(tokens, histories, pairs, events.digest(tokens))
