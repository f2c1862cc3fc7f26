"""Feeds whole histories to training, so that one pass learns from every position of each.

RecBole turns a history of n events into n - 1 training rows and encodes an event up to L times. A causal tracker
needs each event once: the same targets at 1 / L of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.errors import SettingsError

#: batches whose windows are sorted by length together: enough to save padding, few enough to keep batches mixed
_BATCHES_A_POOL = 16


class HistoryDataLoader(AbstractDataLoader):
    """Batches of history windows with about ``train_batch_size`` targets each, which is what RecBole counts too.

    A batch holds ``user_id`` ``[B]``, ``item_id_list`` ``[B, L]``, ``item_length`` ``[B]`` and, in
    ``next_item_id_list`` ``[B, L]``, the item that follows each position (0 behind the end).

    A history longer than ``MAX_ITEM_LIST_LENGTH`` is cut into windows from its end, so that the newest targets see
    the longest context; every target is in exactly one window.
    """

    def __init__(self, config: Config, dataset: LLMInterestDataset, sampler: Any, shuffle: bool = False) -> None:
        self.user, self.start, self.end = cut_windows(
            dataset.inter_feat[dataset.uid_field],
            dataset.inter_feat[dataset.HISTORY_END],
            config["MAX_ITEM_LIST_LENGTH"],
        )
        if config["train_batch_size"] < 1:
            raise SettingsError(f"train_batch_size={config['train_batch_size']}: a batch needs at least one target")
        # A window is never split, so a batch has room for the longest.
        self.targets_a_batch = max(config["train_batch_size"], config["MAX_ITEM_LIST_LENGTH"])
        # RecBole's loader draws single rows; ours draws whole batches, planned anew for each epoch.
        self.sample_size = -(-int((self.end - self.start).sum()) // self.targets_a_batch)
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def _init_batch_size_and_step(self) -> None:
        self.step = 1
        self.set_batch_size(self.targets_a_batch)

    def __iter__(self) -> Iterator[Interaction]:
        self._batches = self._plan_epoch()
        return super().__iter__()

    def _plan_epoch(self) -> list[Tensor]:
        """Indices of the windows of each batch: shuffled, and of like length within a pool of batches."""
        length = self.end - self.start
        order = torch.arange(len(length))
        if self.shuffle:
            order = torch.randperm(len(length), generator=self.generator)
            pool = (length[order].cumsum(0) - 1) // (_BATCHES_A_POOL * self.targets_a_batch)
            order = order[(pool * (length.max() + 1) + length[order]).argsort(stable=True)]
        # A batch is what ends within its share of the targets: their number does not depend on the order, and none
        # is empty.
        batch = (length[order].cumsum(0) - 1) // self.targets_a_batch
        return list(torch.split(order, batch.bincount(minlength=self.sample_size).tolist()))

    def collate_fn(self, index: list[int]) -> Interaction:
        windows = self._batches[index[0]]
        start, end = self.start[windows], self.end[windows]
        batch = self._dataset.histories(start, end)
        next_items = self._dataset.histories(start + 1, end + 1)
        batch[self._dataset.uid_field] = self.user[windows]
        batch[self._dataset.next_item_list_field] = next_items[self._dataset.item_list_field]
        return self.transform(self._dataset, batch)

    def targets(self, batch: Interaction) -> Tensor:
        """How many targets each row of a batch holds, ``[B]``."""
        return batch[self._dataset.item_list_length_field]


def cut_windows(user: Tensor, target: Tensor, max_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut training targets into windows of one user's successive events.

    Args:
        user: the user of each target, ``[T]``.
        target: the target's place in the event table, ``[T]``; the event before it belongs to the same user.
        max_length: targets a window at most.

    Returns:
        user, start and end of each window, ``[W]`` each: the inputs are the events from start up to and without
        end, the targets those one further.
    """
    order = torch.argsort(target)
    user, target = user[order], target[order]
    breaks = torch.ones(len(target) + 1, dtype=torch.bool)
    breaks[1:-1] = (user[1:] != user[:-1]) | (target[1:] != target[:-1] + 1)
    edges = breaks.nonzero().squeeze(1)
    first, last = edges[:-1], edges[1:]
    windows = -(-(last - first) // max_length)
    run = torch.repeat_interleave(torch.arange(len(windows)), windows)
    before_end = torch.arange(len(run)) - torch.repeat_interleave(windows.cumsum(0) - windows, windows)
    end = last[run] - before_end * max_length
    start = torch.maximum(first[run], end - max_length)
    return user[start], target[start] - 1, target[end - 1]
