"""What a peer is given: the events of the training split, histories to score, and embeddings of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_times import time_unit
from recbole_llm_interest.data.event_histories import HISTORY_END, HISTORY_START, own_events
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.errors import SettingsError


def training_events(dataset: HistoryDataset) -> dict[str, NDArray[np.int64]]:
    """Return the events that models learn from: of each user in their order, the first one included.

    Args:
        dataset: the training part.

    Returns:
        ``users``, ``items`` and ``times`` in seconds, ``[E]`` each.
    """
    users, targets = dataset.training_targets()
    user_of = torch.full((int(targets.max()) + 1,), -1)
    user_of[targets - 1] = users  # what a target follows is an event of the same user
    user_of[targets] = users
    events = (user_of >= 0).nonzero().squeeze(1)
    items = dataset.histories(events, events + 1)[dataset.item_list_field][:, 0]
    order = user_of[events].argsort(stable=True)
    arrays = {"users": user_of[events], "items": items, "times": _seconds(dataset, events)}
    return {name: values[order].numpy() for name, values in arrays.items()}


def has_clock(dataset: HistoryDataset) -> bool:
    """Return whether times are seconds or milliseconds since 1970, not positions."""
    return dataset.event_times is not None and time_unit(float(dataset.event_times.min())) is not None


def histories(dataset: HistoryDataset, batch: Interaction, length: int) -> dict[str, NDArray[np.int64]]:
    """Return what a peer scores.

    Args:
        dataset: any part of the split data.
        batch: rows of one of the parts.
        length: the most events of a history.

    Returns:
        ``histories``, the items ``[B, length]``, padded with 0, and ``times``, their seconds and the row's own,
        ``[B, length + 1]``.
    """
    end, own = batch[HISTORY_END].cpu(), own_events(batch).cpu()
    start = torch.maximum(batch[HISTORY_START].cpu(), end - length)
    items = dataset.histories(start, end)[dataset.item_list_field]
    padded = torch.zeros(len(end), length, dtype=torch.long)
    padded[:, : items.shape[1]] = items
    events = torch.minimum(start[:, None] + torch.arange(length), end[:, None])
    return {
        "histories": padded.numpy(),
        "times": torch.cat([_seconds(dataset, events), _seconds(dataset, own)[:, None]], dim=1).numpy(),
    }


def item_embeddings(dataset: Any) -> NDArray[np.float32]:
    """Return the features of all items, ``[N, D]``, modalities side by side, before any conditioning.

    Args:
        dataset: with the content of items.

    Raises:
        SettingsError: there is none.
    """
    parts = [features.values.float() for features in dataset.item_content.values()]
    if not parts:
        raise SettingsError("rectools:UniSRec learns from the content of items: set modalities, such as [text]")
    embeddings: NDArray[np.float32] = torch.cat(parts, dim=1).numpy()
    return embeddings


def _seconds(dataset: HistoryDataset, events: Tensor) -> Tensor:
    """Return the times of events of the table in seconds, of any shape; their positions without a clock."""
    times = dataset.event_times
    if times is None or not has_clock(dataset):
        return events
    scale = 1000 if time_unit(float(times.min())) == "ms" else 1
    return (times[events.clamp(max=len(times) - 1)] / scale).long()
