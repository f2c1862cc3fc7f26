"""A data loader of whole histories, so that every position of a history is a training target in one pass.

RecBole turns a history of n events into n - 1 training rows and encodes an event up to L times. A causal tracker
encodes each event once: the same targets at 1/L of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_fields import NEXT_SHOWN
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.data.replay import Replay
from recbole_llm_interest.errors import SettingsError

#: windows are sorted by length within so many batches: enough to save padding, few enough to keep batches random
_BATCHES_PER_POOL = 16


class HistoryDataLoader(AbstractDataLoader):
    """Batches of history windows with about ``train_batch_size`` targets each, the unit in which RecBole counts, too.

    A batch holds ``user_id`` ``[B]``, ``item_id_list`` ``[B, L]``, ``item_length`` ``[B]``, and
    ``next_item_id_list`` ``[B, L]``, the item that follows each position, padded with 0; likewise, where
    events have a context, the fields of the next event's.

    A history longer than ``MAX_ITEM_LIST_LENGTH`` is cut into windows from its end, so that the newest targets have the
    longest context. Every target is in exactly one window. A first event that has a context is the target of an empty
    history, which is one event of padding.

    Args:
        config: RecBole's settings.
        dataset: the training data.
        sampler: is not used; it is in RecBole's signature.
        shuffle: whether each epoch has its own order.

    Raises:
        SettingsError: ``train_batch_size`` is less than 1.
    """

    def __init__(self, config: Config, dataset: LLMInterestDataset, sampler: Any, shuffle: bool = False) -> None:
        windows = cut_windows(*dataset.training_targets(), config["MAX_ITEM_LIST_LENGTH"])
        users, events = dataset.first_targets()
        first = (users, events, events)
        self.user, self.start, self.end = (torch.cat(parts) for parts in zip(windows, first, strict=True))
        if config["train_batch_size"] < 1:
            raise SettingsError(f"train_batch_size={config['train_batch_size']}: a batch needs at least one target")
        # a window is never split, so a batch must hold the longest
        self.targets_per_batch = max(config["train_batch_size"], config["MAX_ITEM_LIST_LENGTH"])
        # RecBole's loader draws rows one by one; this one draws whole batches, planned for each epoch
        self._targets = (self.end - self.start).clamp(min=1)
        self._replay = Replay.of_config(config, dataset, self.end, self._targets)
        self.sample_size = -(-self._replay.targets // self.targets_per_batch)
        known = dataset.side_information["context"].features if "context" in dataset.side_information else {}
        self._context_fields = [f"{field}{config['LIST_SUFFIX']}" for field in known]
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def _init_batch_size_and_step(self) -> None:
        self.step = 1
        self.set_batch_size(self.targets_per_batch)

    def __iter__(self) -> Iterator[Interaction]:
        self._batches = self._plan_epoch()
        return super().__iter__()

    def _plan_epoch(self) -> list[Tensor]:
        """Return the windows of each batch, ``[B]``: shuffled, and sorted by length within a pool of batches."""
        length = self._targets
        order = self._replay.windows(length, self.generator)
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=self.generator)]
            pool = (length[order].cumsum(0) - 1) // (_BATCHES_PER_POOL * self.targets_per_batch)
            order = order[(pool * (length.max() + 1) + length[order]).argsort(stable=True)]
        # a window belongs to the batch in which its last target is, counting targets in this order: the number of
        # batches does not depend on the order, and no batch is empty
        batch = ((length[order].cumsum(0) - 1) // self.targets_per_batch).clamp(max=self.sample_size - 1)
        return list(torch.split(order, batch.bincount(minlength=self.sample_size).tolist()))

    def collate_fn(self, index: list[int]) -> Interaction:
        """Return a batch of the epoch: users ``[B]``, items and next items ``[B, L]``, and lengths ``[B]``.

        Args:
            index: the batch's number, alone in a list.
        """
        windows = self._batches[index[0]]
        start, end = self.start[windows], self.end[windows]
        batch = self._dataset.histories(start, end)
        after_start = torch.minimum(start + 1, end)  # of an empty history, the target is the event at its end
        next_items = self._dataset.histories(after_start, end + 1)
        batch[self._dataset.uid_field] = self.user[windows]
        batch[self._dataset.next_item_list_field] = next_items[self._dataset.item_list_field]
        for field in self._context_fields:
            batch[f"next_{field}"] = next_items[field]
        if self._dataset.learned_shown is not None:
            batch[NEXT_SHOWN] = self._dataset.shown(after_start, end + 1)
        return self.transform(self._dataset, batch)

    def target_counts(self, batch: Interaction) -> Tensor:
        """Return the number of targets in each row of a batch, ``[B]``."""
        return batch[self._dataset.item_list_length_field]


def cut_windows(user: Tensor, target: Tensor, max_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut training targets into windows of consecutive events of one user.

    Args:
        user: the user of each target, ``[T]``.
        target: the index of each target in the event table, ``[T]``. The event before it has the same user.
        max_length: the most targets of a window.

    Returns:
        User, start and end of each window, ``[W]`` each. Inputs are the events from ``start`` up to but not including
        ``end``; targets are those events shifted by one.

    Example:
        >>> cut_windows(torch.tensor([7, 7, 7]), torch.tensor([1, 2, 3]), max_length=2)
        (tensor([7, 7]), tensor([1, 0]), tensor([3, 1]))
    """
    order = torch.argsort(target)
    user, target = user[order], target[order]
    is_edge = torch.ones(len(target) + 1, dtype=torch.bool)
    is_edge[1:-1] = (user[1:] != user[:-1]) | (target[1:] != target[:-1] + 1)
    edges = is_edge.nonzero().squeeze(1)
    first, last = edges[:-1], edges[1:]
    windows = -(-(last - first) // max_length)
    run = torch.repeat_interleave(torch.arange(len(windows)), windows)
    windows_after = torch.arange(len(run)) - torch.repeat_interleave(windows.cumsum(0) - windows, windows)
    end = last[run] - windows_after * max_length
    start = torch.maximum(first[run], end - max_length)
    return user[start], target[start] - 1, target[end - 1]
