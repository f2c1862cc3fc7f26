"""Reads features that were made elsewhere, in the layouts that people already have them in.

``.npy`` with ids beside it, ``.safetensors``, Parquet, RecBole's files for ``additional_feat_suffix`` and
``preload_weight``, MMRec's ``image_feat.npy`` with its map of ids, UniSRec's ``.feat1CLS`` with its ``.item2index``,
and Ducho's folders of one ``.npy`` an item. Rows are found by id, never by position alone, and no file is unpickled.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.pseudonyms import pseudonym

#: MMRec's maps of raw ids to row numbers, by kind
_MMREC_MAPS = {"item": "i_id_mapping.csv", "user": "u_id_mapping.csv"}
_IDS_SUFFIXES = (".ids.tsv", ".ids.csv", ".ids.txt", ".ids.json")
#: endings of files that only unpickling reads
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".joblib")

#: what a column of ids is called, beside the data set's own name for it
_ID_FIELDS = ("item_id", "user_id", "id", "token")

#: ids in the order of the rows, and the rows, ``[N, D]``
_Table = tuple[list[str], NDArray[Any]]


def read_features(
    path: Path, tokens: Sequence[str], kind: str, id_field: str, name_users: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Features of those ``tokens`` that the file has, each of shape ``[D]``.

    Args:
        path: a file whose ending says its layout, or a folder of ``.npy`` files.
        tokens: the data set's items or users.
        kind: item or user.
        id_field: what the data set calls the column of their ids.
        name_users: whether errors may name users by their ids.

    Raises:
        DataError: the file is missing or damaged, ids are missing, doubled or none of the data set's, the count or
            width is wrong, or rows hold NaN or Inf. It names them.
    """
    if not path.exists():
        raise DataError(f"features {path} do not exist; {kind}_…_features is relative to the data set's folder")
    readers: dict[str, Callable[[_Request], _Table]] = {
        ".npy": _read_npy,
        ".safetensors": _read_safetensors,
        ".parquet": _read_parquet,
        ".feat1CLS": _read_unisrec,
        ".feat2CLS": _read_unisrec,
        **dict.fromkeys(_PICKLES, _refuse_pickle),
    }
    request = _Request(path, tokens, kind, (id_field, *_ID_FIELDS), name_users)
    reader = _read_folder if path.is_dir() else readers.get(path.suffix, _read_atomic)
    try:
        ids, rows = reader(request)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"features {path} need a package that is missing: {error}") from error
    except Exception as error:  # each format has its own ways to be damaged
        raise DataError(f"features {path} cannot be read: {' '.join(str(error).split())}") from error
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind not in "fiu":
        raise DataError(f"features {path}: a table [rows, width] of numbers expected, not {rows.dtype} {rows.shape}")
    if len(ids) != len(rows):
        raise DataError(f"features {path}: {len(rows)} rows, but {len(ids)} ids")
    doubled = [token for token, count in Counter(ids).items() if count > 1]
    if doubled:
        raise DataError(f"features {path}: ids come twice: {request.some(doubled)}")
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    broken = [
        token
        for token, finite in zip(ids, np.isfinite(rows.sum(axis=1, dtype=np.float64)).tolist(), strict=True)
        if not finite
    ]
    if broken:
        raise DataError(f"features {path}: NaN, Inf or what float32 cannot hold in the rows of {request.some(broken)}")
    wanted = set(tokens)
    found = {token: row for token, row in zip(ids, rows, strict=True) if token in wanted}
    if not found:
        raise DataError(
            f"features {path}: none of their {len(ids)} ids ({request.some(ids)}) is one of the data set's {kind}s "
            f"({request.some(tokens)})"
        )
    return found


@dataclass(frozen=True)
class _Request:
    """What a reader of one layout needs to know."""

    path: Path
    tokens: Sequence[str]
    kind: str
    id_fields: Sequence[str]
    name_users: bool

    def some(self, ids: Sequence[str]) -> str:
        """The first few ids in words; users' only where these may be named."""
        return _some(ids if self.kind == "item" or self.name_users else [*map(pseudonym, ids)])


def _some(words: Sequence[str], at_most: int = 5) -> str:
    return ", ".join(map(repr, words[:at_most])) + (", …" if len(words) > at_most else "")


def _refuse_pickle(request: _Request) -> _Table:
    raise DataError(
        f"features {request.path} are a pickle, which could run any code as it is read: save them as .safetensors, or "
        "as .npy with ids beside it"
    )


def _read_npy(request: _Request) -> _Table:
    rows = np.load(request.path, allow_pickle=False)
    if not isinstance(rows, np.ndarray):
        raise DataError(f"features {request.path} are an archive of several tables (.npz); save the one as .npy")
    ids = _ids_beside(request)
    if ids is None:
        mapping = request.path.parent / _MMREC_MAPS[request.kind]
        if not mapping.is_file():
            raise DataError(
                f"features {request.path} have no ids: put them, one a line and in the order of the rows, into "
                f"{request.path.with_suffix(_IDS_SUFFIXES[0]).name} beside it, or MMRec's {mapping.name}"
            )
        ids = _mmrec_ids(mapping, request.tokens, len(rows))
    return ids, rows


def _ids_beside(request: _Request) -> list[str] | None:
    """Ids in the order of the rows, from a file with the features' name; None if there is none."""
    files = (request.path.with_suffix(suffix) for suffix in _IDS_SUFFIXES)
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return None
    if path.suffix == ".json":
        return _json_ids(path, path.read_text(encoding="utf-8-sig"))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            ids = [row[0] for row in csv.reader(file) if row]
    else:
        ids = [line.split("\t")[0] for line in _lines(path)]
    has_header = bool(ids) and ids[0].split(":")[0] in request.id_fields
    return ids[1:] if has_header else ids


def _lines(path: Path) -> list[str]:
    """Lines that are not empty. Only a line feed, or a carriage return before one, ends a line."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        return [line.removesuffix("\n").removesuffix("\r") for line in file if line.strip("\r\n")]


def _json_ids(path: Path, text: str) -> list[str]:
    ids = json.loads(text)
    if not isinstance(ids, list):
        raise DataError(f"{path}: ids have to be a JSON list in the order of the rows, not a {type(ids).__name__}")
    return [str(token) for token in ids]


def _mmrec_ids(path: Path, tokens: Sequence[str], count: int) -> list[str]:
    """Ids by row number: the raw ones or MMRec's numbers, whichever the data set's interactions use."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]  # raw id, number
    raw = {int(number): token for token, number in (row[:2] for row in rows)}
    if sorted(raw) != list(range(count)):
        raise DataError(f"{path} does not number its {len(raw)} ids from 0 to {count - 1}, as the features' rows are")
    by_raw = [raw[number] for number in range(count)]
    by_number = [str(number) for number in range(count)]
    known = set(tokens)
    found_by_raw, found_by_number = len(known.intersection(by_raw)), len(known.intersection(by_number))
    if found_by_raw == found_by_number > 0 and by_raw != by_number:
        raise DataError(
            f"{path}: {found_by_raw} of the data set's ids are raw ids of MMRec's, and as many are its row numbers, so "
            "that nothing tells which are meant; save the features with an .ids.tsv of their own"
        )
    return by_raw if found_by_raw > found_by_number else by_number


def _read_safetensors(request: _Request) -> _Table:
    """One tensor an id; or one tensor, with the ids as a JSON list in the metadata or in a file beside it."""
    from safetensors import safe_open

    with safe_open(request.path, framework="pt") as file:
        names, metadata = list(file.keys()), file.metadata() or {}
        tensors = {name: _as_array(file.get_tensor(name)) for name in names}
    if len(names) > 1:
        return names, _stacked(request, tensors)
    rows = tensors[names[0]]
    ids = _json_ids(request.path, metadata["ids"]) if "ids" in metadata else _ids_beside(request)
    if ids is None:
        raise DataError(f"features {request.path} have no ids: put a JSON list of them into its metadata, as 'ids'")
    return ids, rows


def _as_array(tensor: torch.Tensor) -> NDArray[Any]:
    # numpy has no bfloat16 and no numbers of 8 bits
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _read_parquet(request: _Request) -> _Table:
    """An id column, and either one column of lists or one column a dimension."""
    import pandas as pd

    frame = pd.read_parquet(request.path)
    column = next((name for name in request.id_fields if name in frame.columns), None)
    if column is None:
        columns = _some([str(name) for name in frame.columns])
        raise DataError(f"features {request.path} have no column {request.id_fields[0]}, but {columns}")
    if frame[column].isna().any() or frame[column].dtype.kind == "f":  # a column of numbers some of which are missing
        raise DataError(f"features {request.path}: {column} has rows without an id, or ids that are fractions")
    values = frame.drop(columns=column)
    ids = frame[column].astype(str).tolist()
    others = [str(name) for name in values.select_dtypes(exclude="number")]
    if values.shape[1] == 1 and others and not isinstance(values.iloc[0, 0], str):
        return ids, _stacked(request, dict(enumerate(map(np.asarray, values.iloc[:, 0]))))
    if others:
        raise DataError(
            f"features {request.path}: columns that hold no numbers: {_some(others)}; save it with {column} and either "
            "one column of lists or one column a dimension, and no others"
        )
    return ids, values.to_numpy()


def _read_atomic(request: _Request) -> _Table:
    """RecBole's layout for additional features: a token column and a float_seq column, which holds numbers by space."""
    header, *lines = _lines(request.path) or [""]
    types = [column.partition(":")[2] for column in header.split("\t")]
    if "token" not in types or "float_seq" not in types:
        raise DataError(
            f"features {request.path}: neither a known ending (.npy, .safetensors, .parquet, .feat1CLS, a folder) "
            "nor RecBole's header with a token and a float_seq column"
        )
    cells = [line.split("\t") for line in lines]
    uneven = [str(number) for number, row in enumerate(cells, start=1) if len(row) != len(types)]
    if uneven:
        raise DataError(
            f"features {request.path}: rows with another number of columns than the header: {_some(uneven)}"
        )
    id_column, row_column = types.index("token"), types.index("float_seq")
    rows = {number: np.array(line[row_column].split(), dtype=np.float64) for number, line in enumerate(cells)}
    return [line[id_column] for line in cells], _stacked(request, rows)


def _read_unisrec(request: _Request) -> _Table:
    """Float32 without a header: only the map of ids beside it says how many rows there are, and so their width."""
    path = request.path
    mapping = path.with_suffix(f".{request.kind}2index")
    if not mapping.is_file():
        raise DataError(f"features {path} have no header: {mapping.name} has to lie beside it and name the rows")
    lines = [line.split("\t") for line in _lines(mapping)]
    number_of = {token: int(number) for token, number in lines}
    if sorted(number_of.values()) != list(range(len(lines))):
        raise DataError(f"{mapping} does not number its {len(lines)} ids from 0 to {len(lines) - 1}")
    values = np.fromfile(path, dtype="<f4")
    if not values.size or values.size % len(lines) or path.stat().st_size % 4:
        raise DataError(f"features {path}: {path.stat().st_size} bytes are no table of {len(lines)} float32 rows")
    return sorted(number_of, key=number_of.__getitem__), values.reshape(len(lines), -1)


def _read_folder(request: _Request) -> _Table:
    """Ducho's layout: one ``.npy`` an item, named by it up to its first dot, so that two may collide."""
    path = request.path
    files = {file.stem: file for file in sorted(path.glob("*.npy"))}
    if not files:
        raise DataError(f"features {path}: the folder holds no .npy files")
    cut: dict[str, list[str]] = {}
    for token in request.tokens:
        if token not in files and (name := token.split(".")[0]) in files:
            cut.setdefault(name, []).append(token)
    known = set(request.tokens)
    for name, owners in cut.items():
        if len(owners) > 1 or name in known:
            some = request.some([*owners, *known.intersection([name])])
            shown = name if request.kind == "item" or request.name_users else pseudonym(name)
            raise DataError(
                f"features {path}: {shown}.npy stands for several {request.kind}s: {some}; rename the files"
            )
    rows = {}
    for name, file in files.items():
        row = np.load(file, allow_pickle=False)
        rows[cut.get(name, [name])[0]] = row.reshape(-1) if row.ndim == 2 and row.shape[0] == 1 else row
    return list(rows), _stacked(request, rows)


def _stacked(request: _Request, rows: Mapping[Any, NDArray[Any]]) -> NDArray[Any]:
    shapes = Counter(row.shape for row in rows.values())
    if len(shapes) > 1:
        usual = shapes.most_common(1)[0][0]
        odd = [str(name) for name, row in rows.items() if row.shape != usual]
        raise DataError(f"features {request.path}: rows of other shapes than {usual}: {request.some(odd)}")
    return np.stack(list(rows.values()))
