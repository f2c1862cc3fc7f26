"""What is known at the time of the event that is predicted: for baselines that read the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.baselines.counting import CountingModel, Events
from recbole_llm_interest.content.event_times import time_unit
from recbole_llm_interest.errors import DataError

#: a day in the units of ``time_unit``
_DAY = {"s": 86_400, "ms": 86_400_000}


@dataclass(frozen=True)
class TimedEvents:
    """Training events of all users.

    Attributes:
        items: of the events, ``[T]``, in chronological order.
        times: likewise.
    """

    items: Tensor
    times: Tensor


class TimedModel(CountingModel[TimedEvents]):
    """A baseline that uses the training events before the time of the event that is predicted, and no later ones.

    Args:
        config: RecBole's configuration.
        dataset: the training split, with ``training_events()`` and ``event_times``.

    Attributes:
        day: a day in the unit of the data set's times.

    Raises:
        DataError: the data set's times are unknown, or not of one clock.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.day = length_of_day(dataset.event_times, config)
        self.event_times: Tensor = dataset.event_times
        self._own_event = dataset.end_field

    def count(self, events: Events) -> TimedEvents:
        """Sort the training events of all users by time."""
        times = np.asarray(events.times)
        order = np.argsort(times, kind="stable")
        return TimedEvents(torch.from_numpy(events.items[order]), torch.from_numpy(times[order]))

    def predicted_times(self, interaction: Interaction) -> Tensor:
        """Return the time of the event that each row predicts, ``[B]``, or the end of training if that is earlier.

        In a split by time, the tested events may follow training by more than a window of days.
        """
        last = self.counts.times[-1]
        after_training = torch.nextafter(last, last + 1)
        return self.event_times[interaction[self._own_event].cpu()].clamp(max=after_training)


def length_of_day(times: Tensor | None, config: Config) -> int:
    """Return a day in the unit of the data set's times.

    Args:
        times: of all events, ``[E]``; None if they are unknown.
        config: RecBole's configuration, for the message.

    Raises:
        DataError: the times are unknown, or not of one clock.
    """
    unit = None if times is None else time_unit(float(times.min()))
    if unit is None:
        raise DataError(
            f"{config['model']} needs the clock, and the times of {config['dataset']!r} are positions or of another "
            "scale than seconds or milliseconds since 1970: leave the model out"
        )
    return _DAY[unit]
