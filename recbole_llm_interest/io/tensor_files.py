"""Reads the tensors and the metadata of safetensors files that may be hostile."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import torch
from safetensors.torch import load
from torch import Tensor

from recbole_llm_interest.io.array_files import parse_by

#: supported types of tensors, by their names in a file
DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}


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
    return TensorFile(*parse_by(load, data, dtypes))
