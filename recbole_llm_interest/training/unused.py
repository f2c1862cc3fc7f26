"""Says what a run is given and does not use: settings that RecBole takes without a word, and columns of its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.data.unread_columns import warn_of_unread_columns

_logger = logging.getLogger(__name__)
#: settings that RecBole overwrites, and what decides them instead
_COMPUTED = {
    "device": "gpu_id and use_gpu decide it",
    "single_spec": "--nproc decides it",
    "MODEL_TYPE": "the model decides it",
    "MODEL_INPUT_TYPE": "the model decides it",
    "eval_type": "metrics decide it",
    "valid_metric_bigger": "valid_metric decides it",
}
#: settings that select interactions, which others' splits are not subject to
_FILTERS = (
    "rm_dup_inter",
    "val_interval",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
)
#: the data set that RecBole reads from its own folder, wherever ``data_path`` leads
_BUNDLED = "ml-100k"


def warn_of_unused(configs: Sequence[Config]) -> None:
    """Log the settings that were given to these runs and have no effect, and the columns that none of them reads.

    Args:
        configs: of runs on one data set.
    """
    warn_of_unread_columns(configs)
    given = {key: value for config in configs for key, value in config.external_config_dict.items()}
    reasons = _COMPUTED | _reasons_of_data(configs[0])
    for key in reasons.keys() & given.keys():
        _logger.warning("the setting %s has no effect: %s", key, reasons[key])


def _reasons_of_data(config: Config) -> dict[str, str]:
    """Return the settings that have no effect on the data set of a run, and why."""
    if config["benchmark_filename"] is not None:
        return dict.fromkeys(_FILTERS, "benchmark_filename takes the files as they are")
    folder = config.external_config_dict.get("data_path")
    if config["dataset"] == _BUNDLED and folder and (Path(folder) / _BUNDLED).is_dir():
        return {"data_path": f"RecBole reads its own {_BUNDLED}: give the folder's data another name"}
    return {}
