"""What a peer is given: the events of the training split, histories to score, and embeddings of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction

from recbole_llm_interest.content.event_times import time_unit
from recbole_llm_interest.data.event_histories import HISTORY_END, HISTORY_START, own_events
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.errors import SettingsError


def training_events(dataset: HistoryDataset) -> dict[str, NDArray[np.int64]]:
    """Return the events that models learn from: of each user in their order, the first one included.

    Args:
        dataset: the training part.

    Returns:
        ``users``, ``items`` and ``times`` in seconds, ``[E]`` each. Each history that files list is a user of its own.
    """
    events = dataset.training_events()
    times = np.arange(len(events.items)) if events.times is None else _seconds(events.times, dataset)
    return {"users": events.sequences, "items": events.items, "times": times}


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
    events = torch.cat([events, own[:, None]], dim=1)
    times = dataset.event_times
    known = events if times is None else times[events.clamp(max=len(times) - 1)]
    return {"histories": padded.numpy(), "times": _seconds(known.numpy(), dataset)}


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


def _seconds(times: NDArray[Any], dataset: HistoryDataset) -> NDArray[np.int64]:
    """Return times as whole seconds, of any shape; without a clock, they only say what comes first."""
    unit = None if dataset.event_times is None else time_unit(float(dataset.event_times.min()))
    return (times / (1000 if unit == "ms" else 1)).astype(np.int64)
