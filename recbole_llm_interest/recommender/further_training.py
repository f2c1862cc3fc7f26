"""Trains a checkpoint further, on its data set with more events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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


def train_further(
    checkpoint: Path, events: Iterable[Mapping[str, Any]], folder: Path, settings: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Start a training from a checkpoint, on its data set with more events. Interrupted, the same call goes on.

    Training ends where the last fifth of the new events begins, whose first half chooses the epoch and whose second
    half tests it. The next further training learns these, too.

    Args:
        checkpoint: to start from.
        events: by the columns of the data set's interaction file.
        folder: gets the grown data set, the checkpoint and a table.
        settings: those that differ from the checkpoint's training, ``epochs=5`` and ``replay=1``.

    Returns:
        The new checkpoint, and ``data_path`` of the grown data set.

    Raises:
        LLMInterestError: an event or a setting cannot be used, or the training fails.
    """
    given = dict(settings)
    saved, config = read_configuration(checkpoint, given)
    data_path = absolute(folder) / "data"
    count, added = write_grown_data(config, events, data_path)
    moments = [round(1 - share * added / count, 9) for share in (_VALIDATION + _TEST, _TEST)]
    content = read_settings(ContentSettings, config)
    learned = {
        **settings_of_training(checkpoint, saved, {}),
        **{"checkpoint_dir": str(folder / "saved"), "feature_cache": str(absolute(feature_cache(config, content)))},
        **{**DEFAULTS, "time_split": moments, "seed": saved["config"]["settings"]["seed"]},
        **given,
        **{"data_path": str(data_path), "init_from": str(checkpoint)},
    }
    made = compare(config["dataset"], "LLMInterest", table=folder / "runs", **learned)
    return Path(made.checkpoint("LLMInterest")), data_path
