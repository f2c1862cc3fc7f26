"""The files of a data set's content: the catalogue of its items and users, and its feature cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llm_interest.content.catalogue import Catalogue, read_catalogue, read_column
from recbole_llm_interest.io.atomic_files import AtomicFormat
from recbole_llm_interest.io.manifest import Artifact, absolute, record_beside
from recbole_llm_interest.settings import ContentSettings


def feature_cache(config: Any, settings: ContentSettings) -> Path:
    """Return the folder of a data set's encoded features."""
    return Path(settings.feature_cache or Path(config["checkpoint_dir"]) / "features") / config["dataset"]


def record_features(config: Any, settings: ContentSettings) -> None:
    """Record the folder of a data set's encoded features before something is written to it."""
    cache, data_path = feature_cache(config, settings), Path(config["data_path"])
    folder = Artifact(absolute(cache), "features", config["dataset"], absolute(data_path))
    record_beside([Path(config["checkpoint_dir"]), cache.parent], [folder])


def catalogue_from_config(config: Any, kind: str, settings: ContentSettings) -> Catalogue:
    """Read the content of all items or users.

    Args:
        config: RecBole's settings of the data set.
        kind: ``item`` or ``user``.
        settings: which columns become text, and how.

    Raises:
        DataError: a file cannot be read, or lacks a column that the settings name.
        SettingsError: the text template is invalid.
    """
    return read_catalogue(
        Path(config["data_path"]),
        config["dataset"],
        kind,
        _id_field(config, kind),
        text_fields=getattr(settings, f"{kind}_text_fields"),
        text_template=getattr(settings, f"{kind}_text_template"),
        layout=AtomicFormat.from_config(config),
        strict=bool(config["strict_data"]),
    )


def read_item_column(config: Any, column: str) -> dict[str, list[str]]:
    """Read the values of one column by item token. A list or a sequence has several values.

    Raises:
        DataError: the file cannot be read or lacks the column.
    """
    return read_column(
        Path(config["data_path"]),
        config["dataset"],
        "item",
        config["ITEM_ID_FIELD"],
        column,
        layout=AtomicFormat.from_config(config),
        strict=bool(config["strict_data"]),
    )


def _id_field(config: Any, kind: str) -> str:
    return config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"]
