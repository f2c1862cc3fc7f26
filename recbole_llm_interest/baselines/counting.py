"""What all baselines share: they count training events once, have no weights, and rank every item."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

Counts = TypeVar("Counts")
#: rows that are scored together, which bounds the memory of intermediate matrices
_ROWS = 1024


class Events(Protocol):
    """Training events in chronological order, one sequence after the other, as ``data.training_events`` has them."""

    @property
    def items(self) -> NDArray[np.int64]:
        """Of the events, ``[T]``."""

    @property
    def users(self) -> NDArray[np.int64]:
        """Likewise."""

    @property
    def times(self) -> NDArray[np.float64] | None:
        """Likewise; None if they are unknown."""

    @property
    def sequences(self) -> NDArray[np.int64]:
        """The number of the sequence that each event belongs to, ``[T]``."""


class CountingModel(SequentialRecommender, Generic[Counts]):
    """A sequential model that counts training events and has no weights.

    A baseline defines ``count``, which is called once, and ``score``. A checkpoint holds no counts: they are counted
    again from the data.

    Args:
        config: RecBole's configuration.
        dataset: the training split, with ``training_events()``.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.events: Events = dataset.training_events()
        draw = torch.Generator().manual_seed(config["seed"])
        #: below every score, in random order: equal scores would rank unscored items by their number in the file
        self.register_buffer("unscored", torch.rand(self.n_items, generator=draw) - 1, persistent=False)

    def count(self, events: Events) -> Counts:
        """Count training events.

        Args:
            events: all of them.
        """
        raise NotImplementedError

    def score(self, interaction: Interaction) -> Tensor:
        """Score all items, ``[B, N]``: 0 for those that the model says nothing about, else more.

        Args:
            interaction: histories and users.
        """
        raise NotImplementedError

    @cached_property
    def counts(self) -> Counts:
        """What was counted; the first use counts."""
        return self.count(self.events)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Score all items, ``[B, N]``. Items that ``score`` says nothing about come last, in an order by ``seed``."""
        parts = [interaction[first : first + _ROWS] for first in range(0, len(interaction), _ROWS)]
        scores = torch.cat([self.score(part) for part in parts])
        return torch.where(scores > 0, scores, self.unscored.to(scores))

    def predict(self, interaction: Interaction) -> Tensor:
        """Score the item of each row, ``[B]``."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)

    def histories(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return the items of histories and how many events ago each one was, ``[B, L]``: 0 for the latest event.

        Padding has item 0 and a negative number.
        """
        item_seq, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        return item_seq, length[:, None] - 1 - torch.arange(item_seq.shape[1], device=length.device)
