"""Reads the arrays of safetensors files that may be hostile, without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, TypeVar

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from recbole_llm_interest.io.opening import parse_json

_LENGTH_BYTES = 8
#: exceptions of safetensors, numpy and torch for a damaged file
_DAMAGES = (SafetensorError, AssertionError, OverflowError, RuntimeError, TypeError, KeyError)

_Array = TypeVar("_Array")


def parse_arrays(data: bytes, dtypes: Set[str]) -> dict[str, NDArray[Any]]:
    """Parse the arrays of a safetensors file. The memory that it allocates is proportional to their number of bytes.

    Args:
        data: the file's bytes.
        dtypes: names of the types that arrays may have, such as ``F32``; not ``BF16``, which numpy lacks.

    Raises:
        ValueError: it is not a safetensors file, is damaged, or has an array of another type.

    Example:
        >>> import numpy as np
        >>> from safetensors.numpy import save
        >>> parse_arrays(save({"length": np.array([2], dtype=np.int32)}), {"I32"})
        {'length': array([2], dtype=int32)}
    """
    arrays, _ = parse_by(load, data, dtypes)
    return arrays


def parse_by(
    load: Callable[[bytes], dict[str, _Array]], data: bytes, dtypes: Set[str]
) -> tuple[dict[str, _Array], dict[str, str]]:
    """Parse a safetensors file by a loader of safetensors, after its header is checked.

    Args:
        load: returns the arrays, or the tensors of a framework, by name.
        data: the file's bytes.
        dtypes: names of the types that arrays may have.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        ValueError: it is not a safetensors file, is damaged, or has an array of another type.
    """
    header = _parse_header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("is damaged: its metadata are not strings")
    for name, described in header.items():
        dtype = described.get("dtype") if isinstance(described, dict) else None
        if dtype not in dtypes:
            raise ValueError(f"has the tensor {name[:80]!r} of type {str(dtype)[:20]!r}")
    try:
        arrays: dict[str, Any] = load(data)
    except _DAMAGES as error:
        raise ValueError(f"is damaged: {str(error)[:200]}") from error
    for name, values in arrays.items():
        if max(values.shape, default=0) > len(data):  # possible only for a tensor without elements
            raise ValueError(f"has the tensor {name[:80]!r} of shape {list(values.shape)}")
    return arrays, metadata


def _parse_header(data: bytes) -> dict[str, object]:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > len(data) - _LENGTH_BYTES:
        raise ValueError("is not a safetensors file, or is incomplete")
    try:
        header = parse_json(data[_LENGTH_BYTES : _LENGTH_BYTES + length].decode())
    except ValueError as error:
        raise ValueError("is not a safetensors file: it has no header") from error
    if not isinstance(header, dict):
        raise ValueError("is not a safetensors file: it has no header")  # noqa: TRY004  (damage, whatever its type)
    return header
