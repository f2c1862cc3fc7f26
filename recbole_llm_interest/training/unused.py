"""Warns of unused input: settings that RecBole accepts but ignores, and columns that no model reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.data.unread_columns import warn_of_unread_columns
from recbole_llm_interest.io.config_files import DEFAULT_DATASET
from recbole_llm_interest.settings.peers import PEER_SETTING, PEERS
from recbole_llm_interest.settings.readers import unread_settings

_logger = logging.getLogger(__name__)
#: settings that RecBole overwrites, and what determines them instead
_COMPUTED = {
    "device": "gpu_id and use_gpu determine it",
    "single_spec": "--nproc determines it",
    "MODEL_TYPE": "the model determines it",
    "MODEL_INPUT_TYPE": "the model determines it",
    "eval_type": "metrics determine it",
    "valid_metric_bigger": "valid_metric determines it",
}
#: settings that filter interactions, but not published splits
_FILTERS = (
    "rm_dup_inter",
    "val_interval",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
)


def warn_of_unused(configs: Sequence[Config]) -> None:
    """Log settings of these runs that have no effect, and columns that none of the runs reads.

    Args:
        configs: of runs on one data set.
    """
    warn_of_unread_columns(configs)
    given = {key: value for config in configs for key, value in config.external_config_dict.items()}
    runs = [(config["model"], config.external_config_dict) for config in configs]
    reasons = unread_settings(runs) | _COMPUTED | _reasons_of_data(configs[0])
    if not any(config["model"] in PEERS for config in configs):
        reasons |= {key: "no model of RecTools is run" for key in given if key.startswith(PEER_SETTING)}
    _warn({key: reasons[key] for key in given if key in reasons})


def _warn(reasons: Mapping[str, str]) -> None:
    """Log one line for each reason, with all settings that it applies to."""
    by_reason: dict[str, list[str]] = {}
    for key in reasons:
        by_reason.setdefault(reasons[key], []).append(key)
    for reason, keys in by_reason.items():
        form = "the setting %s has no effect: %s" if len(keys) == 1 else "the settings %s have no effect: %s"
        _logger.warning(form, ", ".join(sorted(keys)), reason)


def _reasons_of_data(config: Config) -> dict[str, str]:
    """Return settings that have no effect on the data set of a run, with the reasons."""
    if config["benchmark_filename"] is not None:
        return dict.fromkeys(_FILTERS, "files of benchmark_filename are not filtered")
    folder = config.external_config_dict.get("data_path")
    if config["dataset"] == DEFAULT_DATASET and folder and (Path(folder) / DEFAULT_DATASET).is_dir():
        return {"data_path": f"RecBole reads its own {DEFAULT_DATASET}: give the folder's data another name"}
    return {}
