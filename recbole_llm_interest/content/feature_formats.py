"""Formats of precomputed features, in a registry by file suffix.

``.npy`` with IDs in a file beside it, ``.safetensors``, Parquet, RecBole's files for ``additional_feat_suffix`` and
``preload_weight``, MMRec's ``image_feat.npy`` with its ID mapping, UniSRec's ``.feat1CLS`` with its ``.item2index``,
and Ducho's folders with one ``.npy`` file per item. Rows are identified by ID, not by position, and no file is
unpickled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.content.feature_ids import (
    IDS,
    IDS_SUFFIXES,
    parse_json_ids,
    read_full_lines,
    read_ids_file,
    read_mmrec_mapping,
)
from recbole_llm_interest.content.summary import first_words
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import MEMORY_BYTES, FileKind, is_there, open_regular
from recbole_llm_interest.io.pseudonyms import pseudonym
from recbole_llm_interest.settings import Registry

#: MMRec's files that map raw ids to row numbers, by kind
_MMREC_MAPPINGS = {"item": "i_id_mapping.csv", "user": "u_id_mapping.csv"}
#: bytes of a value of a table in memory, about
_VALUE_BYTES = 8
_PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".joblib")
#: names of the ID column, beside the data set's own
_ID_FIELDS = ("item_id", "user_id", "id", "token")
_FEATURES = FileKind("features", DataError, MEMORY_BYTES, "save them again, or name another file")

#: IDs, and their rows, ``[N, D]``
FeatureTable = tuple[list[str], NDArray[Any]]


@dataclass(frozen=True)
class FeatureFile:
    """A file of precomputed features, and what its reader needs to know.

    Attributes:
        path: of the file or folder.
        tokens: the data set's items or users.
        kind: item or user.
        id_field: the data set's name for the column of their IDs.
        name_users: whether messages may contain user IDs.
    """

    path: Path
    tokens: Sequence[str]
    kind: str
    id_field: str
    name_users: bool

    @property
    def id_fields(self) -> tuple[str, ...]:
        """Possible names of the ID column; the data set's own comes first."""
        return (self.id_field, *_ID_FIELDS)

    def name_ids(self, ids: Sequence[str]) -> str:
        """Return the first IDs for a message; pseudonyms of users if their IDs must not be shown."""
        return _quote(ids if self.kind == "item" or self.name_users else [*map(pseudonym, ids)])


#: readers by file suffix, and of folders; any other suffix may be a RecBole file
FORMATS: Registry[Callable[[FeatureFile], FeatureTable]] = Registry("format of features")
_FOLDER = "folder"


def read_table(file: FeatureFile) -> FeatureTable:
    """Read a file with the reader of its format.

    Returns:
        The IDs, and their rows, ``[N, D]``.

    Raises:
        DataError: the file is not in its format. Readers raise other exceptions for damaged files.
    """
    name = _FOLDER if file.path.is_dir() else file.path.suffix
    return FORMATS[name](file) if name in FORMATS else read_recbole(file)


def _quote(words: Sequence[str]) -> str:
    return first_words([*map(repr, words)])


def _reject_pickle(file: FeatureFile) -> FeatureTable:
    raise DataError(
        f"features {file.path} are a pickle, which could run any code when it is read: save them as .safetensors, or "
        "as .npy with ids in a file beside it"
    )


for _suffix in _PICKLE_SUFFIXES:
    FORMATS.register(_suffix)(_reject_pickle)


@FORMATS.register(".npy")
def read_npy(file: FeatureFile) -> FeatureTable:
    """Read an array, ``[N, D]``, with the IDs in a file beside it or in MMRec's mapping.

    Raises:
        DataError: there are no IDs, or the file is an archive.
    """
    with open_regular(file.path, _FEATURES) as opened:
        rows = np.load(opened, allow_pickle=False)
    if not isinstance(rows, np.ndarray):
        raise DataError(f"features {file.path} are an archive of several tables (.npz); save one of them as .npy")
    ids = read_ids_file(file.path, file.id_fields)
    if ids is not None:
        return ids, rows
    mapping = file.path.parent / _MMREC_MAPPINGS[file.kind]
    if not is_there(mapping):
        raise DataError(
            f"features {file.path} have no ids: put them, one per line and in the order of the rows, into "
            f"{file.path.with_suffix(IDS_SUFFIXES[0]).name} beside it, or MMRec's {mapping.name}"
        )
    return read_mmrec_mapping(mapping, file.tokens, len(rows)), rows


@FORMATS.register(".safetensors")
def read_safetensors(file: FeatureFile) -> FeatureTable:
    """Read one tensor, ``[D]``, per ID; or one tensor, ``[N, D]``, with IDs in the metadata or in a file beside it.

    Raises:
        DataError: there are no IDs, or rows have different shapes.
    """
    from safetensors import safe_open

    with open_regular(file.path, _FEATURES) as named, safe_open(f"/dev/fd/{named.fileno()}", framework="pt") as opened:
        names, metadata = list(opened.keys()), opened.metadata() or {}
        tensors = {name: _as_array(opened.get_tensor(name)) for name in names}
    if len(names) > 1:
        return names, _stack(file, tensors)
    rows = tensors[names[0]]
    ids = parse_json_ids(file.path, metadata["ids"]) if "ids" in metadata else read_ids_file(file.path, file.id_fields)
    if ids is None:
        raise DataError(f"features {file.path} have no ids: put a JSON list of them into its metadata, as 'ids'")
    return ids, rows


def _as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return an array of the same shape; numpy has no bfloat16 and no 8-bit floating point."""
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


@FORMATS.register(".parquet")
def read_parquet(file: FeatureFile) -> FeatureTable:
    """Read an ID column and either one column of lists or one column per dimension.

    Raises:
        DataError: the ID column is missing or incomplete, or other columns have no numbers.
    """
    import pandas as pd

    with open_regular(file.path, _FEATURES) as opened:
        _check_parquet_size(opened)
        frame = pd.read_parquet(opened)
    column = _id_column(file, [*map(str, frame.columns)])
    if frame[column].isna().any() or frame[column].dtype.kind == "f":  # a column of integers with missing ones
        raise DataError(f"features {file.path}: {column} has rows without an id, or ids that are fractions")
    ids, values = frame[column].astype(str).tolist(), frame.drop(columns=column)
    others = [str(name) for name in values.select_dtypes(exclude="number")]
    if not others:
        return ids, values.to_numpy()
    if values.shape[1] == 1 and not isinstance(values.iloc[0, 0], str):
        return ids, _stack(file, dict(enumerate(map(np.asarray, values.iloc[:, 0]))))
    raise DataError(
        f"features {file.path}: columns that hold no numbers: {_quote(others)}; save it with {column} and either "
        "one column of lists or one column per dimension, and no others"
    )


def _check_parquet_size(opened: BinaryIO) -> None:
    """Check the number of values: a few bytes of Parquet can state billions.

    Raises:
        ValueError: they exceed this machine's memory.
    """
    from pyarrow.parquet import ParquetFile

    metadata = ParquetFile(opened).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    count = sum(group.column(number).num_values for group in groups for number in range(group.num_columns))
    if count * _VALUE_BYTES > MEMORY_BYTES:
        raise ValueError(f"it states {count:,} values, more than this machine's memory holds")
    opened.seek(0)


def _id_column(file: FeatureFile, columns: Sequence[str]) -> str:
    for name in file.id_fields:
        if name in columns:
            return name
    raise DataError(f"features {file.path} have no column {file.id_field}, but {_quote(columns)}")


def read_recbole(file: FeatureFile) -> FeatureTable:
    """Read RecBole's format of additional features: a token column and a float_seq column of numbers.

    Raises:
        DataError: the header is another one, or a row does not match it.
    """
    header, *lines = read_full_lines(file.path, _FEATURES) or [""]
    types = [column.partition(":")[2] for column in header.split("\t")]
    if "token" not in types or "float_seq" not in types:
        raise DataError(
            f"features {file.path}: neither a known suffix (.npy, .safetensors, .parquet, .feat1CLS, a folder) "
            "nor RecBole's header with a token and a float_seq column"
        )
    cells = [line.split("\t") for line in lines]
    _check_column_count(file, cells, len(types))
    id_column, row_column = types.index("token"), types.index("float_seq")
    rows = [np.array(row[row_column].split(), dtype=np.float64) for row in cells]
    return [row[id_column] for row in cells], _stack(file, dict(enumerate(rows)))


def _check_column_count(file: FeatureFile, cells: Sequence[Sequence[str]], count: int) -> None:
    uneven = [str(number) for number, row in enumerate(cells, start=1) if len(row) != count]
    if uneven:
        raise DataError(f"features {file.path}: rows with another number of columns than the header: {_quote(uneven)}")


@FORMATS.register(".feat1CLS")
@FORMATS.register(".feat2CLS")
def read_unisrec(file: FeatureFile) -> FeatureTable:
    """Read float32 numbers without a header; the width follows from the number of rows in the ID mapping beside it.

    Raises:
        DataError: the mapping is missing or does not number the rows, or the size of the file does not fit it.
    """
    path = file.path
    mapping = path.with_suffix(f".{file.kind}2index")
    if not is_there(mapping):
        raise DataError(f"features {path} have no header: {mapping.name} has to be beside it and number the rows")
    lines = [line.split("\t") for line in read_full_lines(mapping, IDS)]
    number_of = {token: int(number) for token, number in lines}
    if sorted(number_of.values()) != list(range(len(lines))):
        raise DataError(f"{mapping} does not number its {len(lines)} ids from 0 to {len(lines) - 1}")
    with open_regular(path, _FEATURES) as opened:
        size = os.fstat(opened.fileno()).st_size
        values = np.fromfile(opened, dtype="<f4")
    if not values.size or values.size % len(lines) or size % 4:
        raise DataError(f"features {path}: {size} bytes are no table of {len(lines)} float32 rows")
    return sorted(number_of, key=number_of.__getitem__), values.reshape(len(lines), -1)


@FORMATS.register(_FOLDER)
def read_folder(file: FeatureFile) -> FeatureTable:
    """Read Ducho's format: a folder with one ``.npy`` file per ID, named by the ID up to its first dot.

    Raises:
        DataError: there are no files, a file's name fits several IDs, or rows have different shapes.
    """
    files = {path.stem: path for path in sorted(file.path.glob("*.npy"))}
    if not files:
        raise DataError(f"features {file.path}: the folder holds no .npy files")
    ids = _ids_by_file_name(file, files)
    rows = {}
    for name, path in files.items():
        with open_regular(path, _FEATURES) as opened:
            row = np.load(opened, allow_pickle=False)
        rows[ids.get(name, name)] = row.reshape(-1) if row.ndim == 2 and row.shape[0] == 1 else row
    return list(rows), _stack(file, rows)


def _ids_by_file_name(file: FeatureFile, names: Mapping[str, Path]) -> dict[str, str]:
    """Return the IDs whose file is named by the part before their first dot, by that name.

    Raises:
        DataError: a name fits several IDs.
    """
    candidates: dict[str, list[str]] = {}
    for token in file.tokens:
        if token not in names and (name := token.split(".")[0]) in names:
            candidates.setdefault(name, []).append(token)
    known = set(file.tokens)
    for name, tokens in candidates.items():
        if len(tokens) > 1 or name in known:
            shown = name if file.kind == "item" or file.name_users else pseudonym(name)
            ids = file.name_ids([*tokens, *known.intersection([name])])
            raise DataError(
                f"features {file.path}: {shown}.npy stands for several {file.kind}s: {ids}; rename the files"
            )
    return {name: tokens[0] for name, tokens in candidates.items()}


def _stack(file: FeatureFile, rows: Mapping[Any, NDArray[Any]]) -> NDArray[Any]:
    """Stack rows of shape ``[D]`` into a table, ``[N, D]``.

    Raises:
        DataError: they have different shapes.
    """
    shapes = Counter(row.shape for row in rows.values())
    if len(shapes) > 1:
        usual = shapes.most_common(1)[0][0]
        others = [str(name) for name, row in rows.items() if row.shape != usual]
        raise DataError(f"features {file.path}: rows of other shapes than {usual}: {file.name_ids(others)}")
    return np.stack(list(rows.values()))
