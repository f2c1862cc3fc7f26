"""The files of a data set: its interactions as recorded, the catalogue of its content, and its feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from recbole.config import Config

from recbole_llm_interest.content.catalogue import Catalogue, read_catalogue, read_column
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, format_columns, read_atomic_file, read_header
from recbole_llm_interest.io.manifest import Artifact, absolute, record_beside
from recbole_llm_interest.settings import ContentSettings


def feature_cache(config: Config, settings: ContentSettings) -> Path:
    """Return the folder of a data set's encoded features."""
    return Path(settings.feature_cache or Path(config["checkpoint_dir"]) / "features") / config["dataset"]


def record_features(config: Config, settings: ContentSettings) -> None:
    """Record the folder of a data set's encoded features before something is written to it."""
    cache, data_path = feature_cache(config, settings), Path(config["data_path"])
    folder = Artifact(absolute(cache), "features", config["dataset"], absolute(data_path))
    record_beside([Path(config["checkpoint_dir"]), cache.parent], [folder])


def catalogue_from_config(config: Config, kind: str, settings: ContentSettings) -> Catalogue:
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


def read_item_column(config: Config, column: str) -> dict[str, list[str]]:
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


def read_interaction_tokens(config: Config, kind: str) -> list[str]:
    """Read the tokens of all items or users in the interaction file.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    field = _id_field(config, kind)
    return list(_read_interactions(config, [field])[field].unique())


def read_histories(config: Config, users: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    """Read the events of users from the interaction file, in chronological order.

    Args:
        config: RecBole's settings of the data set.
        users: user tokens. A user without events has an empty history.

    Returns:
        For each user, the item tokens and the timestamps in double precision, or NaN if the data set is not ordered by
        time.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    user_field, item_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
    time_fields = [config["TIME_FIELD"]] if _is_ordered_by_time(config) else []
    events = _read_interactions(config, [user_field, item_field, *time_fields])
    events = events[events[user_field].isin(users)]
    times = events[time_fields[0]].astype(float) if time_fields else pd.Series(np.nan, events.index)
    times = times.sort_values(kind="stable")
    events = events.loc[times.index]
    rows_of_users = {user: rows.index for user, rows in events.groupby(user_field, sort=False)}
    no_rows = times.index[:0]
    return [
        (list(events[item_field][rows]), list(times[rows]))
        for rows in (rows_of_users.get(user, no_rows) for user in users)
    ]


def check_interaction_file(config: Config) -> None:
    """Check that the interaction file has the columns that every model of a comparison needs.

    Raises:
        DataError: the file does not exist, has an invalid header, or lacks the user, item or time column.
    """
    name, parts = config["dataset"], config["benchmark_filename"]
    kinds = {config["USER_ID_FIELD"]: "token", config["ITEM_ID_FIELD"]: "token"}
    if _is_ordered_by_time(config):
        kinds[config["TIME_FIELD"]] = "float"
    for file in [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]:
        path = Path(config["data_path"]) / file
        if not path.is_file():
            raise DataError(f"data set {name!r}: {path} does not exist")
        header = read_header(path, AtomicFormat.from_config(config))
        for column, kind in kinds.items():
            if column not in header:
                raise DataError(
                    f"{path} has no column {column!r}; it has {format_columns(header)}. Add it, or name the column of "
                    "users, items or times by USER_ID_FIELD, ITEM_ID_FIELD or TIME_FIELD"
                )
            if header[column] != kind:
                raise DataError(f"{path}: {column!r} has type {header[column]} in the first line, but must be {kind}")


def _id_field(config: Config, kind: str) -> str:
    return config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"]


def _is_ordered_by_time(config: Config) -> bool:
    return config["eval_args"]["order"] == "TO"


def _read_interactions(config: Config, fields: list[str]) -> pd.DataFrame:
    """Read columns of the interaction file as they are, before RecBole filters or splits them."""
    path = Path(config["data_path"]) / f"{config['dataset']}.inter"
    kinds = {field: "float" if field == config["TIME_FIELD"] else "token" for field in fields}
    ids = [field for field, kind in kinds.items() if kind == "token"]
    return read_atomic_file(path, AtomicFormat.from_config(config), kinds, ids=ids, strict=bool(config["strict_data"]))
