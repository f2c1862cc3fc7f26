"""The interaction files of a data set: one, or those of ``benchmark_filename``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, format_columns, read_atomic_file, read_header

if TYPE_CHECKING:
    import pandas as pd

#: items and times of a user's events, and what finds them
_History: TypeAlias = tuple[list[str], list[float]]
_HistoryOf: TypeAlias = Callable[[str], _History]
#: inode, size and time of change of a file
_Version: TypeAlias = "tuple[int, int, int] | None"
#: the parts of data that is split already: training, validation, test
_PARTS = 3


def interaction_files(config: Any) -> list[Path]:
    """Return the files of a data set's interactions, each once.

    Raises:
        SettingsError: ``benchmark_filename`` does not name the files of training, validation and test data.
    """
    folder, name, parts = Path(config["data_path"]), config["dataset"], config["benchmark_filename"]
    if parts is None:
        return [folder / f"{name}.inter"]
    if not isinstance(parts, list | tuple) or len(parts) != _PARTS or not all(map(_is_part_name, parts)):
        raise SettingsError(
            f"benchmark_filename={parts!r} has to name three parts, such as [train, valid, test] for "
            f"{name}.train.inter, {name}.valid.inter and {name}.test.inter"
        )
    return [folder / f"{name}.{part}.inter" for part in dict.fromkeys(parts)]


def _is_part_name(part: object) -> bool:
    return isinstance(part, str) and bool(part) and Path(part).name == part


def check_interaction_file(config: Any) -> None:
    """Check that the interaction files have the columns that every model of a comparison needs.

    Raises:
        DataError: a file does not exist, has an invalid header, or lacks the user, item or time column; or ``load_col``
            or ``unload_col`` leave one of them out.
        SettingsError: ``benchmark_filename`` does not name three parts.
    """
    files = interaction_files(config)
    headers = {path: _header(config, path) for path in files}
    for path, header in headers.items():
        kinds = {config["USER_ID_FIELD"]: "token", config["ITEM_ID_FIELD"]: "token"}
        if _has_lists(config, headers[files[0]]):
            kinds[list_field(config, config["ITEM_ID_FIELD"])] = "token_seq"
        elif _is_ordered_by_time(config):
            kinds[config["TIME_FIELD"]] = "float"
        _check_columns(config, path, header, kinds)


def _header(config: Any, path: Path) -> dict[str, str]:
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.inter") if other.is_file())
        name = others[0].removesuffix(".inter") if others else ""
        hint = (
            f"the folder has {others[0]}: files have the folder's name, so rename the folder to {name}, or the files"
            if others
            else f"llm-interest convert makes it of a table; or set --data_path to the folder that holds "
            f"{config['dataset']}/{path.name}"
        )
        raise DataError(f"data set {config['dataset']!r}: {path} does not exist: {hint}")
    return read_header(path, AtomicFormat.from_config(config))


def _check_columns(config: Any, path: Path, header: dict[str, str], kinds: dict[str, str]) -> None:
    for column, kind in kinds.items():
        if column not in header:
            raise DataError(
                f"{path} has no column {column!r}; it has {format_columns(header)}. Add it, or name the column of "
                "users, items or times by USER_ID_FIELD, ITEM_ID_FIELD or TIME_FIELD"
            )
        if header[column] != kind:
            raise DataError(f"{path}: {column!r} has type {header[column]} in the first line, but must be {kind}")
        if not is_loaded(config, "inter", column):
            raise DataError(f"load_col or unload_col leaves out {column!r} of {path}, which every model needs: load it")


def is_loaded(config: Any, suffix: str, column: str) -> bool:
    """Return whether ``load_col`` and ``unload_col`` make RecBole load a column of a data set's file.

    Args:
        config: RecBole's settings of the data set.
        suffix: of the file: ``inter``, ``item`` or ``user``.
        column: its name.

    Raises:
        SettingsError: one of the settings is no dictionary.
    """
    load, unload = config["load_col"], config["unload_col"] or {}
    if not isinstance(load, dict | None) or not isinstance(unload, dict):
        raise SettingsError(
            f"load_col={load!r} and unload_col={unload!r} have to be dictionaries, or ~ for all columns"
        )
    if column in (unload.get(suffix) or ()):
        return False
    return load is None or load.get(suffix, []) == "*" or column in (load.get(suffix) or ())


def list_field(config: Any, field: str) -> str:
    """Return the name of the column of a history's values of ``field``."""
    return f"{field}{config['LIST_SUFFIX']}"


def read_interaction_tokens(config: Any, kind: str) -> list[str]:
    """Read the tokens of all items or users in the interaction files.

    Raises:
        DataError: a file cannot be read or lacks a column.
        SettingsError: ``benchmark_filename`` does not name three parts.
    """
    field = config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"]
    tokens: dict[str, None] = {}
    for path in interaction_files(config):
        listed = list_field(config, field)
        columns = [field, *([listed] if kind == "item" and _has_lists(config, _header(config, path)) else [])]
        frame = _read_columns(config, path, columns)
        for column in columns:
            tokens.update(dict.fromkeys(map(str, _flat(frame[column]))))
    return list(tokens)


def _flat(values: pd.Series) -> Iterable[str]:
    """Return distinct tokens of a column of tokens or of lists of them."""
    return values.explode().dropna().unique() if values.dtype == object else values.unique()


class RecordedHistories:
    """Gives the events of users from the interaction files, in chronological order.

    The files are read and ordered by user at the first call, and again at a call after one of them has changed.

    Where rows list their histories, a user's events are those of the longest row of the last file that has the user.

    Args:
        config: RecBole's settings of the data set.

    Raises:
        DataError: at a call, a file cannot be read or lacks a column.
        SettingsError: at a call, ``benchmark_filename`` does not name three parts.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._cached: tuple[list[_Version], _HistoryOf] | None = None

    def __call__(self, users: Sequence[str]) -> list[_History]:
        """Give the histories of users.

        Args:
            users: user tokens. A user without events has an empty history.

        Returns:
            For each user, the item tokens and the timestamps in double precision, or NaN if the data set is not ordered
            by time, or has no times.
        """
        files = interaction_files(self._config)
        versions = [_version(path) for path in files]
        if self._cached is None or self._cached[0] != versions:
            self._cached = None  # the former events need not be in memory beside the new ones
            has_lists = _has_lists(self._config, _header(self._config, files[0]))
            self._cached = versions, (_listed_histories if has_lists else _plain_histories)(self._config, files)
        history_of = self._cached[1]
        return [history_of(user) for user in users]


def _version(path: Path) -> _Version:
    """What changes with the content of a file; None if there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _plain_histories(config: Any, files: Sequence[Path]) -> _HistoryOf:
    """Order the events by user and time; returns what finds those of a user."""
    import pandas as pd  # here because it takes half a second, which checks of headers should not wait for
    from pandas.api.types import union_categoricals

    fields = [config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME")]
    frames = [_read_columns(config, path, fields if _is_ordered_by_time(config) else fields[:2]) for path in files]
    users, items = (union_categoricals([frame[field].astype("category") for frame in frames]) for field in fields[:2])
    times = np.concatenate([frame.get(fields[2], pd.Series(np.nan, frame.index)).to_numpy(float) for frame in frames])
    order = np.lexsort((times, users.codes))
    codes, times = items.codes[order], times[order]
    start = np.searchsorted(users.codes[order], np.arange(len(users.categories) + 1))
    number_of = {str(user): number for number, user in enumerate(users.categories)}
    names = items.categories.to_numpy(object)

    def history_of(user: str) -> _History:
        if (number := number_of.get(user)) is None:
            return [], []
        events = slice(start[number], start[number + 1])
        return names[codes[events]].tolist(), times[events].tolist()

    return history_of


def _listed_histories(config: Any, files: Sequence[Path]) -> _HistoryOf:
    """Find the row of each user; returns what makes a history of it."""
    user_field, item_field, time_field = (config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME"))
    items_field, times_field = list_field(config, item_field), list_field(config, time_field)
    row_of: dict[str, tuple[pd.DataFrame, int]] = {}
    for path in files:
        has_times = {time_field, times_field} <= _header(config, path).keys()
        times = [time_field, times_field] if has_times else []
        frame = _read_columns(config, path, [user_field, item_field, items_field, *times])
        rows = np.argsort(frame[items_field].map(len).to_numpy(), kind="stable").tolist()
        row_of.update({str(user): (frame, row) for user, row in zip(frame[user_field].iloc[rows], rows, strict=True)})

    def history_of(user: str) -> _History:
        if user not in row_of:
            return [], []
        frame, number = row_of[user]
        row = frame.iloc[number]
        items = [*map(str, row[items_field]), row[item_field]]
        times = [*row[times_field], row[time_field]] if times_field in frame else [np.nan] * len(items)
        return items, [*map(float, times)]

    return history_of


def _has_lists(config: Any, header: dict[str, str]) -> bool:
    """Return whether rows with this header list their histories."""
    return config["benchmark_filename"] is not None and list_field(config, config["ITEM_ID_FIELD"]) in header


def _is_ordered_by_time(config: Any) -> bool:
    return config["eval_args"]["order"] == "TO"


def _read_columns(config: Any, path: Path, fields: Sequence[str]) -> pd.DataFrame:
    """Read columns of an interaction file as they are, before RecBole filters or splits them."""
    numbers = {config["TIME_FIELD"]: "float", list_field(config, config["TIME_FIELD"]): "float_seq"}
    kinds = numbers | {list_field(config, config["ITEM_ID_FIELD"]): "token_seq"}
    columns = {field: kinds.get(field, "token") for field in fields}
    ids = [field for field, kind in columns.items() if kind == "token"]
    layout = AtomicFormat.from_config(config)
    return read_atomic_file(path, layout, columns, ids=ids, strict=bool(config["strict_data"]))
