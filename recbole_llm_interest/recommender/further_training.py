"""Trains a checkpoint further, on its data set with more events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm_interest.content.dataset_files import feature_cache
from recbole_llm_interest.io.manifest import absolute
from recbole_llm_interest.recommender.grown_data import write_grown_data
from recbole_llm_interest.recommender.loading import read_configuration, settings_of_training
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.training.comparison import compare

#: of further training, where nothing else is given
DEFAULTS = {"epochs": 5, "replay": 1.0}
#: of the new events, those that are not trained on yet: they choose the epoch, and test it
_VALIDATION = _TEST = 0.1


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

    Training ends where the last fifth of the new events begins, whose first half chooses the epoch and whose second
    half tests it. The next further training learns these, too.

    Args:
        checkpoint: to start from.
        events: by the columns of the data set's interaction file.
        folder: gets the grown data set, the checkpoint and a table.
        settings: those that differ from the checkpoint's training, ``epochs=5`` and ``replay=1``.

    Raises:
        LLMInterestError: an event or a setting cannot be used, or the training fails.
    """
    given, folder = dict(settings), absolute(folder)
    saved, config = read_configuration(checkpoint, given)
    count, added = write_grown_data(config, events, folder / "data")
    moments = [round(1 - share * added / count, 9) for share in (_VALIDATION + _TEST, _TEST)]
    features = feature_cache(config, read_settings(ContentSettings, config)).parent
    places = {"data_path": str(folder / "data"), "feature_cache": str(absolute(features))}
    learned = {
        **settings_of_training(checkpoint, saved, {}),
        **{**DEFAULTS, "time_split": moments, "checkpoint_dir": str(folder / "saved")},
        **{**given, **places, "init_from": str(checkpoint)},
    }
    made = compare(config["dataset"], "LLMInterest", table=folder / "runs", **learned)
    return FurtherTraining(str(absolute(Path(made.checkpoint("LLMInterest")))), places)
