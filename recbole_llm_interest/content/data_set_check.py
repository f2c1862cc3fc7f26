"""Checks that a data set is there and has the columns that every model needs, without reading its events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llm_interest.content.interaction_files import check_interaction_file
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.opening import is_folder, name_fault
from recbole_llm_interest.settings import data_set_error

#: settings that name columns, and settings that name folders
_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
_PATHS = ("data_path", "checkpoint_dir", "feature_cache")


def check_data_set(config: Any) -> None:
    """Check the folder of a data set and the headers of its interaction files.

    Args:
        config: RecBole's settings of the data set.

    Raises:
        DataError: the folder or a file does not exist, or a file lacks the user, item or time column.
        SettingsError: a setting is no name of a column, of a folder, or of a part of the data.
    """
    for key in _COLUMNS:
        if not isinstance(config[key], str | None):
            raise SettingsError(f"{key}={config[key]!r:.80} is not the name of a column")
    for key in _PATHS:
        if config[key] is not None and (fault := name_fault(config[key])):
            raise SettingsError(f"{key}={str(config[key])[:80]!r} {fault}: give the name of a folder")
    if not is_folder(Path(config["data_path"])):
        raise data_set_error(config["dataset"], Path(config["data_path"]))
    check_interaction_file(config)
