"""Reads the tensors and the metadata of safetensors files that may be hostile."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from recbole_llm_interest.io.opening import parse_json

#: supported types of tensors, by their names in a file
DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}
_LENGTH_BYTES = 8
#: exceptions of safetensors and torch for a damaged file
_DAMAGES = (SafetensorError, AssertionError, OverflowError, RuntimeError, TypeError, KeyError)


class TensorFile(NamedTuple):
    """The content of a safetensors file.

    Attributes:
        tensors: by name.
        metadata: strings that were saved with the tensors.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def parse_tensors(data: bytes, dtypes: Set[str] = frozenset(DTYPES)) -> TensorFile:
    """Parse the bytes of a safetensors file. The memory that it allocates is proportional to their number.

    Args:
        data: the file's bytes.
        dtypes: names of the types that tensors may have.

    Raises:
        ValueError: it is not a safetensors file, is damaged, or has a tensor of another type.

    Example:
        >>> from safetensors.torch import save
        >>> parse_tensors(save({"length": torch.tensor([2])}, {"made": "here"}))
        TensorFile(tensors={'length': tensor([2])}, metadata={'made': 'here'})
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
        tensors = load(data)
    except _DAMAGES as error:
        raise ValueError(f"is damaged: {str(error)[:200]}") from error
    for name, values in tensors.items():
        if max(values.shape, default=0) > len(data):  # possible only for a tensor without elements
            raise ValueError(f"has the tensor {name[:80]!r} of shape {list(values.shape)}")
    return TensorFile(tensors, metadata)


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
