"""Reads precomputed features by item or user ID, from the formats in ``feature_formats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.feature_formats import FeatureFile, read_table
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import is_there, shown_path


def read_features(
    path: Path, tokens: Sequence[str], kind: str, id_field: str, name_users: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Read the features of those ``tokens`` that a file has.

    Args:
        path: a file whose suffix states its format, or a folder of ``.npy`` files.
        tokens: the data set's items or users.
        kind: item or user.
        id_field: the data set's name for the column of their IDs.
        name_users: whether messages may contain user IDs.

    Returns:
        Features by token, each ``[D]``.

    Raises:
        DataError: the file is missing or damaged; IDs are missing, duplicate or all unknown; the number of rows or
            columns is wrong; or a row has NaN or Inf. The message names the IDs.
    """
    if not is_there(path):
        raise DataError(
            f"features {shown_path(path)} do not exist; {kind}_…_features is relative to the data set's folder"
        )
    file = FeatureFile(path, tokens, kind, id_field, name_users)
    ids, rows = _read(file)
    _check_table(file, ids, rows)
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    _check_finite(file, ids, rows)
    requested = set(tokens)
    features = {token: row for token, row in zip(ids, rows, strict=True) if token in requested}
    if not features:
        raise DataError(
            f"features {path}: none of their {len(ids)} ids ({file.name_ids(ids)}) is one of the data set's {kind}s "
            f"({file.name_ids(tokens)})"
        )
    return features


def _read(file: FeatureFile) -> tuple[list[str], NDArray[Any]]:
    """Return the IDs and rows ``[N, D]`` of a file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return read_table(file)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"features {file.path} need a package that is missing: {error}") from error
    except Exception as error:  # each format raises other exceptions for damaged files
        raise DataError(f"features {file.path} cannot be read: {' '.join(str(error).split())}") from error


def _check_table(file: FeatureFile, ids: Sequence[str], rows: NDArray[Any]) -> None:
    """Check that there is a row of numbers for each ID, and one ID for each row.

    Raises:
        DataError: there is not.
    """
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind not in "fiu":
        raise DataError(
            f"features {file.path}: a table [rows, width] of numbers expected, not {rows.dtype} {rows.shape}"
        )
    if len(ids) != len(rows):
        raise DataError(f"features {file.path}: {len(rows)} rows, but {len(ids)} ids")
    duplicates = [token for token, count in Counter(ids).items() if count > 1]
    if duplicates:
        raise DataError(f"features {file.path}: duplicate ids: {file.name_ids(duplicates)}")


def _check_finite(file: FeatureFile, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
    """Check that all numbers are finite.

    Raises:
        DataError: a row has NaN or Inf.
    """
    is_finite = np.isfinite(rows.sum(axis=1, dtype=np.float64)).tolist()
    damaged = [token for token, finite in zip(ids, is_finite, strict=True) if not finite]
    if damaged:
        raise DataError(
            f"features {file.path}: NaN, Inf or numbers beyond float32 in the rows of {file.name_ids(damaged)}"
        )
