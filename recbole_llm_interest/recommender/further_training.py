"""Trains a checkpoint further, on its data set with more events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_llm_interest.content.dataset_files import feature_cache
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.io.manifest import absolute
from recbole_llm_interest.recommender.grown_data import write_grown_data
from recbole_llm_interest.recommender.loading import read_configuration, settings_of_training
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.training.comparison import compare

#: of further training, where nothing else is given
DEFAULTS = {"epochs": 5, "replay": 1.0, "replay_by": "time", "init_anew": (), "init_conditioning": "source"}
#: of the new events, those before validation, and those before the test
_TRAINED, _BEFORE_TEST = 0.8, 0.9


class FurtherTraining(NamedTuple):
    """What a further training made.

    Attributes:
        checkpoint: of the new model.
        places: settings that say where its data are: ``data_path`` and ``feature_cache``.

    Example:
        >>> made = FurtherTraining("more/saved/LLMInterest.safetensors", {"data_path": "more/data"})
        >>> Recommender.load(made.checkpoint, **made.places)  # doctest: +SKIP
    """

    checkpoint: str
    places: dict[str, str]


def train_further(
    checkpoint: Path, events: Iterable[Mapping[str, Any]], folder: Path, settings: Mapping[str, Any]
) -> FurtherTraining:
    """Start a training from a checkpoint, on its data set with more events. Interrupted, the same call goes on.

    Training ends where about the last fifth of the new events begins, whose first half chooses the epoch and whose
    second half tests it. The next further training learns these, too.

    Args:
        checkpoint: to start from.
        events: by the columns of the data set's interaction file.
        folder: gets the grown data set, the checkpoint and a table.
        settings: those that differ from the checkpoint's training, ``epochs=5`` and ``replay=1``.

    Raises:
        LLMInterestError: an event or a setting cannot be used, or the training fails.
    """
    given, folder, rows = dict(settings), absolute(folder), list(events)
    saved, config = read_configuration(checkpoint, given)
    with shared_data_set_lock(Path(config["data_path"])):
        count = write_grown_data(config, rows, folder / "data")
    features = feature_cache(config, read_settings(ContentSettings, config)).parent
    places = {"data_path": str(folder / "data"), "feature_cache": str(absolute(features))}
    moments = split_moments(count, [float(row[config["TIME_FIELD"]]) for row in rows])
    learned = {
        **settings_of_training(checkpoint, saved, given),
        **{**DEFAULTS, "time_split": moments, "checkpoint_dir": str(folder / "saved")},
        **{**given, **places, "init_from": str(checkpoint)},
    }
    made = compare(config["dataset"], "LLMInterest", table=folder / "runs", **learned)
    return FurtherTraining(str(absolute(Path(made.checkpoint("LLMInterest")))), places)


def split_moments(count: int, times: Sequence[float]) -> list[float]:
    """Where validation and test begin, as quantiles of the times of all events.

    Args:
        count: of all events.
        times: of the new ones, which are the latest.

    Raises:
        DataError: they have fewer than three different times.

    Example:
        >>> split_moments(101, [1, 1, 1, 1, 2, 2, 2, 3, 4, 5])
        [0.985, 0.995]
    """
    distinct = np.unique(times)
    if len(distinct) < 3:
        raise DataError(f"the new events have {len(distinct)} different times: it takes three to split them")
    wished = np.searchsorted(distinct, np.quantile(times, [_TRAINED, _BEFORE_TEST], method="higher"))
    first = int(np.clip(wished[0], 1, len(distinct) - 2))
    second = int(np.clip(wished[1], first + 1, len(distinct) - 1))
    before = [count - len(times) + int(np.sum(np.array(times) < distinct[place])) for place in (first, second)]
    return [round((number - 0.5) / (count - 1), 12) for number in before]  # between two events
