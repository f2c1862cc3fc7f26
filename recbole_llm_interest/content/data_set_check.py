"""Checks that a data set is there and has the columns that every model needs, without reading its events."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.interaction_files import check_interaction_file, interaction_files
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_header, read_rows
from recbole_llm_interest.io.opening import is_folder, name_fault
from recbole_llm_interest.settings import data_set_error

#: settings that name columns, and settings that name folders
_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
_PATHS = ("data_path", "checkpoint_dir", "feature_cache")
#: rows whose times are looked at
_FIRST_ROWS = 3


def check_data_set(config: Any) -> None:
    """Check the folder of a data set and the headers of its interaction files.

    Args:
        config: RecBole's settings of the data set.

    Raises:
        DataError: the folder or a file does not exist, a file lacks the user, item or time column, or times are dates.
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
    for path in interaction_files(config):
        _check_times(config, path)


def _check_times(config: Any, path: Path) -> None:
    """Check that the first times are not dates: such rows would all be skipped as rows without a number."""
    layout, field = AtomicFormat.from_config(config), config["TIME_FIELD"]
    columns = list(read_header(path, layout))
    if field not in columns:
        return
    rows = [row for row in islice(read_rows(path, layout), _FIRST_ROWS) if len(row) == len(columns)]
    times = [row[columns.index(field)] for row in rows]
    if times and all(map(_is_date, times)):
        raise DataError(
            f"{path}: {field!r} has dates, such as {times[0][:40]!r}, and times are numbers, such as seconds since "
            "1970: llm-interest convert makes a data set of a table with dates"
        )


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return re.fullmatch(r"\d{5,}", text.strip()) is None  # 20140101 is a date, and a number, too
