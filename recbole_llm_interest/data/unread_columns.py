"""Columns of a data set's files that no model of a comparison reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS
from recbole_llm_interest.content.content_files import ContentFiles
from recbole_llm_interest.content.event_catalogue import named_event_columns
from recbole_llm_interest.content.interaction_files import interaction_files, is_loaded, list_field
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_header
from recbole_llm_interest.settings import ContentSettings, read_settings

_logger = logging.getLogger(__name__)
_FILE_NAME = "_file_name"


def warn_of_unread_columns(configs: Sequence[Config]) -> None:
    """Log, in one line, the columns that none of these runs reads, with what to do about each file.

    What a setting leaves out by name is a choice and is not logged; nor are ratings and labels, which many data sets
    have and few models read. Content is looked at only if a run has settings of content.

    Args:
        configs: of runs on one data set; the data of all of them has the same layout.

    Raises:
        DataError: a file has no valid header.
    """
    unread = _unread_events(configs)
    for config in [config for config in configs if config["modalities"] is not None][:1]:
        unread |= _unread_content(configs, config)
    files: dict[tuple[str, str], list[str]] = {}
    for (name, advice), columns in unread.items():
        if columns:
            files.setdefault((", ".join(columns), advice), []).append(name)
    parts = [f"{columns} of {', '.join(names)} ({advice})" for (columns, advice), names in files.items()]
    if parts:
        _logger.warning("no model reads the columns %s", "; ".join(parts))


def _unread_events(configs: Sequence[Config]) -> dict[tuple[str, str], list[str]]:
    """Return unread columns of the interaction files, by the file's name and advice."""
    config = configs[0]
    if {"load_col", "unload_col"} & {*config.external_config_dict}:
        return {}
    advice = (
        "event_text_fields reads texts of events; texts about items belong in the .item file or content/items.jsonl; "
        "load_col loads columns for RecBole"
    )
    usual = [config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME", "RATING", "LABEL")]
    of_content = [column for one in configs for column in named_event_columns(read_settings(ContentSettings, one))]
    known = {*usual, *(list_field(config, field) for field in usual), *of_content}
    return {
        (path.name, advice): _not_loaded(
            configs, "inter", [name for name in _header(config, path) if name not in known]
        )
        for path in interaction_files(config)
    }


def _unread_content(configs: Sequence[Config], config: Config) -> dict[tuple[str, str], list[str]]:
    """Return unread columns of content, by the file's name and advice."""
    unread: dict[tuple[str, str], list[str]] = {}
    for kind, id_field in (("item", config["ITEM_ID_FIELD"]), ("user", config["USER_ID_FIELD"])):
        layout = AtomicFormat.from_config(config)
        files = ContentFiles(Path(config["data_path"]), config["dataset"], kind, id_field, layout, False)
        if files.path == files.jsonl and files.atomic.is_file():
            replaced = [name for name in _header(config, files.atomic) if name != id_field]
            advice = f"{files.jsonl.name} takes precedence: move them there, or name them in load_col for RecBole"
            unread[files.atomic.name, advice] = _not_loaded(configs, kind, replaced)
        if files.path is not None and "modalities" not in config.external_config_dict:
            unread[files.path.name, "modalities names those that are read"] = _unread_media(files, config)
    return unread


def _unread_media(files: ContentFiles, config: Config) -> list[str]:
    """Return the columns of files that belong to no modality in use; of JSON lines, those of the first row."""
    columns = next(files.rows(), {}) if files.path == files.jsonl else _header(config, files.atomic)
    read = [column for modality, column in MEDIA_COLUMNS.items() if modality in config["modalities"]]
    return [column for column in columns if column.endswith(_FILE_NAME) and column not in read]


def _header(config: Config, path: Path) -> list[str]:
    return list(read_header(path, AtomicFormat.from_config(config)))


def _not_loaded(configs: Sequence[Config], suffix: str, columns: Sequence[str]) -> list[str]:
    """Return the columns that RecBole loads for none of the runs."""
    return [column for column in columns if not any(is_loaded(config, suffix, column) for config in configs)]
