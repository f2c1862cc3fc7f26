"""Which windows of histories an epoch has when a training goes on from a trained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from recbole.config import Config
from torch import Tensor

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import WarmStartSettings, read_settings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearnedBefore:
    """What the model has learned that a training starts from.

    Attributes:
        until: time of its newest training event; None if it is unknown.
        items: ids of its items.

    Example:
        >>> LearnedBefore(1.7e9, ["i1", "i2"]).until
        1700000000.0
    """

    until: float | None
    items: Sequence[str] = field(repr=False)  # logs print the settings, which this becomes one of


@dataclass(frozen=True)
class Replay:
    """Which windows an epoch has: all, or those with new targets and a sample of the others.

    Attributes:
        new: the windows that every epoch has, ``[W]``.
        former: those of which each epoch draws some, ``[V]``.
        drawn: number of targets that it draws.
        targets: number of targets of an epoch; the last window that is drawn may have some more.
    """

    new: Tensor
    former: Tensor
    drawn: int
    targets: int

    @classmethod
    def of_config(cls, config: Config, dataset: Any, ends: Tensor, targets: Tensor) -> Self:
        """Return it by the settings: of other windows, ``replay`` targets for each new one.

        Args:
            config: RecBole's settings, with ``learned_before``.
            dataset: the training data.
            ends: last target of each window, ``[W]``.
            targets: number of targets of each window, ``[W]``.

        Raises:
            DataError: no training event is new, or events have no times.
        """
        every = torch.arange(len(ends))
        settings, before = read_settings(WarmStartSettings, config), config["learned_before"]
        if settings.replay is None or before is None:
            return cls(every, every[:0], 0, int(targets.sum()))
        is_new_event = _of_new_items(dataset, before) if settings.replay_by == "items" else _newer(dataset, before)
        until = torch.cat([torch.zeros(1, dtype=torch.long), is_new_event.cumsum(dim=0)])  # new ones before each event
        new_targets = until[ends + 1] - until[ends + 1 - targets]
        is_new = new_targets > 0
        count = int(new_targets.sum())
        if not count:
            what = "of an item that init_from does not have" if settings.replay_by == "items" else "newer than those"
            raise DataError(
                f"replay: no training event is {what} that init_from was trained on: set replay=~ to train on all of "
                "them"
            )
        drawn = min(round(settings.replay * count), int(targets[~is_new].sum()))
        _logger.info("replay: %s of %s training targets are new", f"{count:,}", f"{int(targets.sum()):,}")
        return cls(every[is_new], every[~is_new], drawn, int(targets[is_new].sum()) + drawn)

    def windows(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Return the windows of an epoch, ``[W']``, of all those with ``targets``, ``[W]``."""
        if not self.drawn:
            return self.new
        former = self.former[torch.randperm(len(self.former), generator=generator)]
        before = targets[former].cumsum(0) - targets[former]
        return torch.cat([self.new, former[before < self.drawn]])


def _newer(dataset: Any, before: LearnedBefore) -> Tensor:
    """Whether each event is later than what was learned, ``[E]``."""
    if dataset.event_times is None:
        raise DataError("replay needs the times of events: the data set has none")
    return dataset.event_times > before.until


def _of_new_items(dataset: Any, before: LearnedBefore) -> Tensor:
    """Whether each event is of an item that was not known, ``[E]``."""
    known = {*before.items}
    is_new = [str(token) not in known for token in dataset.field2id_token[dataset.iid_field]]
    return torch.tensor(is_new)[dataset.event_items]
